"""What a record's provenance may hold: types, lengths and formats.

A record may come from anybody. Its provenance is shown in pages, tables and the PDF, so that its
words must be plain: no markup, and nothing that Markdown, HTML or LaTeX would read as a command.
"""

import datetime
import math
import re
from collections.abc import Callable

from repro.records.provenance import CHANGES

FILES = ("config.json", "curve.csv", "metrics.json", "reconstructions.npz")  # in every record
WEIGHTS = "model.safetensors"
GRADIENTS = "gradients.csv"
IMAGES = "images.npz"
OWN_BOUND = "bound.py"  # the file of a bound that is not the project's
FILES_OF_RECORDS = (*FILES, WEIGHTS, GRADIENTS, IMAGES, OWN_BOUND)
MOST_SAMPLES = 10**8

Holds = Callable[[object], bool]


def matching(pattern: str) -> Holds:
    """A check that is true of text that matches all of a pattern."""
    whole = re.compile(pattern)
    return lambda value: isinstance(value, str) and whole.fullmatch(value) is not None


is_plain = matching(r"[\w .,:;'()@/+=×-]{0,200}")  # short, and without markup
is_hash = matching(r"[0-9a-f]{64}")  # SHA-256
is_code = matching(rf"(unknown|[0-9a-f]{{6,40}})({re.escape(CHANGES)})?")


def is_commit(value: object) -> bool:
    """True of a commit's digits, ``unknown``, or None."""
    return value is None or is_code(value)


def is_date(value: object) -> bool:
    """True of a day as 2026-01-31, and of a time as 2026-01-31T12:34:56Z."""
    try:
        return isinstance(value, str) and bool(datetime.datetime.fromisoformat(value))
    except ValueError:
        return False


def is_count(value: object) -> bool:
    """True of a whole number from 1 on, within reason."""
    return type(value) is int and 0 < value <= MOST_SAMPLES


def is_duration(value: object) -> bool:
    """True of a number of seconds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def mapping(of_values: Holds, names: Holds = is_plain) -> Holds:
    """A check that is true of a dictionary whose names and values pass theirs."""

    def holds(value: object) -> bool:
        if not isinstance(value, dict):
            return False
        return all(names(name) and of_values(content) for name, content in value.items())

    return holds


def series(of_values: Holds) -> Holds:
    """A check that is true of a list whose values all pass ``of_values``."""
    return lambda value: isinstance(value, list) and all(map(of_values, value))


FIELDS: dict[str, Holds] = {
    "commit": is_commit,
    "dirty": lambda value: value in (True, False, None),
    "versions": mapping(is_plain),
    "device": is_plain,
    "seconds": mapping(is_duration),
    "date": is_date,
    "data": mapping(is_plain),
    "log_px_samples": is_count,
    "files": mapping(is_hash, names=lambda name: name in FILES_OF_RECORDS),
}
OPTIONAL: dict[str, Holds] = {
    "commit_from": is_plain,
    "trained_by": series(is_commit),
    "engines": series(is_plain),
    "precision": is_plain,
    "evaluated_on": is_plain,
    "binarisations": is_count,
    "weights": mapping(is_plain),
}


def fault_of_provenance(provenance: object) -> str:
    """What is wrong with a provenance, or an empty string."""
    if not isinstance(provenance, dict):
        return "provenance.json is not a list of fields"
    for field in FIELDS:
        if field not in provenance:
            return f"no {field}"
    known = FIELDS | OPTIONAL
    for field, content in provenance.items():
        if field not in known:
            return "provenance.json has a field that is not known"
        if not known[field](content):
            return f"{field} in provenance.json is not as it should be"
    return ""
