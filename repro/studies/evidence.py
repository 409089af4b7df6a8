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
BORROWED = {LOG_P: "log_px", "gap": "minus_kl"}  # metric of ``BY_AIS`` -> the one like it


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
    """The paired difference of ``metric`` in runs ``a`` minus ``b``, its error between trainings.

    A metric of ``yardstick.BY_AIS`` is compared where it was measured; its standard deviation
    between trainings is taken to be that of ``BORROWED``. ``among`` is as in ``paired_difference``.
    """
    if metric in yardstick.BY_AIS:
        apart, metric = yardstick.apart_by_ais(archive, a, b, metric), BORROWED[metric]
    else:
        apart = paired_difference(a, b, metric, among)
    if not apart:
        return apart
    first, second = a[0].experiment, b[0].experiment
    released = first.profile == "published"
    noise = training_noise(archive, first.method, second.method, metric, released)
    return counting_training(apart, noise)


def counting_training(estimate: Estimate, noise: Deviation) -> Estimate:
    """Add the standard deviation between trainings, ``noise``, to the error of a difference.

    It is added to an error over test images only; an error between seeds includes it already.
    """
    if estimate.error_of is not ErrorOf.IMAGES or not noise.dof:
        return estimate
    of_training = (noise.sd / estimate.seeds**0.5, noise.dof)
    se, dof = added_errors((estimate.se, estimate.dof), of_training)
    return replace(estimate, se=se, dof=dof, error_of=ErrorOf.SEEDS)


def training_noise(archive: Archive, a: str, b: str, metric: str, released=False) -> Deviation:
    """The standard deviation, between trainings, of methods' difference ``a`` - ``b`` in a metric.

    For our runs it is that of our own seeds, on MNIST with the reference model after 40 epochs, at
    the precision with most seeds. For released models it is that of the paper's four runs, which
    were trained as long as they. Where one is not known, the other is used; other settings borrow
    it. There are no degrees of freedom where neither is known.

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
    wanted = plan(methods, "mnist", profile="short", precision=precision)
    return [record for e in wanted for record in records_of_any_seed(e, found)]


SOURCES_OF_RUNS = ("weights", "ours", "short")


@dataclass(frozen=True)
class Source:
    """Who trained the runs of a comparison, and how long; ``epochs`` is None if released."""

    epochs: int | None
    whole: bool  # as long as the paper's or the report's training

    @classmethod
    def of(cls, record: Record) -> Source:
        """Make the source of a record."""
        e = record.experiment
        if e.profile == "published":
            return cls(None, whole=True)
        return cls(e.epochs, whole=e.epochs >= PROFILES["full"].epochs[e.dataset])

    @property
    def released(self) -> bool:
        """True if the runs are the report's released models."""
        return self.epochs is None

    def __str__(self) -> str:
        if self.released:
            return "released models"
        said = f"our runs of {self.epochs} epochs"
        return said if self.whole else f"{said}, too short to count"


@dataclass(frozen=True)
class Evidence:
    """The records in the folder ``results``, read once, to find runs and differences of methods."""

    results: str | None = None

    @cached_property
    def archive(self) -> Archive:
        """The archive in the folder ``results``."""
        return Archive(self.results)

    def runs(self, setting: str, method: str | None = None, whose: str = "weights") -> list[Record]:
        """The records of a method, or of all, in a setting; ``whose`` is as the module says."""
        one_of("source of runs", whose, SOURCES_OF_RUNS)
        if whose == "weights":
            used = list(self.archive.released.values())
        else:
            profile = "short" if whose == "short" else "best"
            used = self.archive.select(CURVES_OF[setting], profile).used
        of_setting = [r for r in used if r.experiment.setting == setting]
        return [r for r in of_setting if method in (None, r.experiment.method)]

    def apart(self, setting: str, a: str, b: str, metric: str, whose: str = "weights"):
        """``difference`` of methods ``a`` and ``b`` in a setting; NOT_RUN without records."""
        first = self.runs(setting, a, whose)
        second = self.runs(setting, b, whose)
        among = self.runs(setting, whose=whose)
        return difference(self.archive, first, second, metric, among)

    def released_values(self, setting: str, metric: str) -> dict[str, float]:
        """The values of a metric of a setting's released models, by method, where measured."""
        runs = self.runs(setting)
        if metric == LOG_P:
            measured = yardstick.measured_of(self.archive, runs)
            return {m.record.experiment.method: m.mean("ais").value for m in measured}
        return {r.experiment.method: r.metrics[metric]["value"] for r in runs}
