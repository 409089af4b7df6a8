"""``python -m repro``: the command line, and ``train`` for notebooks."""

import signal
import sys

from repro import Ended
from repro.cli import main


def __getattr__(name: str):
    if name == "train":  # imported when a notebook asks for it, since help needs no torch
        from repro.training.run import train

        return train
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def _end(number, frame):
    raise Ended(128 + number)  # and clean up


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
