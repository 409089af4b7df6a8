"""A test whose hypotheses, margins and numbers of runs were fixed before its first run.

The page of the book says what is tested and why. Hypotheses, margins, seeds and analysis are not
to be changed, now that there are records.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from repro.records import Archive, frame_of
from repro.records.estimates import NOT_RUN, number
from repro.studies.captions import METRIC_TITLES
from repro.studies.frames import AnyArchive
from repro.studies.style import COLOURS, GREY, INK, nothing, styled
from repro.words.experiments import Experiment, plan

SEEDS = tuple(range(10, 30))
PARTS = ("training", "evaluation")  # of the time that a record tells
LEVEL = 0.95  # of all intervals together
RUNS = {"dataset": "mnist", "profile": "short", "precision": "tf32"}  # the words of ``plan``
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
    runs = [*trainings_of(hypothesis.method), *trainings_of("iwae")]
    found = frame_of(map(archive.get, runs))
    values = found.pivot(index="seed", columns="method", values=hypothesis.metric)
    return (values[hypothesis.method] - values.iwae).to_numpy()


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
    heads = "| statement | score | must exceed | nats ahead of IWAE | outcome |"
    lines = [heads, "|---|---|---|---|---|"]
    for h in HYPOTHESES:
        found = "–"
        fate = "not run yet"
        if not left:
            interval = family_interval(differences(archive, h))
            found = str(interval)
            fate = f"**{interval.fate(h.margin)}**"
        metric = METRIC_TITLES[h.metric]
        lines.append(f"| {h.words} | {metric} | {number(h.margin)} | {found} | {fate} |")
    if left:
        lines.append("")
        lines.append(f"{left} of {5 * len(SEEDS)} runs are still to come: `{COMMAND}`")
    return "\n".join(lines)


def interval_of(archive: Archive, method: str, metric: str) -> str:
    """The mean and interval of one hypothesis; "not run" before all runs are there.

    >>> interval_of(Archive(), "piwae", "iwae_64")
    '1.58 (1.46 to 1.70)'
    """
    (h,) = (h for h in HYPOTHESES if (h.method, h.metric) == (method, metric))
    return str(NOT_RUN) if missing(archive) else str(family_interval(differences(archive, h)))


@styled()
def outcomes(archive: AnyArchive = None):
    """Each hypothesis: the differences of all seeds, their mean's interval, and the margin."""
    import seaborn as sns

    archive = Archive.of(archive)
    if missing(archive):
        return nothing()
    of_all = []
    for h in HYPOTHESES:
        of_seeds = pd.DataFrame({"nats": differences(archive, h)})
        of_all.append(of_seeds.assign(method=h.method.upper(), metric=h.metric, is_mean=True))
    places = {"x": "nats", "y": "method", "order": ["MIWAE", "PIWAE", "CIWAE", "VAE"]}
    panels = {"col": "metric", "col_order": METRIC_TITLES}
    colours = {method.upper(): colour for method, colour in COLOURS.items()}
    seeds = {"hue": "method", "palette": colours, "legend": False, "size": 2.2, "alpha": 0.7}
    grid = sns.catplot(pd.concat(of_all), kind="swarm", **panels, **places, **seeds)
    below = {"hue": "is_mean", "hue_order": [False, True], "dodge": 0.7, "palette": [INK, INK]}
    interval = {"errorbar": _ends, "linestyle": "none", "markersize": 4, "legend": False}
    grid.map_dataframe(sns.pointplot, **places, **below, **interval)
    grid.refline(x=0, color=GREY, linewidth=0.8, linestyle="-")
    for h in HYPOTHESES:
        place = places["order"].index(h.method.upper())
        margin = {"color": GREY, "linestyle": ":"}
        grid.axes_dict[h.metric].vlines(h.margin, place - 0.4, place + 0.4, **margin)
    _mark_rows_of_no_prediction(grid.axes_dict, places["order"])
    for metric, ax in grid.axes_dict.items():
        ax.set(title=METRIC_TITLES[metric], xlabel="nats ahead of IWAE", ylabel="")
        ax.margins(x=0.05)
    grid.figure.set_size_inches(8, 3)
    return grid.figure


def _mark_rows_of_no_prediction(axes: dict, methods: Sequence[str]) -> None:
    """Say in a panel's row that nothing was predicted of its method's metric."""
    predicted = {(h.metric, h.method.upper()) for h in HYPOTHESES}
    for metric, method in product(METRIC_TITLES, methods):
        if (metric, method) not in predicted:
            look = {"ha": "center", "va": "center", "fontsize": 8, "backgroundcolor": "white"}
            axes[metric].text(0, method, "nothing predicted", **look)


def _ends(differences: pd.Series) -> tuple[float, float]:
    """Both ends of the interval of a mean, for seaborn."""
    interval = family_interval(differences.to_numpy())
    return interval.low, interval.high
