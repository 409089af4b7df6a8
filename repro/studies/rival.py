"""A plan, written before the first of its runs: a rival of PIWAE, and the paper's reason.

**The rival** (``RIVAL``). Reweighted wake-sleep, IWAE under ``rws``, and IWAE under ``stl`` train
both networks for 40 epochs on MNIST with the reference model in single precision, seeds 2 to 6,
and keep their weights, beside IWAE, PIWAE and MIWAE under ``rep`` with the same seeds. log p(x) is
by annealed importance sampling of 1,000 test images (``likelihood_runs``), IWAE-64 of all test
images, and the gap is IWAE-64 minus log p(x) of the same 1,000.

**Encoders alone** (``OF_ENCODERS``). For the decoder of the report's IWAE, held as it is, encoders
are trained for 4 epochs with five seeds under each bound and estimator of ``ENCODERS``. They are
all of one precision and one kind of device: seeds 10 to 14 in TensorFloat-32 on an accelerator,
where ``rep`` and ``drep`` are there; else seeds 2 to 6 in single precision, all four anew. IWAE's
and CIWAE's gradients under ``rws`` differ by a factor, so that their difference is a check of the
runs and no result. log p(x) is one number for all encoders, so that a difference in IWAE-64 is one
of gaps, and a difference in the ELBO one of -KL(q||p).

**The reason** (``FOR_THE_PAPER``, ``AGAINST_IT``). Encoders alone again, for the same decoder, with
five seeds, some 12,000 updates each, and the learning rate as it is at the beginning. The ratio of
IWAE's gradient is raised to MIWAE(8,8)'s by averaging it over 13 times as many images: 13 is the
square of MIWAE's ratio over IWAE's in the report's IWAE, rounded up. ``ARMS``: IWAE and MIWAE, each
with 5, 20 and 260 images in a step, for 1, 4 and 52 epochs; and IWAE with 13 sets of 64 samples of
the same 20 images, which has the ratio that 260 give it but sees no more images. MIWAE with 5
images has half of its ratio with 20. What counts is the share of the way in IWAE-64 from IWAE to
MIWAE, both with 20 images, that IWAE with 260 goes, with Fieller's interval, 95 %, over the seeds.
The paper's reason stands if the share is at least ``FOR_THE_PAPER`` and the interval lies above
``AGAINST_IT``; the target differs, and not the ratio, if it is at most ``AGAINST_IT`` and the
interval lies below ``FOR_THE_PAPER``. Else both play a part, or the runs do not tell. If MIWAE
gains as much from 260 images as IWAE does, to within 0.1 nats, the share says nothing of the
reason, whatever it is. Adam divides a gradient by its size and so hides a part of its noise. The
arms with 20 and 260 images are run again with plain gradient descent, the learning rate of each the
best of ``SGD_RATES`` in IWAE-64 of the last 5,000 training images, which are held out, after about
a quarter of the updates with seed 0. A rate at which a training diverges has no record and cannot
be the best. (The plan had 0.003 to 0.3. From 0.01 on IWAE's search diverged within a few steps, and
at 0.003 it ended at -656 nats. So lower rates took their place, before any run but these.) The
verdict is Adam's; where gradient descent gives another, both are told.

**K** (``NUMBER_OF_SAMPLES``). Encoders alone with IWAE's bound at K = 8, 64 and 256 under all four
estimators, five seeds, 4 epochs. The metrics are of 64 samples whatever K is.

**Analysis.** Of each prediction the five differences of runs with one seed, their mean, and
Student's interval, widened so that all of one part hold together with 95 % (Bonferroni, as in
``preregistered``). A prediction holds if its interval lies above the margin, is refuted if it lies
below, and is undecided otherwise. Nothing is told before all runs of a part are there; no run is
left out. With five seeds an interval reaches some 2.3 standard deviations of a difference to each
side: about 0.5 nats in IWAE-64 with both networks (0.2 to 0.3 in ``preregistered``'s runs), and 1
with encoders alone (0.3 to 0.5). So a difference below that stays undecided, and is said to be.
What earlier runs have shown is what is written here beside a number; none had ``rws``.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import stats

from repro import plural
from repro.records import Archive
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, Share, number, over_seeds, share_of
from repro.studies.preregistered import LEVEL, Interval
from repro.studies.yardstick import BY_AIS, measured_of
from repro.words.experiments import Experiment, plan

SEEDS_OF_RIVAL = (2, 3, 4, 5, 6)
ENCODERS = {  # bound -> estimators; the VAE's has no ``rws``, and its ``stl`` is ``drep``
    "iwae": ("rep", "drep", "stl", "rws"),
    "miwae": ("rep", "drep", "stl", "rws"),
    "ciwae": ("rep", "drep", "stl", "rws"),
    "vae": ("rep", "drep"),
}
FOR_THE_PAPER = 0.8  # of the way, that more images alone must go
AGAINST_IT = 0.3
AS_MUCH = 0.1  # nats that MIWAE's gain from more images may lack of IWAE's, to be as much


class Prediction(NamedTuple):
    """The mean of ``metric`` of ``ahead`` minus that of ``behind`` is above ``margin``, in nats.

    Both are a bound under an estimator, "iwae rws", and with "at 256" K.
    """

    words: str
    ahead: str
    behind: str
    metric: str
    margin: float


RIVAL = (
    Prediction("Wake-sleep's gap is smaller than IWAE's", "iwae rws", "iwae rep", "gap", 0.1),
    Prediction("Its IWAE-64 is higher", "iwae rws", "iwae rep", "iwae_64", 0.1),
    Prediction("Its gap is smaller than PIWAE's", "iwae rws", "piwae rep", "gap", 0.1),
    Prediction("Its IWAE-64 is higher than PIWAE's", "iwae rws", "piwae rep", "iwae_64", 0.1),
    Prediction("Its decoder is not worse than PIWAE's", "iwae rws", "piwae rep", "log_p", -0.1),
    Prediction("Its decoder is not worse than IWAE's", "iwae rws", "iwae rep", "log_p", -0.1),
    Prediction("IWAE-64 is higher under stl", "iwae stl", "iwae rep", "iwae_64", 0.1),
    Prediction("It is not lower than PIWAE's", "iwae stl", "piwae rep", "iwae_64", -0.1),
)
OF_ENCODERS = (
    Prediction("IWAE's encoder is better under rws", "iwae rws", "iwae rep", "iwae_64", 0.1),
    Prediction("and better than under drep", "iwae rws", "iwae drep", "iwae_64", 0.1),
    Prediction("and not worse than MIWAE's", "iwae rws", "miwae rep", "iwae_64", -0.1),
    Prediction("It is better under stl than under drep", "iwae stl", "iwae drep", "iwae_64", 0.1),
    Prediction("MIWAE's is better under rws", "miwae rws", "miwae rep", "iwae_64", 0.1),
    Prediction("In the ELBO MIWAE's is ahead of rws", "miwae rep", "iwae rws", "elbo", 1.0),
)
NUMBER_OF_SAMPLES = (
    Prediction("More are worse under rep", "iwae rep at 8", "iwae rep at 256", "iwae_64", 0.1),
    Prediction("They are better under drep", "iwae drep at 256", "iwae drep at 8", "iwae_64", 0.1),
    Prediction("They are better under stl", "iwae stl at 256", "iwae stl at 8", "iwae_64", 0.1),
    Prediction("They are better under rws", "iwae rws at 256", "iwae rws at 8", "iwae_64", 0.1),
    Prediction("In the ELBO they are worse", "iwae rep at 8", "iwae rep at 256", "elbo", 1.0),
    Prediction("and under rws, too", "iwae rws at 8", "iwae rws at 256", "elbo", 1.0),
)


# The runs

WORDS_OF_BOTH = {"profile": "short", "dataset": "mnist", "seed": list(SEEDS_OF_RIVAL)}
WORDS_ALONE = WORDS_OF_BOTH | {"decoder": "iwae", "epochs": 4}


class Part(NamedTuple):
    """A part of a plan: its predictions, and the words that all of its runs share.

    The standard deviation behind an interval is of the prediction's own differences, or, with
    ``pooled``, of all sides together.
    """

    predictions: tuple[Prediction, ...]
    words: Mapping[str, object]
    pooled: bool = False

    @property
    def sides(self) -> list[str]:
        """Every bound under an estimator of which a prediction speaks."""
        return list(dict.fromkeys(side for p in self.predictions for side in (p.ahead, p.behind)))


PARTS_OF_PLAN = {
    "rival": Part(RIVAL, WORDS_OF_BOTH),
    "encoders": Part(OF_ENCODERS, WORDS_ALONE),
    "samples": Part(NUMBER_OF_SAMPLES, WORDS_ALONE),
}
ARMS = {  # of the reason -> the words of their runs
    f"{method}, {images} images": {"method": method, "batch_size": images, "epochs": epochs}
    for method in ("iwae", "miwae")
    for images, epochs in ((5, 1), (20, 4), (260, 52))
} | {"iwae, 13 sets of samples": {"method": "miwae", "M": 13, "K": 64, "epochs": 4}}
ARMS_OF = {  # an optimizer
    "adam": tuple(ARMS),
    "sgd": tuple(arm for arm, words in ARMS.items() if words.get("batch_size") in (20, 260)),
}
SGD_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # of gradient descent, of which each arm has its best
DIVERGED: tuple[tuple[str, float], ...] = ()  # arms and rates at which the search did


def runs_of_side(side: str, words: Mapping[str, object]) -> list[Experiment]:
    """The runs, one for each seed, of a side of a prediction.

    >>> [e.name for e in runs_of_side("iwae rws at 256", WORDS_ALONE)][0]
    'iwae-M1-K256-seed2-epochs4-rws-decoder-iwae'
    """
    method, estimator, *at = side.split()
    samples = {"K": at[1]} if at else {}
    return plan(method, estimator=estimator, **samples, **words)


def runs_of_arm(arm: str, rate: float | None = None) -> list[Experiment]:
    """The runs, one for each seed, of an arm of the reason: by Adam, or with a rate by SGD."""
    how = {} if rate is None else {"optimizer": "sgd", "learning_rate": rate}
    return plan(**WORDS_ALONE | {"schedule": "constant"} | ARMS[arm] | how)


def runs_of_search(arm: str) -> dict[float, Experiment]:
    """The shorter run at each of ``SGD_RATES``, among which an arm's rate is chosen.

    >>> {e.epochs for e in runs_of_search("iwae, 260 images").values()}
    {13}
    """
    found = {}
    for rate in SGD_RATES:
        e, *_ = runs_of_arm(arm, rate)
        found[rate] = replace(e, epochs=e.epochs // 4, seed=0, held_out=5000)
    return found


def chosen_rate(archive: Archive, arm: str) -> float | None:
    """The rate of SGD with the highest IWAE-64 of images held out; None before the search ends."""
    runs = {rate: e for rate, e in runs_of_search(arm).items() if (arm, rate) not in DIVERGED}
    scores = _values(archive, [*runs.values()], "iwae_64")
    return None if np.isnan(scores).any() else [*runs][scores.argmax()]


# What became of it


def lacking(archive: Archive, part: Part) -> list[Experiment]:
    """The runs of a part that have no record yet, or no likelihood that a prediction needs."""
    found = []
    for p in part.predictions:
        for e in (*runs_of_side(p.ahead, part.words), *runs_of_side(p.behind, part.words)):
            if np.isnan(_value(archive, e, p.metric)):
                found.append(e)
    return list(dict.fromkeys(found))


def _value(archive: Archive, e: Experiment, metric: str) -> float:
    """The value of a metric of a run; not a number if it is not there."""
    if not archive.holds(e):
        return np.nan
    record = archive.get(e)
    if metric not in BY_AIS:
        return record.metrics[metric]["value"]
    likelihoods = measured_of(archive, [record])
    return likelihoods[0].mean(*BY_AIS[metric]).value if likelihoods else np.nan


def _values(archive: Archive, runs: list[Experiment], metric: str) -> np.ndarray:
    return np.array([_value(archive, e, metric) for e in runs])


def interval_of_prediction(archive: Archive, part: Part, p: Prediction) -> Interval:
    """The mean of the differences with one seed, with an interval of its share of ``LEVEL``."""
    sides = (runs_of_side(side, part.words) for side in (p.ahead, p.behind))
    ahead, behind = (_values(archive, runs, p.metric) for runs in sides)
    of_seeds = ahead - behind
    n = len(of_seeds)
    deviation, freedom = of_seeds.std(ddof=1), n - 1
    if part.pooled:
        deviation, freedom = pooled_deviation(archive, part, p.metric)
    quantile = stats.t.isf((1 - LEVEL) / (2 * len(part.predictions)), freedom)
    half = float(quantile * deviation / n**0.5)
    mean = float(of_seeds.mean())
    return Interval(mean, mean - half, mean + half)


def pooled_deviation(archive: Archive, part: Part, metric: str) -> tuple[float, int]:
    """The standard deviation of a difference of two sides with one seed, from all sides at once.

    A value is its side's mean, plus what its seed has in common, plus a rest; the difference of two
    rests is meant. The second number is of the rests' degrees of freedom.
    """
    rows = [_values(archive, runs_of_side(side, part.words), metric) for side in part.sides]
    values = np.array(rows)
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    sides, seeds = values.shape
    freedom = (sides - 1) * (seeds - 1)
    return float(np.sqrt(2 * np.square(rest).sum() / freedom)), freedom


TITLES_OF_METRICS = {"iwae_64": "IWAE-64", "gap": "true gap", "log_p": "log p(x)", "elbo": "ELBO"}


def table_of_predictions(archive: Archive, name: str) -> str:
    """The predictions of a part of this plan, and what became of them."""
    return table_of(archive, PARTS_OF_PLAN[name])


def table_of(archive: Archive, part: Part) -> str:
    """The predictions of a part, and what became of them once all of its runs are there."""
    left = lacking(archive, part)
    lines = ["| prediction | score | must exceed | nats | outcome |", "|---|---|---|---|---|"]
    for p in part.predictions:
        outcome, nats = "not run yet", "–"
        if not left:
            interval = interval_of_prediction(archive, part, p)
            outcome, nats = f"**{interval.fate(p.margin)}**", str(interval)
        score = f"{TITLES_OF_METRICS[p.metric]}, {p.ahead} − {p.behind}"
        cells = (p.words, score, number(p.margin, 1), nats, outcome)
        lines.append(f"| {' | '.join(cells)} |")
    if left:
        lines += ["", f"Still to come: {plural(len(left), 'run')} of this part."]
    return "\n".join(lines)


def share_of_lead(archive: Archive, side: str, metric: str):
    """The share of PIWAE's lead over IWAE, both networks trained, that another side has, too.

    It is ``NOT_RUN`` until all runs of the part are there.
    """
    if lacking(archive, PARTS_OF_PLAN["rival"]):
        return NOT_RUN
    sides = ("iwae rep", side, "piwae rep")
    runs = (runs_of_side(each, WORDS_OF_BOTH) for each in sides)
    start, reached, end = (_values(archive, of_side, metric) for of_side in runs)
    return share_of(reached - start, end - start)


def table_of_samples(archive: Archive) -> str:
    """The scores of encoders on IWAE's bound by estimator and K, once all runs are there."""
    if lacking(archive, PARTS_OF_PLAN["samples"]):
        return ""
    lines = ["| estimator | score | K = 8 | K = 64 | K = 256 |", "|---|---|---|---|---|"]
    for metric, estimator in product(("iwae_64", "elbo"), ENCODERS["iwae"]):
        cells = [f"`{estimator}`", TITLES_OF_METRICS[metric]]
        for K in (8, 64, 256):
            runs = runs_of_side(f"iwae {estimator} at {K}", WORDS_ALONE)
            found = over_seeds([archive.get(e) for e in runs], metric)
            cells.append(str(replace(found, seeds=1)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def runs_of_arms(archive: Archive, optimizer: str) -> dict[str, list[Experiment]]:
    """The runs of each of an optimizer's arms; none before the rates of ``sgd`` are chosen."""
    arms = ARMS_OF[optimizer]
    if optimizer == "adam":
        return {arm: runs_of_arm(arm) for arm in arms}
    rates = {arm: chosen_rate(archive, arm) for arm in arms}
    if None in rates.values():
        return {}
    return {arm: runs_of_arm(arm, rate) for arm, rate in rates.items()}


def what_the_share_says(archive: Archive, optimizer: str = "adam") -> str:
    """The share of the way and its verdict, once the runs of every arm are there.

    The share is how far IWAE with 260 images gets from IWAE towards MIWAE, in IWAE-64.
    """
    runs = runs_of_arms(archive, optimizer)
    if not runs:
        return "not known yet; its learning rates are still to be chosen"
    left = sum(not archive.holds(e) for of_arm in runs.values() for e in of_arm)
    if left:
        return f"not known yet; {plural(left, 'run')} of this part are still to come"
    scores = {arm: _values(archive, of_arm, "iwae_64") for arm, of_arm in runs.items()}
    start, end = scores["iwae, 20 images"], scores["miwae, 20 images"]
    gain = scores["iwae, 260 images"] - start
    gain_of_miwae = scores["miwae, 260 images"] - end
    found = share_of(gain, end - start)
    gains = [Estimate.mean_of(g, ErrorOf.SEEDS) for g in (gain, gain_of_miwae)]
    verdict = verdict_of_share(found, float((gain_of_miwae - gain).mean()))
    return f"{found}: {verdict} (from more images IWAE gains {gains[0]} nats, MIWAE {gains[1]})"


def verdict_of_share(found: Share, more_to_miwae: float) -> str:
    """What a share says of the paper's reason.

    ``more_to_miwae`` is how much more MIWAE gains from more images than IWAE, in nats.

    >>> verdict_of_share(Share(0.9, 0.7, 1.1), more_to_miwae=-1.0)
    'the ratio is the reason'
    """
    if more_to_miwae >= -AS_MUCH:
        return "it says nothing of the reason, since MIWAE gains as much from more images"
    if found.value >= FOR_THE_PAPER and found.low > AGAINST_IT:
        return "the ratio is the reason"
    if found.value <= AGAINST_IT and found.high < FOR_THE_PAPER:
        return "the target differs, and not the ratio"
    return "both play a part, or the runs do not tell"
