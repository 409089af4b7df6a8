"""The provenance of a record: its fields, and their types, lengths and formats.

A record may come from anybody, and its provenance is shown in pages, tables and the PDF. So its
words must be plain: no markup, and nothing that Markdown, HTML or LaTeX would read as a command.
"""

import datetime
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated

from repro.records.provenance import CHANGES, code_of

FILES = ("config.json", "curve.csv", "metrics.json", "reconstructions.npz")  # in every record
WEIGHTS = "model.safetensors"
GRADIENTS = "gradients.csv"
IMAGES = "images.npz"
OWN_BOUND = "bound.py"  # the file of a bound that is not the project's
OWN_MODEL = "model.py"  # the file of a model that is not the project's
FILES_OF_RECORDS = (*FILES, WEIGHTS, GRADIENTS, IMAGES, OWN_BOUND, OWN_MODEL)
MOST_SAMPLES = 10**8

Holds = Callable[[object], bool]


def matching(pattern: str) -> Holds:
    """Make a check that returns True for text all of which matches ``pattern``."""
    whole = re.compile(pattern)
    return lambda value: isinstance(value, str) and whole.fullmatch(value) is not None


is_plain = matching(r"[\w .,:;'()@/+=×-]{0,200}")  # short, and without markup
is_hash = matching(r"[0-9a-f]{64}")  # SHA-256
is_code = matching(rf"(unknown|[0-9a-f]{{6,40}})({re.escape(CHANGES)})?")


def is_commit(value: object) -> bool:
    """True if ``value`` is a commit's hash, ``unknown``, or None."""
    return value is None or is_code(value)


def is_flag(value: object) -> bool:
    """True if ``value`` is True, False or None."""
    return value is None or isinstance(value, bool)


def is_date(value: object) -> bool:
    """True if ``value`` is a date as 2026-01-31 or a time as 2026-01-31T12:34:56Z."""
    try:
        return isinstance(value, str) and bool(datetime.datetime.fromisoformat(value))
    except ValueError:
        return False


def is_count(value: object) -> bool:
    """True if ``value`` is an integer from 1 to ``MOST_SAMPLES``."""
    return type(value) is int and 0 < value <= MOST_SAMPLES


def is_number(value: object) -> bool:
    """True if ``value`` is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_duration(value: object) -> bool:
    """True if ``value`` is a finite number of seconds, 0 or more."""
    return is_number(value) and value >= 0


def mapping(of_values: Holds, names: Holds = is_plain, required: Sequence[str] = ()) -> Holds:
    """Make a check that returns True for a dictionary whose keys and values pass their checks.

    The ``required`` keys are among them.
    """

    def holds(value: object) -> bool:
        if not isinstance(value, dict) or not {*required} <= {*value}:
            return False
        return all(names(name) and of_values(content) for name, content in value.items())

    return holds


def series(of_values: Holds) -> Holds:
    """Make a check that returns True for a list whose values all pass ``of_values``."""
    return lambda value: isinstance(value, list) and all(map(of_values, value))


def are_metrics(value: object) -> bool:
    """True if ``value`` holds metrics by name: numbers, of which only the value may be negative."""
    of_each = mapping(is_number, required=("value", "se"))
    if not mapping(of_each)(value):
        return False
    errors = [{**metric, "value": 0} for metric in value.values()]
    of_pictures = [metric for name, metric in value.items() if name.startswith("ssim")]
    return all(map(mapping(is_duration), errors)) and all("sd" in metric for metric in of_pictures)


hashes_of_files = mapping(is_hash, names=FILES_OF_RECORDS.__contains__)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of a record: the fields of ``provenance.json``, which leaves out those that are None.

    ``files`` holds the SHA-256 of the record's other files, known when they are written.
    """

    commit: Annotated[str | None, is_commit]
    dirty: Annotated[bool | None, is_flag]
    commit_from: Annotated[str | None, is_plain] = None
    versions: Annotated[dict[str, str], mapping(is_plain)]
    date: Annotated[str, is_date]
    trained_by: Annotated[list[str] | None, series(is_commit)] = None
    engines: Annotated[list[str] | None, series(is_plain)] = None
    precision: Annotated[str | None, is_plain] = None
    device: Annotated[str, is_plain]
    evaluated_on: Annotated[str | None, is_plain] = None
    data: Annotated[dict[str, str], mapping(is_plain, required=("name", "variant", "sha256"))]
    log_px_samples: Annotated[int, is_count]
    seconds: Annotated[dict[str, float], mapping(is_duration, required=("evaluation",))]
    binarisations: Annotated[int | None, is_count] = None
    weights: Annotated[dict[str, str] | None, mapping(is_plain)] = None
    files: Annotated[dict[str, str], hashes_of_files] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        """Commits of the code that wrote the record, and of the code that trained."""
        return [code_of(self.commit, self.dirty), *(self.trained_by or [])]

    def as_dict(self) -> dict:
        """Make the content of ``provenance.json``."""
        names = [f.name for f in fields(self)]
        if self.weights:  # the order in which the records of the report's weights are committed
            names.remove("precision")
            names.insert(names.index("seconds"), "precision")
        needed = ("commit", "dirty")
        facts = {name: getattr(self, name) for name in names}
        return {n: value for n, value in facts.items() if value is not None or n in needed}


def fault_of_provenance(content: object) -> str:
    """Describe the first fault in the content of ``provenance.json``; empty if there is none."""
    if not isinstance(content, dict):
        return "provenance.json is not a list of fields"
    known = {f.name: f for f in fields(Provenance)}
    for name, fact in known.items():
        if fact.default is not None and name not in content:
            return f"no {name}"
    for name, value in content.items():
        if name not in known:
            return "provenance.json has a field that is not known"
        if not known[name].type.__metadata__[0](value):
            return f"{name} in provenance.json is not as it should be"
    return ""
