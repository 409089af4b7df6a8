"""``python -m repro``: the command line."""

import signal
import sys

from repro import Ended
from repro.cli import main


def _end(number, frame):
    raise Ended(128 + number)  # and clean up


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
