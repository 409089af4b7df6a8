"""Training, from experiments to records: the step, the loop, and one process for each run."""

import importlib

__all__ = [
    "as_released", "bundles", "costs", "engines", "forecast", "leases", "loop", "program",
    "progress", "released_files", "run",
]  # fmt: skip


def __getattr__(name: str):
    """Import a module when it is first asked for, since most import torch."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
