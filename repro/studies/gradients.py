"""Signal-to-noise ratios of gradients, from the measured rows of ``signal.row``."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro.records import Archive, Record
from repro.records.estimates import ErrorOf, Estimate, number
from repro.studies.captions import METHOD_TITLES, NETWORK_TITLES, label
from repro.studies.designs import (
    AT_T,
    COUNTS,
    OF_ESTIMATORS,
    OFFSETS,
    SWEPT,
    THEORY,
    Layout,
    offset_title,
)
from repro.words.experiments import ESTIMATORS

ALL_COUNTS = tuple(layout.K for layout in SWEPT)


def places(archive: Archive) -> list[tuple[str, pd.DataFrame]]:
    """Where gradients were measured, and the rows of each place."""
    return [*archive.table("gradients")[0].groupby("where", sort=False)]


def select(rows: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """The measurements of a layout, of the rows of one place."""
    method, M, K = layout
    return rows[(rows.method == method) & (rows.M == M) & (rows.K == K)]


def ratio(rows: pd.DataFrame, layout: Layout, net: str) -> float:
    """The SNR of a gradient: the root of mean squared signal over mean squared noise."""
    mine = select(rows, layout)
    return float(np.sqrt(max(mine[f"{net}_signal"].mean(), 0) / mine[f"{net}_noise"].mean()))


def exponent(rows: pd.DataFrame, net: str, counts: Sequence[int]) -> float:
    """d log SNR / d log K of IWAE between the first and the last of ``counts``."""
    first = ratio(rows, Layout("iwae", 1, counts[0]), net)
    last = ratio(rows, Layout("iwae", 1, counts[-1]), net)
    return float(np.log(last / first) / np.log(counts[-1] / counts[0]))


def effective_samples(rows: pd.DataFrame, layout: Layout = AT_T[0]) -> float:
    """The mean effective sample size of a layout's weights; by default of IWAE's 64."""
    return select(rows, layout).ess.mean()


def with_jackknife(
    rows: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], digits: int = 3
) -> Estimate:
    """A statistic of rows and its standard error, by leaving out one draw after the other."""
    draws = rows.draw.unique()
    without_one = [statistic(rows[rows.draw != d]) for d in draws]
    se = float(np.sqrt((len(draws) - 1) * np.var(without_one)))
    dof = len(draws) - 1
    return Estimate(statistic(rows), se, dof, error_of=ErrorOf.DRAWS, digits=digits)


def snr_of(rows: pd.DataFrame, layout: Layout, net: str) -> Estimate:
    """``ratio`` with its error."""
    return with_jackknife(rows, functools.partial(ratio, layout=layout, net=net))


def exponent_of(rows: pd.DataFrame, net: str, counts: Sequence[int]) -> Estimate:
    """``exponent`` with its error."""
    return with_jackknife(rows, functools.partial(exponent, net=net, counts=counts))


def ratios_of_methods(archive: Archive) -> dict:
    """Rows of a table: SNR, signal and noise of the five methods at T = 64, in every place."""
    rows: dict[tuple[str, str], dict] = {}
    for place, mine in places(archive):
        where = f"{place}; ESS {with_jackknife(mine, effective_samples, digits=1)}"
        for net, network in NETWORK_TITLES.items():
            rows[where, f"{network}, SNR"] = {
                METHOD_TITLES[layout.method]: snr_of(mine, layout, net) for layout in AT_T
            }
            for part in ("signal", "noise"):
                rows[where, f"{network}, {part}"] = _multiples(mine, f"{net}_{part}")
    return rows


def _multiples(rows: pd.DataFrame, squared: str) -> dict[str, str]:
    """The root of a mean square for each method at T = 64, as a multiple of IWAE's."""
    sizes = {layout.method: select(rows, layout)[squared].mean() ** 0.5 for layout in AT_T}
    return {METHOD_TITLES[m]: f"× {number(size / sizes['iwae'])}" for m, size in sizes.items()}


def ratios_of_estimators(archive: Archive) -> dict:
    """Rows of a table: the SNR of both gradients of each bound, phi's under each estimator."""
    rows: dict[tuple[str, str], dict] = {}
    measured, _ = archive.table("estimators")
    for place, of_place in measured.groupby("where", sort=False):
        by_estimator = {name: of_place[of_place.estimator == name] for name in ESTIMATORS}
        for layout in OF_ESTIMATORS:
            rows[place, _title(layout)] = _ratios_by_estimator(by_estimator, layout)
    return rows


def _ratios_by_estimator(
    by_estimator: dict[str, pd.DataFrame], layout: Layout
) -> dict[str, Estimate]:
    """Cells of a row: the SNR of theta's gradient, and of phi's under each estimator."""
    cells = {"generative": _snr_to_two_digits(by_estimator["rep"], layout, "theta")}
    for name, rows in by_estimator.items():
        cells[f"inference, {name}"] = _snr_to_two_digits(rows, layout, "phi")
    return cells


def swept(archive: Archive, where: str, estimator: str, method: str = "iwae") -> pd.DataFrame:
    """A bound's gradients in one place for every K, under an estimator.

    MIWAE has eight groups of K samples. The signal of ``rep`` is taken from ``drep``, whose
    expectation is the same and whose noise is far smaller.
    """
    rows, _ = archive.table("samples" if method == "iwae" else "looser")
    here = (rows["where"] == where) & (rows.method == method)
    rows = rows[here].set_index(["draw", "K"])
    mine = rows[rows.estimator == estimator].copy()
    if estimator == "rep":
        mine["phi_signal"] = rows[rows.estimator == "drep"].phi_signal
    return mine.reset_index()


def ratios_by_count(
    archive: Archive, where: str, estimator: str, method: str = "iwae"
) -> dict[int, float]:
    """The SNR of phi's gradient in a network for each K; MIWAE has eight groups of K."""
    rows = swept(archive, where, estimator, method)
    M = int(rows.M.iloc[0])
    return {K: ratio(rows, Layout(method, M, K), "phi") for K in COUNTS}


def ratios_in_training(records: Sequence[Record]) -> dict:
    """Rows of a table: the SNR of each run's own gradients at its milestones, phi's under each."""
    rows: dict[tuple[str, str], dict] = {}
    for record in records:
        e = record.experiment
        layout = Layout(e.method, e.M, e.K)
        ess = functools.partial(effective_samples, layout=layout)
        for epoch, measured in record.gradients.groupby("where", sort=False):
            by_estimator = dict(list(measured.groupby("estimator")))
            row = {"ESS": with_jackknife(measured, ess, digits=1)}
            row |= _ratios_by_estimator(by_estimator, layout)
            rows[f"{label(e)}, seed {e.seed}", epoch] = row
    return rows


class Rate(NamedTuple):
    """How fast a gradient's SNR changes when K is four times as large, at some ESS."""

    net: str
    estimator: str
    offset: float
    counts: tuple[int, int]  # K from, K to
    ess: float  # of K to
    exponent: Estimate  # d log SNR / d log K


def rates_in_linear_gaussian(archive: Archive) -> list[Rate]:
    """For every offset and every K: both gradients', phi's under ``rep`` and under ``drep``."""
    found = []
    for offset in OFFSETS:
        where = offset_title(offset)
        for net, estimator in (("theta", "rep"), ("phi", "rep"), ("phi", "drep")):
            rows = swept(archive, where, estimator)
            for counts in zip(ALL_COUNTS[:-2], ALL_COUNTS[2:], strict=True):
                ess = effective_samples(rows, Layout("iwae", 1, counts[1]))
                exponent_here = exponent_of(rows, net, counts)
                found.append(Rate(net, estimator, offset, counts, ess, exponent_here))
    return found


def times_clearer(archive: Archive, a: str, b: str, where: str) -> Estimate:
    """The SNR of phi's gradient under ``a`` over that under ``b``, each "bound estimator"."""
    measured, _ = archive.table("estimators")
    rows = measured[measured["where"] == where]
    layouts = {layout.method: layout for layout in OF_ESTIMATORS}

    def times(some: pd.DataFrame) -> float:
        ratios = []
        for words in (a, b):
            method, estimator = words.split()
            ratios.append(ratio(some[some.estimator == estimator], layouts[method], "phi"))
        return ratios[0] / ratios[1]

    return with_jackknife(rows, times)


def _snr_to_two_digits(rows: pd.DataFrame, layout: Layout, net: str) -> Estimate:
    return snr_of(rows, layout, net).shown_with(2)


def _title(layout: Layout) -> str:
    """What a bound is called that may not be in the report's tables."""
    if layout.method in METHOD_TITLES:
        return METHOD_TITLES[layout.method]
    grouped = f"{layout.M},{layout.K}" if layout.M > 1 else str(layout.K)
    return f"{layout.method.upper()}({grouped})"


def exponents_of_iwae(archive: Archive) -> dict:
    """Rows of a table: exponents between one K and the next, beside the theory's."""
    rows: dict[tuple[str, str], dict] = {}
    for where, mine in places(archive):
        for net, network in NETWORK_TITLES.items():
            row: dict[str, Estimate] = {}
            for counts in itertools.pairwise(COUNTS):
                row[f"K {counts[0]} to {counts[1]}"] = exponent_of(mine, net, counts)
            row["theory"] = Estimate(THEORY[net], digits=1)
            rows[where, network] = row
    return rows
