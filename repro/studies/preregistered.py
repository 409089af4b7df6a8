"""A test whose hypotheses, margins and numbers of runs were fixed before its first run.

The page of the book says what is tested and why. Hypotheses, margins, seeds and analysis are not
to be changed, now that there are records.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy import stats

from repro.records import Archive
from repro.records.estimates import NOT_RUN, number
from repro.studies.captions import METRIC_TITLES
from repro.studies.frames import AnyArchive
from repro.studies.style import COLOURS, GREY, INK, MARKERS, styled_figure
from repro.words.experiments import Experiment, plan

SEEDS = tuple(range(10, 30))
PARTS = ("training", "evaluation")  # of the time that a record tells
LEVEL = 0.95  # of all intervals together
RUNS = {  # the words of ``plan``
    "dataset": "mnist",
    "profile": "short",
    "precision": "tf32",
}
COMMAND = (
    "python -m repro train --profile short --dataset mnist --precision tf32 --no-milestones "
    f"--seed {','.join(map(str, SEEDS))}"
)


class Hypothesis(NamedTuple):
    """``method``'s mean of ``metric`` minus IWAE's is above ``margin``, in nats."""

    words: str
    method: str
    metric: str
    margin: float


HYPOTHESES = (
    Hypothesis("MIWAE's gap is smaller than IWAE's", "miwae", "minus_kl", 0.1),
    Hypothesis("PIWAE's gap is smaller", "piwae", "minus_kl", 0.1),
    Hypothesis("CIWAE(0.5)'s gap is smaller", "ciwae", "minus_kl", 0.1),
    Hypothesis("MIWAE's IWAE-64 is higher", "miwae", "iwae_64", 0.1),
    Hypothesis("PIWAE's IWAE-64 is higher", "piwae", "iwae_64", 0.1),
    Hypothesis("CIWAE(0.5)'s IWAE-64 is higher", "ciwae", "iwae_64", 0.1),
    Hypothesis("PIWAE's generative network is not worse", "piwae", "log_px", -0.1),
    Hypothesis("MIWAE's generative network is not worse", "miwae", "log_px", -0.1),
    Hypothesis("CIWAE(0.5)'s generative network is not worse", "ciwae", "log_px", -0.1),
    Hypothesis("The VAE's generative network is not worse", "vae", "log_px", -0.1),
)


class Fate(StrEnum):
    """The fate of a hypothesis."""

    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


class Interval(NamedTuple):
    """A mean over seeds and both ends of its interval."""

    mean: float
    low: float
    high: float

    def fate(self, margin: float) -> Fate:
        """The place of the interval: above the margin, below it, or across."""
        if self.low > margin:
            return Fate.HOLDS
        return Fate.REFUTED if self.high < margin else Fate.UNDECIDED

    def __str__(self) -> str:
        return f"{number(self.mean)} ({number(self.low)} to {number(self.high)})"


def trainings_of(method: str) -> list[Experiment]:
    """The runs of a method that the test asks for, one for each seed."""
    return plan(method, seed=list(SEEDS), **RUNS)


def all_trainings() -> list[Experiment]:
    """Every run of the test."""
    methods = ("iwae", *dict.fromkeys(h.method for h in HYPOTHESES))
    return [e for method in methods for e in trainings_of(method)]


def missing(archive: Archive) -> int:
    """The number of these runs that have no record yet."""
    return sum(not archive.holds(e) for e in all_trainings())


def family_interval(differences: np.ndarray) -> Interval:
    """The mean of paired differences with Student's interval, its level shared (Bonferroni).

    ``differences`` [seed]; the intervals of all hypotheses hold together with probability LEVEL.
    """
    n = len(differences)
    quantile = stats.t.ppf(1 - (1 - LEVEL) / (2 * len(HYPOTHESES)), n - 1)
    mean = float(differences.mean())
    half = float(quantile * differences.std(ddof=1) / n**0.5)
    return Interval(mean, mean - half, mean + half)


def differences(archive: Archive, hypothesis: Hypothesis) -> np.ndarray:
    """The method's metric minus IWAE's for each seed, [seed]."""

    def values(method: str) -> np.ndarray:
        found = map(archive.get, trainings_of(method))
        return np.array([r.metrics[hypothesis.metric]["value"] for r in found])

    return values(hypothesis.method) - values("iwae")


def cost(archive: Archive) -> str:
    """The time that training and evaluation of these runs took, and the device."""
    runs = [archive.get(e) for e in all_trainings() if archive.holds(e)]
    if not runs:
        return "no time yet"
    devices = " and ".join(sorted({r.provenance.device for r in runs}))
    said = []
    for part in PARTS:
        seconds = sum(r.provenance.seconds[part] for r in runs)
        said.append(f"{seconds / 60:.1f} minutes of {part}")
    return f"{' and '.join(said)} on {devices}"


def table_of_outcomes(archive: Archive) -> str:
    """The hypotheses, and what became of them once every run has its record."""
    left = missing(archive)
    lines = ["| statement | outcome | nats ahead of IWAE | above | in |", "|---|---|---|---|---|"]
    for h in HYPOTHESES:
        found = "not run yet"
        fate = ""
        if not left:
            interval = family_interval(differences(archive, h))
            found = str(interval)
            fate = f"**{interval.fate(h.margin)}**"
        metric = METRIC_TITLES[h.metric]
        lines.append(f"| {h.words} | {fate} | {found} | {number(h.margin)} | {metric} |")
    if left:
        lines.append("")
        lines.append(f"{left} of {5 * len(SEEDS)} runs are still to come: `{COMMAND}`")
    return "\n".join(lines)


def interval_of(archive: Archive, method: str, metric: str) -> str:
    """The mean and interval of one hypothesis; "not run" before all runs are there."""
    (h,) = (h for h in HYPOTHESES if (h.method, h.metric) == (method, metric))
    return str(NOT_RUN) if missing(archive) else str(family_interval(differences(archive, h)))


METHODS_FROM_BELOW = ("vae", "ciwae", "piwae", "miwae")


def outcomes(archive: AnyArchive = None):
    """Each hypothesis: the differences of all seeds, their mean's interval, and the margin.

    Without all runs the panels have margins alone.
    """
    archive = Archive.of(archive)
    whole = missing(archive) == 0
    with styled_figure(1, 3, (8, 2.6), sharey=True) as (figure, axes):
        for ax, (metric, title) in zip(axes.flat, METRIC_TITLES.items(), strict=True):
            for h in HYPOTHESES:
                if h.metric == metric:
                    place = METHODS_FROM_BELOW.index(h.method)
                    ax.vlines(h.margin, place - 0.4, place + 0.4, color=GREY, linestyle=":")
                    if whole:
                        _draw_outcome(ax, place, h.method, differences(archive, h))
            ax.axvline(0, color=GREY, linewidth=0.8)
            ax.set(title=title, xlabel="nats ahead of IWAE")
        names = [m.upper() for m in METHODS_FROM_BELOW]
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].set_ylim(-0.6, len(names) - 0.4)
    return figure


def _draw_outcome(ax, place: int, method: str, found: np.ndarray) -> None:
    """The seeds one above the other in their order, and the mean with its interval below them."""
    heights = place + np.linspace(0.0, 0.35, len(found))
    look = {"color": COLOURS[method], "marker": MARKERS[method]}
    ax.plot(found, heights, linestyle="none", markersize=3, alpha=0.5, **look)
    interval = family_interval(found)
    below = place - 0.2
    ax.hlines(below, interval.low, interval.high, color=INK, linewidth=2.5)
    ax.plot(interval.mean, below, markersize=4, **look)
