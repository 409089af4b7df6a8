"""What trains and measures. It knows nothing of tables, figures or prose.

``datasets`` and ``randomness`` feed ``models``; ``program`` advances stacked runs by one step and
``training`` by many; ``evaluation`` measures a trained model, ``snr`` its gradients; ``run`` puts
them together and writes records, ``leases`` keep two processes from one run, and ``sweep`` packs
many runs into jobs. ``machine`` tries all of it where it is to run.
"""

__all__ = [
    "beta_criterion", "datasets", "engines", "evaluation", "groups", "leases", "likelihood",
    "machine", "models", "pictures", "program", "progress", "randomness", "released_files",
    "released_training", "run", "snr", "sweep", "training",
]  # fmt: skip
