"""Estimates: numbers with their errors, from seeds and from test images.

A number is judged as an ``Estimate`` and becomes text once, where it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, localcontext
from enum import Enum
from typing import NamedTuple

import numpy as np

from repro import plural
from repro.records import Record

CLEAR = 3.0  # standard errors beyond which a difference is called significant
ENOUGH = 3  # degrees of freedom from which on a standard deviation between seeds is used


class ErrorOf(Enum):
    """The source of variation that a standard error describes."""

    IMAGES = "the choice of test images"
    SEEDS = "the training"
    DRAWS = "the choice of drawers, problems, batches or betas"
    SPREAD = "no error, but the standard deviation of single values"


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error (None if unknown) and that error's degrees of freedom.

    ``seeds`` counts the trainings behind it, and ``error_of`` names the error's origin (None if
    unknown); a SPREAD has a standard deviation in place of an error. ``digits`` counts the decimals
    that are shown.

    >>> best = Estimate(-86.1234, 0.2)
    >>> print(best, best.shown_with(1), sep="; ")
    −86.12 ± 0.20; −86.1 ± 0.2
    """

    value: float
    se: float | None = None
    dof: float = math.inf
    seeds: int = 1
    error_of: ErrorOf | None = None
    digits: int = 2

    @classmethod
    def mean_of(
        cls, values: np.ndarray, error_of: ErrorOf, seeds: int = 1, digits: int = 2
    ) -> Estimate:
        """The mean of independent values, one for each image or draw."""
        se = float(np.std(values, ddof=1) / np.sqrt(len(values)))
        return cls(float(np.mean(values)), se, len(values) - 1, seeds, error_of, digits)

    def shown_with(self, digits: int) -> Estimate:
        """The same estimate, printed with ``digits`` decimals."""
        return replace(self, digits=digits)

    def __neg__(self) -> Estimate:
        return replace(self, value=-self.value)

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two independent estimates; ``paired_difference`` is for paired ones."""
        if self.error_of is not other.error_of or self.error_of is ErrorOf.SPREAD:
            raise ValueError(f"{self.error_of} and {other.error_of} make no standard error")
        se = None
        if self.se is not None and other.se is not None:
            se = math.hypot(self.se, other.se)
        dof = min(self.dof, other.dof)
        return replace(self, value=self.value - other.value, se=se, dof=dof)

    def beyond(self, errors: float) -> bool | None:
        """True if it is above 0 with the significance of ``errors`` normal standard errors.

        The test is Student's t with the error's degrees of freedom; None without a standard error.

        >>> Estimate(0.4, 0.1).beyond(3.0), Estimate(0.4, 0.1, dof=3).beyond(3.0)
        (True, False)
        """
        if self.se is None or self.error_of is ErrorOf.SPREAD:
            return None
        return bool(self.value > self.half_width(errors))

    def half_width(self, errors: float) -> float:
        """Half of the interval that holds with the probability of ``errors`` normal ones.

        >>> f"{Estimate(0.4, 0.1).half_width(3.0):.2f}"
        '0.30'
        """
        from scipy import stats

        return float(stats.t.isf(stats.norm.sf(errors), self.dof) * self.se)

    def chance(self) -> float:
        """The two-sided p-value of the hypothesis that the true value is 0, by Student's t."""
        from scipy import stats

        return float(2 * stats.t.sf(abs(self.value) / self.se, self.dof))

    def __format__(self, spec: str) -> str:
        """``{e:.3f}`` is value ± standard error with three decimals; ``{e}`` with its own."""
        digits = int(spec[1:-1]) if spec else self.digits
        if self.se is None:
            return number(self.value, digits)
        return f"{number(self.value, digits)} ± {number(self.se, digits)}{self._seeds()}"

    def _seeds(self) -> str:
        if self.seeds == 1:
            return ""
        if self.error_of is ErrorOf.IMAGES:
            return f" ({self.seeds} seeds, ± over images)"
        return f" ({self.seeds} seeds)"

    def __str__(self) -> str:
        return f"{self}"


class _NotRun:
    """Stands where there is no record."""

    def __str__(self) -> str:
        return "not run"

    def __bool__(self) -> bool:
        return False


NOT_RUN = _NotRun()


def number(value: float, digits: int = 2) -> str:
    """Text of ``value`` with ``digits`` decimals and a true minus sign, never "−0"."""
    if not math.isfinite(value):
        return str(value)
    with localcontext(prec=400):  # the largest number has 309 digits
        exact = Decimal(repr(float(value)))
        text = str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def added_errors(*errors: tuple[float, float]) -> tuple[float, float]:
    """The standard error of a sum of independent parts, and its degrees of freedom.

    Each part has a standard error and degrees of freedom of its own (Welch and Satterthwaite).
    """
    variances = np.square([se for se, _ in errors])
    total = variances.sum()
    if not total:
        return 0.0, math.inf
    shares = variances / total
    dof = 1 / sum(shares**2 / [dof for _, dof in errors])
    return float(total**0.5), float(dof)


class Pooled(NamedTuple):
    """The random-effects mean of several comparisons, and Cochran's test of homogeneity."""

    mean: Estimate
    count: int
    q: float  # chi-squared with count - 1 degrees of freedom, if all are of one difference

    def __str__(self) -> str:
        apart = f"χ² = {number(self.q, 1)} with {plural(self.count - 1, 'degree')} of freedom"
        return f"{self.mean} ({self.count} comparisons, {apart})"


def pooled(found: Sequence[Estimate]) -> Pooled:
    """The random-effects mean of comparisons whose values are independent.

    With two or three comparisons the variance between them is hardly known.
    The variance between comparisons is Paule and Mandel's. The mean's error has two parts: from the
    comparisons' own errors, with the fewest degrees of freedom of them, since they may come from
    one fit; and from that variance, with one degree of freedom less than comparisons.
    """
    values = np.array([e.value for e in found])
    variances = np.square([e.se for e in found])
    between = _variance_between(values, variances)
    weights = 1 / (variances + between)
    shares = weights / weights.sum()
    own = (float(np.sqrt(shares**2 @ variances)), min(e.dof for e in found))
    other = (float(np.sqrt((shares**2).sum() * between)), len(found) - 1)
    se, dof = added_errors(own, other)
    mean = Estimate(float(shares @ values), se, dof, error_of=ErrorOf.SEEDS)
    return Pooled(mean, len(found), _chi_squared(values, variances))


def _chi_squared(values: np.ndarray, variances: np.ndarray) -> float:
    """Cochran's Q."""
    weights = 1 / variances
    return float(weights @ (values - np.average(values, weights=weights)) ** 2)


def _variance_between(values: np.ndarray, variances: np.ndarray) -> float:
    """The addition to each variance with which Q is its expectation, or 0."""
    from scipy.optimize import brentq

    def excess(more: float) -> float:
        return _chi_squared(values, variances + more) - (len(values) - 1)

    return brentq(excess, 0.0, np.var(values, ddof=1)) if excess(0.0) > 0 else 0.0


class Share(NamedTuple):
    """A ratio of two means and both ends of its confidence interval, which may be infinite."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """The ratio and its interval in percent."""
        value, low, high = (number(100 * end, 0) for end in self)
        return f"{value} % ({low} to {high})"


def share_of(part: np.ndarray, whole: np.ndarray, level: float = 0.95) -> Share:
    """Mean of ``part`` over the mean of ``whole``, each [seed], with Fieller's interval.

    It holds the ratios r for which Student's t does not tell the mean of part - r whole from 0. It
    is the whole real line if the mean of ``whole`` does not differ significantly from 0.
    """
    from scipy import stats

    n = len(part)
    bound = stats.t.isf((1 - level) / 2, n - 1) ** 2 / n
    covariance = bound * np.cov(part, whole)
    means = np.array([np.mean(part), np.mean(whole)])
    (of_part, of_both), (_, of_whole) = np.outer(means, means) - covariance
    ratio = float(means[0] / means[1])
    if of_whole <= 0:
        return Share(ratio, -math.inf, math.inf)
    half = math.sqrt(of_both**2 - of_part * of_whole)
    return Share(ratio, float((of_both - half) / of_whole), float((of_both + half) / of_whole))


def estimate_of(measured: dict[str, float]) -> Estimate:
    """Make an Estimate of ``measured``, a metric of one record with its error over test images."""
    return Estimate(measured["value"], measured["se"], error_of=ErrorOf.IMAGES)


def over_seeds(
    records: Sequence[Record], metric: str, among: Sequence[Record] = (), digits: int = 2
) -> Estimate | _NotRun:
    """A metric's mean over the seeds of one experiment, with its standard error.

    The error is between seeds, ``seed_spread`` / sqrt(seeds), if these records, with others
    ``among`` which they are shown, are enough for it. Otherwise it is over the test images, each
    averaged over the seeds. If single images were not kept, the mean of the seeds' own errors is
    given, which is an upper bound.
    """
    if not records:
        return NOT_RUN
    found = [r.metrics[metric] for r in records]
    value = float(np.mean([m["value"] for m in found]))
    seeds = len(records)
    spread, dof = seed_spread([*records, *among], metric)
    if dof:
        return Estimate(value, spread / seeds**0.5, dof, seeds, ErrorOf.SEEDS, digits)
    by_image = [images_of(r, metric) for r in records]
    if seeds > 1 and all(images is not None for images in by_image):
        error = Estimate.mean_of(np.mean(by_image, axis=0), ErrorOf.IMAGES, seeds, digits)
        return replace(error, value=value)
    bound = float(np.mean([m["se"] for m in found]))
    return Estimate(value, bound, error_of=ErrorOf.IMAGES, seeds=seeds, digits=digits)


def paired_difference(
    a: Sequence[Record], b: Sequence[Record], metric: str, among: Sequence[Record] = ()
) -> Estimate | _NotRun:
    """Mean of ``metric`` in a minus b over the seeds that both have, with its paired error.

    The error is between seeds, sqrt(2 / seeds) times the paired ``seed_spread``, if these records,
    with others ``among`` which they are shown, are enough for it. Otherwise it is over the test
    images, each averaged over the seeds; and unknown if single images were not kept.
    """
    by_seed = {r.experiment.seed: r for r in b}
    pairs = [(r, by_seed[r.experiment.seed]) for r in a if r.experiment.seed in by_seed]
    return _difference(pairs, metric, [*a, *b, *among]) if pairs else NOT_RUN


def _difference(pairs: Sequence, metric: str, among: Sequence[Record]) -> Estimate:
    """The mean difference of pairs; its error between seeds, or over images, or unknown."""
    seeds = len(pairs)
    differences = [x.metrics[metric]["value"] - y.metrics[metric]["value"] for x, y in pairs]
    value = float(np.mean(differences))
    of_one_seed = all(x.experiment.seed == y.experiment.seed for x, y in pairs)
    spread, dof = seed_spread(among, metric, paired=of_one_seed)
    if dof:
        return Estimate(value, spread * (2 / seeds) ** 0.5, dof, seeds, ErrorOf.SEEDS)
    if not all(_of_the_same_images(x, y, metric) for x, y in pairs):
        return Estimate(value, None, 0, seeds)
    by_image = [images_of(x, metric) - images_of(y, metric) for x, y in pairs]
    error = Estimate.mean_of(np.mean(by_image, axis=0), ErrorOf.IMAGES, seeds)
    return replace(error, value=value)


def apart(
    pairs: Sequence[tuple[Record, Record]], metric: str, among: Sequence[Record] = ()
) -> Estimate:
    """Mean of ``metric`` in the first minus the second of each pair, as ``paired_difference``.

    Where single images were not kept, the error is that of independent images, an upper bound.
    """
    among = [r for r in among if metric in r.metrics]
    found = _difference(pairs, metric, [*sum(pairs, ()), *among])
    if found.se is None:
        first, second = (estimate_of(r.metrics[metric]) for r in pairs[0])
        found = replace(first - second, value=found.value, seeds=found.seeds)
    return found.shown_with(digits_of(metric))


def agrees(difference: Estimate) -> bool:
    """True if a difference is within ``CLEAR`` standard errors of 0, or 0 as it is printed.

    >>> agrees(Estimate(0.4, 0.1)), agrees(Estimate(0.2, 0.1)), agrees(Estimate(0.004, 0.001))
    (False, True, True)
    """
    seen = bool(round(difference.value, difference.digits))
    return not (seen and (difference.beyond(CLEAR) or (-difference).beyond(CLEAR)))


def digits_of(metric: str) -> int:
    """The number of decimals with which a metric is shown."""
    return 4 if metric.startswith("ssim") else 2


def _of_the_same_images(a: Record, b: Record, metric: str) -> bool:
    """True if both kept ``metric`` of single images, of the same binarisation."""
    if images_of(a, metric) is None or images_of(b, metric) is None:
        return False
    return np.array_equal(*((r.reconstructions or (None,))[0] for r in (a, b)))


def images_of(record: Record, metric: str) -> np.ndarray | None:
    """The values of ``metric`` for every test image, [n]; None if the record did not keep them."""
    if metric == "minus_kl" and record.images:
        return record.images["iwae_64"] - record.images["log_px"]
    return record.images.get(metric)


def seed_spread(shown: Sequence[Record], metric: str, paired: bool = False) -> tuple[float, int]:
    """Standard deviation of ``metric`` between seeds, pooled over archives' runs, and its dof."""
    runs = list({r.path or r.experiment: r for r in shown}.values())
    labels = [f"{r.path and r.path.parents[2]} {replace(r.experiment, seed=0)}" for r in runs]
    seeds = [r.experiment.seed for r in runs] if paired else None
    return pooled_spread(labels, [r.metrics[metric]["value"] for r in runs], seeds)


def pooled_spread(
    labels: Sequence, values: Sequence[float], seeds: Sequence[int] | None = None
) -> tuple[float, int]:
    """Standard deviation of values with one label, pooled over labels, and its degrees of freedom.

    (0, 0) if those are fewer than ``ENOUGH``: two seeds of one method are too few, but those of
    five methods together are enough. With ``seeds``, each seed has its own mean, too (methods and
    seeds as a two-way layout), and the standard deviation is that for paired differences.

    >>> pooled_spread(["a"] * 3 + ["b"] * 3, [1, 2, 3, 11, 12, 13])
    (1.0, 4)
    """
    factors = [np.asarray(f, str) for f in (labels, seeds) if f is not None]
    design = np.hstack([f[:, None] == np.unique(f) for f in factors]).astype(float)
    means, _, rank, _ = np.linalg.lstsq(design, np.asarray(values, float), rcond=None)
    dof = len(values) - int(rank)
    if dof < ENOUGH:
        return 0.0, 0
    residuals = values - design @ means
    return float(np.sqrt((residuals**2).sum() / dof)), dof
