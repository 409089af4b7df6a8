"""Differences of methods, with an error that counts what other trainings would change."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from repro.records import Archive, Record, of_any_seed
from repro.records.estimates import ErrorOf, Estimate, added_errors, paired_difference, seed_spread
from repro.studies.reported import RUNS_OF_PAPER, TABLE1
from repro.words.experiments import PRECISIONS, plan


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
    """``paired_difference`` of two methods' runs, its error counting other trainings as well."""
    apart = paired_difference(a, b, metric, among)
    if not apart:
        return apart
    return counting_training(archive, apart, a[0].experiment.method, b[0].experiment.method, metric)


def counting_training(
    archive: Archive, estimate: Estimate, a: str, b: str, metric: str
) -> Estimate:
    """A difference of two methods, its error over images joined by that of the training."""
    if estimate.error_of is not ErrorOf.IMAGES:
        return estimate
    noise = training_noise(archive, a, b, metric)
    if not noise.dof:
        return estimate
    of_training = (noise.sd / estimate.seeds**0.5, noise.dof)
    se, dof = added_errors((estimate.se, estimate.dof), of_training)
    return replace(estimate, se=se, dof=dof, error_of=ErrorOf.SEEDS)


def training_noise(archive: Archive, a: str, b: str, metric: str) -> Deviation:
    """What other trainings give the difference of two methods, of which both may be one.

    The larger of what our own seeds show, on MNIST with the reference model after 40 epochs, at
    the precision with most seeds, and of what the paper's four runs show there. Elsewhere it is
    borrowed. It has no degrees of freedom where neither is known.
    """
    of_each = [_short_runs(archive, (a, b), precision) for precision in PRECISIONS]
    ours = Deviation(*seed_spread(max(of_each, key=len), metric, paired=a != b))
    printed = [e.se for e in TABLE1["paper"]["reference"].get(metric, {}).values()]
    theirs = Deviation(0.0, 0)
    if printed:
        sd = float(np.sqrt(np.mean(np.square(printed))))
        theirs = Deviation(sd, (RUNS_OF_PAPER - 1) * len(printed))
    larger = max(ours, theirs)
    return Deviation(2**0.5 * larger.sd, larger.dof)


def _short_runs(archive: Archive, methods: tuple[str, ...], precision: str) -> list[Record]:
    """Our runs of every seed of some methods on MNIST after 40 epochs."""
    found = archive.records("short")
    runs: list[Record] = []
    for method in methods:
        (e,) = plan(method, "mnist", profile="short", precision=precision)
        runs += of_any_seed(e, found)
    return runs
