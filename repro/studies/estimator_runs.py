"""Scores of trained bounds, and of estimators of their gradients, from the records.

Runs are compared after the same number of epochs, even if they were trained for more. The standard
error of a mean is between seeds: from its own seeds if there are more than ``ENOUGH``, otherwise
from the standard deviation that is pooled over all bounds and estimators with several seeds.
"""

from functools import partial
from itertools import product
from typing import NamedTuple

import pandas as pd

from repro import plural
from repro.bounds import USUAL_BETA, T
from repro.records import Archive, Record
from repro.records.estimates import (
    ENOUGH,
    NOT_RUN,
    ErrorOf,
    Estimate,
    added_errors,
    over_seeds,
    pooled_spread,
    share_of,
)
from repro.studies import evidence, style
from repro.studies.captions import BOUND_TITLES, COUNTING_TRAINING, METRIC_TITLES, OVER_IMAGES
from repro.studies.designs import AT_T, OF_ESTIMATORS
from repro.studies.frames import AnyArchive, Rows, framed, from_to
from repro.studies.gradients import LINES, PLACE, at_t, snr_at_t, with_jackknife
from repro.studies.yardstick import BY_AIS
from repro.words.experiments import Experiment

USUAL = "rep"
DOUBLY = "drep"
BOUNDS = {
    method: BOUND_TITLES[method] for method in ("iwae", "piwae", "miwae", "u-miwae", "ciwae", "vae")
}
USUAL_LAYOUTS = {layout.method: (layout.M, layout.K) for layout in (*AT_T, *OF_ESTIMATORS)}
GROUPED = {"miwae": "MIWAE", "piwae": "PIWAE"}
GROUPS = (1, 2, 4, 8, 16, 32, 64)  # of T samples, that a bound may be the mean of
SCORES = (*METRIC_TITLES, "elbo")


class Regime(NamedTuple):
    """A regime: the decoder (own or a fixed one), epochs and precision of runs to be compared."""

    decoder: str
    epochs: int
    precision: str = "float32"
    profile: str = "short"
    about: str = "Both networks trained on MNIST, in TensorFloat-32."


BOTH_NETWORKS = Regime("own", 40, "tf32")
BOTH_EARLIER = Regime("own", 13, about="Both networks trained on MNIST.")
BOTH_LONGER = Regime("own", 364, "tf32", "full")
ALONE = "Encoders alone, trained on MNIST for the decoder of the student report's IWAE."
ENCODER_ALONE = Regime("iwae", 4, "tf32", about=ALONE)


def _bound(e: Experiment) -> str:
    """A bound under an estimator, as "iwae drep", with its layout or beta if they are unusual.

    So it may be "miwae(4,16) rep" or "ciwae(0.05) rep". Of the VAE's bound ``stl`` is ``drep``.
    """
    method = e.method
    if e.beta not in (None, USUAL_BETA):
        method = f"{method}({e.beta:g})"
    elif USUAL_LAYOUTS[method] != (e.M, e.K):
        method = f"{method}({e.M},{e.K})"
    doubly = (e.method, e.estimator) == ("vae", "stl")
    return f"{method} {DOUBLY if doubly else e.estimator}"


def _with_groups(method: str, M: int) -> str:
    """The name of MIWAE's or PIWAE's runs with M groups of T / M samples, as ``_bound`` gives it.

    One group is IWAE's bound for either; MIWAE with T groups is the VAE's.
    """
    if M == 1:
        return f"iwae {USUAL}"
    if method == "miwae" and M == T:
        return f"vae {USUAL}"
    layout = (M, T // M)
    name = method if layout == USUAL_LAYOUTS[method] else f"{method}({M},{T // M})"
    return f"{name} {USUAL}"


def _after(record: Record, regime: Regime) -> dict[str, float] | None:
    """A run's metrics after a regime's epochs; None if it is not of the regime.

    Or if log p-hat was not measured then, of all test images.
    """
    e = record.experiment
    usual = e.departs_only_in("epochs", "precision", "estimator", "decoder")
    asked = ("mnist-reference", regime.precision, True)
    if (e.setting_folder, e.precision, usual) != asked or e.method not in BOUNDS:
        return None
    if e.decoder != regime.decoder or e.epochs < regime.epochs:
        return None
    if e.epochs == regime.epochs:
        return {name: record.metrics[name]["value"] for name in SCORES}
    line = record.curve.set_index("epoch").loc[regime.epochs]
    if pd.isna(line.log_px) or line.log_px_images > 0:
        return None
    gap = line.iwae_64 - line.log_px
    return {"iwae_64": line.iwae_64, "log_px": line.log_px, "minus_kl": gap}


def log_px_of_one_decoder(archive: Archive) -> str:
    """The range of log p-hat for one fixed decoder, over the bounds that trained its encoders.

    The generative network is the same, so that all differences are due to the proposal q.
    """
    runs = EstimatorRuns(archive, ENCODER_ALONE)
    found = [runs.value(f"{method} {USUAL}", "log_px") for method in BOUNDS]
    return from_to([e.value for e in found if e], 1)


class EstimatorRuns:
    """Scores by bound and seed of the runs of a ``regime``: one decoder, length and precision.

    ``bound`` names a bound under an estimator, as "iwae drep" or "miwae(4,16) rep".
    """

    def __init__(self, archive: Archive, regime: Regime):
        self.archive = archive
        self.regime = regime
        self.ended: dict[str, list[Record]] = {}  # after just the regime's epochs
        rows = {}
        for record in archive.records(regime.profile):
            if values := _after(record, regime):
                e = record.experiment
                bound = _bound(e)
                rows[bound, e.seed] = {"bound": bound, "seed": e.seed} | values
                if e.epochs == regime.epochs:
                    self.ended.setdefault(bound, []).append(record)
        self.rows = pd.DataFrame([*rows.values()], columns=["bound", "seed", *SCORES])

    def values_by_seed(self, bound: str, metric: str) -> pd.Series:
        """The values of ``metric`` of the runs of ``bound``, such as "iwae drep", by seed."""
        return self.rows[self.rows.bound == bound].set_index("seed")[metric]

    def spread(self, metric: str) -> tuple[float, int]:
        """The standard deviation between seeds, pooled over bounds, and its degrees of freedom."""
        return pooled_spread(self.rows.bound, self.rows[metric])

    def value(self, bound: str, metric: str):
        """The mean of ``metric`` over the seeds of ``bound``, with its error between seeds."""
        found = self.values_by_seed(bound, metric)
        if found.empty:
            return NOT_RUN
        seeds = len(found)
        if seeds > ENOUGH:
            return Estimate.mean_of(found, ErrorOf.SEEDS, seeds)
        spread, dof = self.spread(metric)
        if dof:
            mean = float(found.mean())
            return Estimate(mean, spread / seeds**0.5, dof, seeds, ErrorOf.SEEDS)
        ended = self.ended.get(bound, [])
        on_the_way = Estimate(float(found.mean()), seeds=seeds)
        return over_seeds(ended, metric) if len(ended) == seeds else on_the_way

    def by_groups(self, method: str, metric: str) -> dict[int, Estimate]:
        """Means of ``metric`` for MIWAE or PIWAE by number of groups M; M = 1 is IWAE's bound."""
        found = {M: self.value(_with_groups(method, M), metric) for M in GROUPS}
        return {M: value for M, value in found.items() if value}

    def gain(self, method: str, metric: str):
        """The gain in ``metric`` of a method by drep, doubly reparameterised, instead of rep."""
        return self.apart(f"{method} {DOUBLY}", f"{method} {USUAL}", metric)

    def apart(self, a: str, b: str, metric: str):
        """The metric of bound ``a`` minus that of ``b``, as of independent trainings.

        If the standard deviation between seeds is unknown, see ``evidence.difference``, and for
        metrics by annealed importance sampling, too.
        """
        if metric in BY_AIS:
            ended = (self.ended.get(bound, []) for bound in (a, b))
            return evidence.difference(self.archive, *ended, metric)
        first = self.value(a, metric)
        second = self.value(b, metric)
        if NOT_RUN in (first, second):
            return NOT_RUN
        if None in (first.se, second.se):
            return Estimate(first.value - second.value)
        if ErrorOf.SEEDS not in (first.error_of, second.error_of):
            return evidence.difference(self.archive, self.ended[a], self.ended[b], metric)
        se, dof = added_errors((first.se, first.dof), (second.se, second.dof))
        if min(first.seeds, second.seeds) <= ENOUGH:  # both may be by one pooled spread
            dof = min(first.dof, second.dof)
        return Estimate(first.value - second.value, se, dof, error_of=ErrorOf.SEEDS)

    def trainings_behind(self, a: str, b: str) -> str:
        """The number of trainings that ``apart`` compares: "4 trainings each"."""
        first, second = (len(self.values_by_seed(bound, "iwae_64")) for bound in (a, b))
        if first == second:
            return f"{plural(first, 'training')} each"
        return f"{first} and {plural(second, 'training')}"

    def share_closed(self, a: str, b: str, target: str, metric: str):
        """(a - b) / (target - b) in ``metric``, with its interval, over the seeds of all three.

        It is NOT_RUN with fewer than two such seeds.
        """
        by_seed = [self.values_by_seed(bound, metric) for bound in (a, b, target)]
        found = pd.concat(by_seed, axis=1, join="inner").to_numpy()
        if len(found) < 2:
            return NOT_RUN
        reached, start, end = found.T
        return share_of(reached - start, end - start)


def _table(archive: AnyArchive = None, *, regime: Regime) -> pd.DataFrame:
    """Scores of each bound trained under both estimators, and the gain of the other one."""
    runs = EstimatorRuns(Archive.of(archive), regime)
    rows: Rows = {}
    for metric, title in METRIC_TITLES.items():
        for method, bound in BOUNDS.items():
            row = {name: runs.value(f"{method} {name}", metric) for name in (USUAL, DOUBLY)}
            if any(row.values()):
                rows[title, bound] = row | {"difference": runs.gain(method, metric)}
    error = f"one training each; {OVER_IMAGES}, and for differences {COUNTING_TRAINING}"
    if runs.spread("iwae_64")[1]:
        error = f"± standard error between trainings, pooled where fewer than {ENOUGH + 1} tell it"
    caption = f"{regime.about} After {regime.epochs} epochs, in nats; {error}."
    return framed(rows, ["metric", "bound"], caption)


trained_estimators = partial(_table, regime=BOTH_NETWORKS)
trained_estimators_earlier = partial(_table, regime=BOTH_EARLIER)
trained_estimators_longer = partial(_table, regime=BOTH_LONGER)
encoders_alone = partial(_table, regime=ENCODER_ALONE)


def trained_groups(archive: AnyArchive = None) -> pd.DataFrame:
    """Scores of MIWAE and PIWAE with other numbers of groups, after 40 epochs of training.

    >>> [*trained_groups().columns]
    ['IWAE-64', 'log p̂(x)', '−KL(Q‖P)']
    """
    runs = EstimatorRuns(Archive.of(archive), BOTH_NETWORKS)
    rows: Rows = {}
    for method in GROUPED:
        found = {title: runs.by_groups(method, m) for m, title in METRIC_TITLES.items()}
        for M in GROUPS:
            row = {title: values.get(M, NOT_RUN) for title, values in found.items()}
            rows[GROUPED[method], f"{M} × {T // M}"] = row
    caption = (
        "M × K: groups, and samples in a group. One group is IWAE, and MIWAE with 64 groups is the "
        f"VAE. After {BOTH_NETWORKS.epochs} epochs on MNIST, in TensorFloat-32, in "
        "nats; ± standard error between trainings."
    )
    return framed(rows, ["bound", "M × K"], caption)


ASIDE = {USUAL: -0.13, DOUBLY: 0.13}  # of a method's place


@style.styled()
def bounds_and_estimators(archive: AnyArchive = None):
    """Each bound under two estimators: its gradient's SNR, and what training makes of it.

    Filled: the usual estimator; open: the doubly reparameterised one. Bars: standard errors,
    between batches in the first panel and between trainings in the others.
    """
    archive = Archive.of(archive)
    runs = EstimatorRuns(archive, BOTH_NETWORKS)
    trained = {bound.split()[0] for bound in runs.rows.bound}
    methods = [m for m in BOUNDS if m in trained]
    gradients = at_t(archive, PLACE)
    found = []
    for (place, method), estimator in product(enumerate(methods), LINES):
        at = {"method": method, "x": place + ASIDE[estimator], "open": estimator == DOUBLY}
        of_phi = "miwae" if method == "piwae" else method  # the bound of the inference network
        ratio = with_jackknife(gradients, partial(snr_at_t, bound=f"{of_phi} {estimator}"))
        found.append(at | {"panel": "SNR of the inference network's gradient", "y": ratio})
        for metric, title in METRIC_TITLES.items():
            value = runs.value(f"{method} {estimator}", metric)
            found.append(at | {"panel": f"{title} after {runs.regime.epochs} epochs", "y": value})
    if not found:
        return style.nothing()
    shown = pd.DataFrame([row for row in found if row["y"]])
    apart = {"col_wrap": 2, "sharex": False, "sharey": False}
    grid = style.faceted(shown, (8, 5.6), "x", "y", {"linestyle": "none"}, col="panel", **apart)
    for ax in grid.axes:
        ax.set(xlabel="", ylabel="nats")
        ax.set_xticks(range(len(methods)), [m.upper() for m in methods], fontsize=7)
    grid.axes[0].set(ylabel="SNR")
    style.plain_ticks(grid.axes[0], 1, 2, 5)
    point = {"color": style.GREY, "marker": "o", "linestyle": "none"}
    style.legend_above(grid.figure, {name: point | line for name, line in LINES.items()})
    return grid.figure


@style.styled()
def by_groups(archive: AnyArchive = None):
    """MIWAE and PIWAE with M groups of the 64 samples, from IWAE's bound on the left to the VAE's.

    Bars: standard errors between trainings.
    """
    runs = EstimatorRuns(Archive.of(archive), BOTH_NETWORKS)
    found = []
    for (metric, title), method in product(METRIC_TITLES.items(), GROUPED):
        for M, value in runs.by_groups(method, metric).items():
            found.append({"panel": title, "method": method, "M": M, "nats": value})
    if not found:
        return style.nothing()
    grid = style.faceted(pd.DataFrame(found), (8, 3.2), "M", "nats", col="panel", sharey=False)
    for ax in grid.axes.flat:
        style.counts_below(ax, GROUPS)
    grid.set_ylabels(f"nats, after {BOTH_NETWORKS.epochs} epochs")
    style.legend_above(grid.figure, style.titled(GROUPED))
    return grid.figure
