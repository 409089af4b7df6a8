"""``python -m repro``: the command line, and ``train`` for notebooks."""

import sys

from repro.face.cli import main
from repro.lab.run import train

__all__ = ["main", "train"]

if __name__ == "__main__":
    sys.exit(main())
