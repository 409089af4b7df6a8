"""A reproduction of "Tighter Variational Bounds are Not Necessarily Better" (Rainforth et al., ICML 2018)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__version__ = "0.1.0"


class ReproError(Exception):
    """A problem the user can mend: one line that says what was wrong and what to do."""


def one_of(what: str, value: object, known: Iterable[str]) -> str:
    """``value`` where it is one of ``known``; else a ReproError with the nearest name."""
    known = list(known)
    if value in known:
        return str(value)
    close = difflib.get_close_matches(str(value), known, n=1)
    raise ReproError(f"unknown {what} '{value}'; " + (f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"))
