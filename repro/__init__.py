"""A reproduction of "Tighter Variational Bounds are Not Necessarily Better".

The paper is by Rainforth et al., ICML 2018. The files beside this one are a library of models,
bounds and scores, which knows no experiment, record or report. ``words`` turn what a user says into
experiments, ``training`` makes ``records`` of them, ``ops`` looks after machines and many runs, and
``studies`` measure, show and judge. ``from repro import tables, figures, audit`` finds those
studies.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

__version__ = "0.1.0"
__all__ = [
    "Ended", "ReproError", "__version__", "as_path", "first_line", "in_short", "one_of",
    "open_streams", "plural",
]  # fmt: skip

# Studies that notebooks import from here
_STUDIES = ("audit", "figures", "similarity", "tables")
_VERBS = {"cotangents": "estimators", "load_model": "training.networks"} | dict.fromkeys(
    ("ais", "backward", "from_distributions", "log_px", "snr"), "own_models"
)


def __getattr__(name: str):
    """Import a study or a verb when it is first asked for: who needs no torch waits for none."""
    if name in _STUDIES:
        return importlib.import_module(f"repro.studies.{name}")
    if name in _VERBS:
        return getattr(importlib.import_module(f"repro.{_VERBS[name]}"), name)
    raise AttributeError(f"module 'repro' has no attribute '{name}'")


class ReproError(Exception):
    """An error that the user can mend: its message, one line, says what is wrong and what to do."""

    def __str__(self) -> str:
        """The message, with what would break its line, or cannot be printed, escaped."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback: IPython asks for it by this name."""
        return [f"repro: {self}"]


class Ended(SystemExit):
    """What a signal from outside raises; code of a user's own raises no such thing."""


def one_of(what: str, value: object, known: Iterable[str], also: str = "") -> str:
    """Return ``value`` if it is one of ``known``; otherwise raise with the nearest name.

    ``also`` says in the error what else may be given.

    >>> one_of("method", "iwae", ["iwae", "vae"])
    'iwae'
    >>> one_of("method", "iwea", ["iwae", "vae"])
    Traceback (most recent call last):
    repro.ReproError: unknown method 'iwea'; did you mean 'iwae'?
    """
    known = list(known)
    if value in known:
        return str(value)
    in_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(value).lower(), in_lower_case, n=1)
    near = [in_lower_case[name] for name in close]
    there = ", ".join([*known, f"or {also}"] if also else known) or "none"
    advice = f"did you mean '{near[0]}'?" if near else f"there are {there}"
    raise ReproError(f"unknown {what} '{value}'; {advice}")


def as_path(what: str, given: object) -> Path:
    """Return the path ``given``, with ~ expanded; ReproError if it is empty or can be none."""
    if not isinstance(given, str | Path):
        raise ReproError(f"{what} is {str(given)[:40]}; give the name of a folder as text")
    if not str(given).strip():
        raise ReproError(f"{what} is empty; name a folder, or leave it out")
    path = Path(os.path.expanduser(given))  # which leaves ~ if there is no such user
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise ReproError(f"{what} '{str(given)[:40]}' can be no folder: {error}") from None
    return path


def open_streams() -> None:
    """Put nothing in the place of standard streams that were closed, before a file gets there.

    What a terminal cannot show is replaced.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def first_line(error: BaseException) -> str:
    """The first line of an error's message; nothing if it has none, or one that cannot be made."""
    try:
        said = str(error)
    except Exception:
        return ""
    return next(iter(said.strip().splitlines()), "")[:200]


def in_short(error: BaseException) -> str:
    """An error's name and the first line of its message: ``ValueError: too many``."""
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 seed``, ``2 seeds``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
