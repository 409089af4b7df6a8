"""What trains and measures. It knows nothing of tables, figures or prose.

``datasets`` and ``randomness`` feed ``models``; ``program`` advances stacked runs by one step and
``training`` by many; ``evaluation`` measures a trained model, ``snr`` its gradients; ``run`` puts
them together and writes records, ``leases`` keep two processes from one run, and ``sweep`` packs
many runs into jobs. ``machine`` tries all of it where it is to run. A module is imported when it is
first asked for, ``lab.run``, since most import torch.
"""

import importlib

__all__ = [
    "beta_criterion", "datasets", "engines", "evaluation", "groups", "leases", "likelihood",
    "machine", "models", "pictures", "program", "progress", "randomness", "released_files",
    "released_training", "run", "snr", "sweep", "training",
]  # fmt: skip


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"repro.lab.{name}")
    raise AttributeError(f"module 'repro.lab' has no attribute '{name}'")
