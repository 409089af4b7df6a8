"""``python -m repro``: the command line, and ``train`` for notebooks."""

import sys

from repro import lab
from repro.face.cli import main


def __getattr__(name: str):
    if name == "train":  # imported when a notebook asks for it, since help needs no torch
        return lab.run.train
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


if __name__ == "__main__":
    sys.exit(main())
