"""What training makes of a bound and of the estimator of its gradient, from the records.

Runs are compared after the same number of epochs, wherever they went on to. A mean's error is what
other seeds would change: by the spread between its own seeds where those are enough to tell it, and
else by the spread that is pooled over all bounds and estimators with several.
"""

from functools import partial
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
    number,
    over_seeds,
    pooled_spread,
    share_of,
)
from repro.studies import trainings
from repro.studies.captions import COUNTING_TRAINING, METRIC_TITLES, OVER_IMAGES
from repro.studies.designs import AT_T, OF_ESTIMATORS
from repro.studies.frames import AnyArchive, Rows, framed
from repro.studies.gradients import LINES, PLACE, snr_of
from repro.studies.style import (
    GREY,
    counts_below,
    error_bars,
    legend_above,
    look,
    plain_ticks,
    styled_figure,
)
from repro.words.experiments import Experiment

USUAL = "rep"
DOUBLY = "drep"
BOUNDS = {  # method -> title, in the order in which they are shown
    "iwae": "IWAE(64)",
    "piwae": "PIWAE(8,8)",
    "miwae": "MIWAE(8,8)",
    "u-miwae": "U-MIWAE(8,8)",
    "ciwae": "CIWAE(0.5)",
    "vae": "VAE",
}
USUAL_LAYOUTS = {layout.method: (layout.M, layout.K) for layout in (*AT_T, *OF_ESTIMATORS)}
GROUPS = (1, 2, 4, 8, 16, 32, 64)  # of T samples, that a bound may be the mean of


class Setting(NamedTuple):
    """Runs that are compared: whose decoder they train for, for how many epochs, how exactly."""

    decoder: str
    epochs: int
    precision: str = "float32"
    profile: str = "short"


BOTH_NETWORKS = Setting("own", 40, "tf32")
BOTH_EARLIER = Setting("own", 13)
BOTH_LONGER = Setting("own", 364, "tf32", "full")
ENCODER_ALONE = Setting("iwae", 4, "tf32")


def trained(archive: Archive, setting: Setting) -> pd.DataFrame:
    """A row for each method, estimator and seed: the metrics after the setting's epochs.

    A method with another layout than the usual, or another beta, is called ``miwae(4,16)`` or
    ``ciwae(0.05)``.
    """
    rows = {}
    for record in runs_in(archive, setting):
        values = _after(record, setting.epochs)
        if values is not None:
            e = record.experiment
            rows[_called(e), _estimator(e), e.seed] = values
    names = ["method", "estimator", "seed"]
    if not rows:
        return pd.DataFrame(columns=[*names, *METRIC_TITLES])
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=names)
    return table.reset_index()


def runs_in(archive: Archive, setting: Setting) -> list[Record]:
    """The records of a setting's runs."""
    return [r for r in archive.records(setting.profile) if _belongs(r.experiment, setting)]


def runs_of_pair(archive: Archive, setting: Setting, method: str, estimator: str) -> list[Record]:
    """A setting's runs of one bound under one estimator that ended after its epochs."""
    found = []
    for record in runs_in(archive, setting):
        e = record.experiment
        if e.epochs == setting.epochs and (_called(e), _estimator(e)) == (method, estimator):
            found.append(record)
    return found


def _belongs(e: Experiment, setting: Setting) -> bool:
    usual = (e.group, e.precision, e.protocol) == ("mnist-reference", setting.precision, "paper")
    of_setting = e.decoder == setting.decoder and e.epochs >= setting.epochs
    return usual and of_setting and e.method in BOUNDS


def _called(e: Experiment) -> str:
    """The method's name, with its layout or its beta where they are not the usual ones."""
    if e.beta not in (None, USUAL_BETA):
        return f"{e.method}({e.beta:g})"
    if USUAL_LAYOUTS[e.method] != (e.M, e.K):
        return f"{e.method}({e.M},{e.K})"
    return e.method


def _with_groups(method: str, M: int) -> str:
    """What MIWAE or PIWAE is called with M groups of the T samples."""
    if M == 1:
        return "iwae"
    if method == "miwae" and M == T:
        return "vae"
    layout = (M, T // M)
    return method if layout == USUAL_LAYOUTS[method] else f"{method}({M},{T // M})"


def _estimator(e: Experiment) -> str:
    """The estimator's name; of the VAE's bound ``stl`` is ``drep``."""
    if (e.method, e.estimator) == ("vae", "stl"):
        return DOUBLY
    return e.estimator


def _after(record: Record, epochs: int) -> dict[str, float] | None:
    """The metrics after so many epochs; None if log p-hat was not measured then."""
    if epochs == record.experiment.epochs:
        return {name: record.metrics[name]["value"] for name in METRIC_TITLES}
    line = record.curve.set_index("epoch").loc[epochs]
    if pd.isna(line.log_px):
        return None
    gap = line.iwae_64 - line.log_px
    return {"iwae_64": line.iwae_64, "log_px": line.log_px, "minus_kl": gap}


def log_px_of_one_decoder(archive: Archive) -> str:
    """From the lowest to the highest log p-hat of one decoder, by what trained its encoder.

    The generative network is the same, so all that they are apart is due to the proposal.
    """
    runs = EstimatorRuns(archive, ENCODER_ALONE)
    found = [runs.value(method, USUAL, "log_px") for method in BOUNDS]
    values = [e.value for e in found if e is not NOT_RUN]
    return f"{number(min(values), 1)} to {number(max(values), 1)}" if values else str(NOT_RUN)


class EstimatorRuns:
    """The runs of a setting, and what can be said of them."""

    def __init__(self, archive: Archive, setting: Setting):
        self.archive = archive
        self.setting = setting
        self.rows = trained(archive, setting)

    def spread(self, metric: str) -> tuple[float, int]:
        """The pooled standard deviation between seeds, and its degrees of freedom."""
        pairs = self.rows.method + " " + self.rows.estimator
        return pooled_spread(pairs, self.rows[metric])

    def value(self, method: str, estimator: str, metric: str):
        """A metric's mean over seeds, with the error of the training if that is known."""
        found = self._of_seeds(method, estimator, metric)
        if found.empty:
            return NOT_RUN
        seeds = len(found)
        if seeds > ENOUGH:
            return Estimate.mean_of(found, ErrorOf.SEEDS, seeds)
        spread, dof = self.spread(metric)
        if not dof:
            runs = runs_of_pair(self.archive, self.setting, method, estimator)
            on_the_way = Estimate(float(found.mean()), seeds=seeds)
            return over_seeds(runs, metric) if len(runs) == seeds else on_the_way
        error = spread / seeds**0.5
        return Estimate(float(found.mean()), error, dof, seeds, ErrorOf.SEEDS)

    def _of_seeds(self, method: str, estimator: str, metric: str) -> pd.Series:
        return self._of_pair(method, estimator)[metric]

    def _of_pair(self, method: str, estimator: str) -> pd.DataFrame:
        return self.rows[(self.rows.method == method) & (self.rows.estimator == estimator)]

    def by_groups(self, method: str, metric: str) -> dict[int, Estimate]:
        """A metric for each number of groups that was run: one is IWAE, T is the VAE's bound."""
        found = {}
        for M in GROUPS:
            value = self.value(_with_groups(method, M), USUAL, metric)
            if value is not NOT_RUN:
                found[M] = value
        return found

    def gain(self, method: str, metric: str):
        """What the doubly reparameterised gradient adds to a bound's metric."""
        return self.apart((method, DOUBLY), (method, USUAL), metric)

    def apart(self, a: tuple[str, str], b: tuple[str, str], metric: str):
        """The metric of (method, estimator) ``a`` minus ``b``'s, as of independent trainings.

        Where the spread between seeds is not known, it is paired, and its error borrowed.
        """
        first = self.value(*a, metric)
        second = self.value(*b, metric)
        if NOT_RUN in (first, second):
            return NOT_RUN
        if None in (first.se, second.se):
            return Estimate(first.value - second.value)
        if ErrorOf.SEEDS not in (first.error_of, second.error_of):
            runs = (runs_of_pair(self.archive, self.setting, *pair) for pair in (a, b))
            return trainings.difference(self.archive, *runs, metric)
        se, dof = added_errors((first.se, first.dof), (second.se, second.dof))
        if min(first.seeds, second.seeds) <= ENOUGH:  # both may be by one pooled spread
            dof = min(first.dof, second.dof)
        return Estimate(first.value - second.value, se, dof, error_of=ErrorOf.SEEDS)

    def trainings_behind(self, a: tuple[str, str], b: tuple[str, str]) -> str:
        """How many trainings stand behind ``apart``."""
        counts = [len(self._of_seeds(*pair, "iwae_64")) for pair in (a, b)]
        if counts[0] == counts[1]:
            return f"{plural(counts[0], 'training')} each"
        return f"{counts[0]} and {plural(counts[1], 'training')}"

    def made_up(self, a: tuple[str, str], b: tuple[str, str], target: tuple[str, str], metric: str):
        """How much of the way from ``b`` to ``target`` it is to ``a``, over the seeds of all three.

        NOT_RUN with fewer than two of them.
        """
        by_seed = [self._of_pair(*pair).set_index("seed")[metric] for pair in (a, b, target)]
        found = pd.concat(by_seed, axis=1, join="inner").to_numpy()
        if len(found) < 2:
            return NOT_RUN
        reached, start, end = found.T
        return share_of(reached - start, end - start)


def _table(archive: AnyArchive = None, *, setting: Setting, about: str) -> pd.DataFrame:
    """What training makes of each bound under both estimators, and what the other one gains."""
    runs = EstimatorRuns(Archive.of(archive), setting)
    rows: Rows = {}
    for metric, title in METRIC_TITLES.items():
        for method, bound in BOUNDS.items():
            row = {name: runs.value(method, name, metric) for name in (USUAL, DOUBLY)}
            if any(row.values()):
                rows[title, bound] = row | {"difference": runs.gain(method, metric)}
    error = f"one training each; {OVER_IMAGES}, and for differences {COUNTING_TRAINING}"
    if runs.spread("iwae_64")[1]:
        error = f"± standard error between trainings, pooled where fewer than {ENOUGH + 1} tell it"
    caption = f"{about} After {setting.epochs} epochs, in nats; {error}."
    return framed(rows, ["metric", "bound"], caption)


IN_TF32 = "Both networks trained on MNIST, in TensorFloat-32."
ALONE = "Encoders alone, trained on MNIST for the decoder of the report's IWAE."
trained_estimators = partial(_table, setting=BOTH_NETWORKS, about=IN_TF32)
trained_estimators_earlier = partial(
    _table, setting=BOTH_EARLIER, about="Both networks trained on MNIST."
)
trained_estimators_longer = partial(_table, setting=BOTH_LONGER, about=IN_TF32)
encoders_alone = partial(_table, setting=ENCODER_ALONE, about=ALONE)


def trained_groups(archive: AnyArchive = None) -> pd.DataFrame:
    """What 40 epochs of training make of MIWAE and PIWAE with other numbers of groups."""
    runs = EstimatorRuns(Archive.of(archive), BOTH_NETWORKS)
    rows: Rows = {}
    for method in ("miwae", "piwae"):
        found = {title: runs.by_groups(method, m) for m, title in METRIC_TITLES.items()}
        for M in GROUPS:
            row = {title: values.get(M, NOT_RUN) for title, values in found.items()}
            rows[method.upper(), f"{M} × {T // M}"] = row
    caption = (
        "M × K: groups, and samples in a group. One group is IWAE, and MIWAE with 64 groups is the "
        f"VAE. After {BOTH_NETWORKS.epochs} epochs on MNIST, in TensorFloat-32, in "
        "nats; ± standard error between trainings."
    )
    return framed(rows, ["bound", "M × K"], caption)


ASIDE = {USUAL: -0.13, DOUBLY: 0.13}  # of a method's place


def bounds_and_estimators(archive: AnyArchive = None):
    """Each bound under two estimators: its gradient's SNR, and what training makes of it.

    Filled: the usual estimator; open: the doubly reparameterised one. Bars: standard errors,
    between batches in the first panel and between trainings in the others.
    """
    archive = Archive.of(archive)
    runs = EstimatorRuns(archive, BOTH_NETWORKS)
    methods = [m for m in BOUNDS if m in set(runs.rows.method)]
    with styled_figure(2, 2, (8, 5.6)) as (figure, axes):
        _draw_ratios(axes[0, 0], archive, methods)
        for ax, (metric, title) in zip(axes.flat[1:], METRIC_TITLES.items(), strict=True):
            for name in LINES:
                _draw(ax, methods, [runs.value(m, name, metric) for m in methods], name)
            ax.set(title=f"{title} after {BOTH_NETWORKS.epochs} epochs", ylabel="nats")
        for ax in axes.flat:
            ax.set_xticks(range(len(methods)), [m.upper() for m in methods], fontsize=7)
        for name, line in LINES.items():
            axes[0, 0].plot([], [], "o", color=GREY, label=name, **line)
        legend_above(figure, axes[0, 0], len(LINES))
    return figure


def _draw_ratios(ax, archive: Archive, methods: list[str]) -> None:
    """SNR of phi's gradient. PIWAE's inference network has MIWAE's bound."""
    measured, _ = archive.table("estimators")
    rows = measured[measured["where"] == PLACE]
    layouts = {layout.method: layout for layout in OF_ESTIMATORS}
    layouts["piwae"] = layouts["miwae"]
    for name in LINES:
        of_estimator = rows[rows.estimator == name]
        points = [snr_of(of_estimator, layouts[m], "phi") for m in methods]
        _draw(ax, methods, points, name)
    ax.set(title="SNR of the inference network's gradient", ylabel="SNR")
    plain_ticks(ax, 1, 2, 5)


def _draw(ax, methods: list[str], points: list, estimator: str) -> None:
    """One estimator's points, with bars where the error is known."""
    aside = ASIDE[estimator]
    line = LINES[estimator]
    for place, (method, point) in enumerate(zip(methods, points, strict=True)):
        if point is not NOT_RUN:
            error_bars(ax, [place + aside], [point], **look(method) | line)


def by_groups(archive: AnyArchive = None):
    """MIWAE and PIWAE with M groups of the 64 samples, from IWAE's bound on the left to the VAE's.

    Bars: standard errors between trainings.
    """
    runs = EstimatorRuns(Archive.of(archive), BOTH_NETWORKS)
    with styled_figure(1, 3, (8, 3.2)) as (figure, (axes,)):
        for ax, (metric, title) in zip(axes, METRIC_TITLES.items(), strict=True):
            for method in ("miwae", "piwae"):
                found = runs.by_groups(method, metric)
                name = method.upper()
                error_bars(ax, [*found], [*found.values()], **look(method), label=name)
            ax.set(xlabel="M", title=title)
            counts_below(ax, GROUPS)
        axes[0].set(ylabel=f"nats, after {BOTH_NETWORKS.epochs} epochs")
        legend_above(figure, axes[0], 2)
    return figure
