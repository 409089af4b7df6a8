"""The records behind a claim or a sentence: runs of a setting, and differences between them.

A setting is named ``mnist-reference``, as one of ``SETTINGS``; ``whose`` is ``weights``, the
report's released models measured again, ``ours``, our own longest runs of every seed, or ``short``,
our own of the short profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from repro import one_of
from repro.records import Archive, Record, records_of_any_seed
from repro.records.estimates import ErrorOf, Estimate, added_errors, paired_difference, seed_spread
from repro.studies import yardstick
from repro.studies.reported import RUNS_OF_PAPER, TABLE1
from repro.words.exhibits import CURVES_OF
from repro.words.experiments import PRECISIONS, PROFILES, plan

LOG_P = "log_p"  # log p(x) by annealed importance sampling


class Deviation(NamedTuple):
    """Standard deviation, in nats, and the degrees of freedom with which it is known."""

    sd: float
    dof: int


def difference(
    archive: Archive,
    a: Sequence[Record],
    b: Sequence[Record],
    metric: str,
    among: Sequence[Record] = (),
):
    """``paired_difference`` of two methods' runs, its error counting other trainings as well.

    ``LOG_P`` is compared where it was measured. What other trainings change is known of log p-hat,
    and taken to be the same.
    """
    if metric == LOG_P:
        apart, metric = yardstick.networks_apart(archive, a, b), "log_px"
    else:
        apart = paired_difference(a, b, metric, among)
    if not apart:
        return apart
    first, second = a[0].experiment, b[0].experiment
    released = first.profile == "published"
    noise = training_noise(archive, first.method, second.method, metric, released)
    return counting_training(apart, noise)


def counting_training(estimate: Estimate, noise: Deviation) -> Estimate:
    """A difference of two methods whose error counts what another training would change, too.

    To an error over test images the training's noise is added; one between seeds has it already.
    """
    if estimate.error_of is not ErrorOf.IMAGES or not noise.dof:
        return estimate
    of_training = (noise.sd / estimate.seeds**0.5, noise.dof)
    se, dof = added_errors((estimate.se, estimate.dof), of_training)
    return replace(estimate, se=se, dof=dof, error_of=ErrorOf.SEEDS)


def training_noise(archive: Archive, a: str, b: str, metric: str, released=False) -> Deviation:
    """The spread that other trainings give the difference of two methods, or of one.

    Of ours: what our own seeds show, on MNIST with the reference model after 40 epochs, at the
    precision with most seeds. Of the released models: what the paper's four runs show there, which
    were trained as long as they. Where one is not known, it is the other; elsewhere it is borrowed.
    It has no degrees of freedom where neither is known.

    >>> training_noise(Archive(), "piwae", "iwae", "log_px").dof
    19
    """
    of_each = [_short_runs(archive, (a, b), precision) for precision in PRECISIONS]
    ours = seed_spread(max(of_each, key=len), metric, paired=a != b)
    theirs = _spread_in_the_paper(metric)
    first, second = (theirs, ours) if released else (ours, theirs)
    sd, dof = first if first[1] else second
    return Deviation(2**0.5 * sd, dof)


def _spread_in_the_paper(metric: str) -> tuple[float, int]:
    """Standard deviation between its four runs, pooled over methods; degrees of freedom."""
    printed = [e.se for e in TABLE1["paper"]["reference"].get(metric, {}).values()]
    if not printed:
        return 0.0, 0
    return float(np.sqrt(np.mean(np.square(printed)))), (RUNS_OF_PAPER - 1) * len(printed)


def _short_runs(archive: Archive, methods: tuple[str, ...], precision: str) -> list[Record]:
    """Our runs of every seed of some methods on MNIST after 40 epochs."""
    found = archive.records("short")
    runs: list[Record] = []
    for method in methods:
        (e,) = plan(method, "mnist", profile="short", precision=precision)
        runs += records_of_any_seed(e, found)
    return runs


SOURCES_OF_RUNS = ("weights", "ours", "short")


@dataclass(frozen=True)
class Source:
    """Whose runs a comparison is of; ``epochs`` is None for the released models."""

    epochs: int | None
    whole: bool  # as long as the paper's or the report's training

    @classmethod
    def of(cls, record: Record) -> Source:
        """The source of a record."""
        e = record.experiment
        if e.profile == "published":
            return cls(None, whole=True)
        return cls(e.epochs, whole=e.epochs >= PROFILES["full"].epochs[e.dataset])

    @property
    def released(self) -> bool:
        """True of the report's released models."""
        return self.epochs is None

    def __str__(self) -> str:
        if self.released:
            return "released models"
        said = f"our runs of {self.epochs} epochs"
        return said if self.whole else f"{said}, too short to count"


@dataclass(frozen=True)
class Evidence:
    """The records in the folder ``results``, read once."""

    results: str | None = None

    @cached_property
    def archive(self) -> Archive:
        """The archive behind it."""
        return Archive(self.results)

    def runs(self, setting: str, method: str | None = None, whose: str = "weights") -> list[Record]:
        """Records of a method, or of all, in a setting."""
        one_of("source of runs", whose, SOURCES_OF_RUNS)
        if whose == "weights":
            used = list(self.archive.released.values())
        else:
            profile = "short" if whose == "short" else "best"
            used = self.archive.select(CURVES_OF[setting], profile).used
        of_setting = [r for r in used if r.experiment.setting == setting]
        return [r for r in of_setting if method in (None, r.experiment.method)]

    def apart(self, setting: str, a: str, b: str, metric: str, whose: str = "weights"):
        """a - b, paired; its error counts other trainings. NOT_RUN without records."""
        first = self.runs(setting, a, whose)
        second = self.runs(setting, b, whose)
        among = self.runs(setting, whose=whose)
        return difference(self.archive, first, second, metric, among)

    def released_values(self, setting: str, metric: str) -> dict[str, float]:
        """A metric of the released models of a setting that have it, by method."""
        runs = self.runs(setting)
        if metric == LOG_P:
            measured = yardstick.measured_of(self.archive, runs)
            return {m.record.experiment.method: m.mean("ais").value for m in measured}
        return {r.experiment.method: r.metrics[metric]["value"] for r in runs}
