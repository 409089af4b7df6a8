"""Comparisons put together: the random-effects mean, its error and what it says of their spread."""

import numpy as np
import pytest
from scipy import stats

from repro.records.estimates import CLEAR, ErrorOf, Estimate, pooled

DOF = 15  # of the fit from which all errors of a trial are borrowed
TRIALS = 800
VARIANCES = np.array([1.0, 1.0, 0.5, 0.5])  # two pipelines


def of(*values, se=1.0, dof=DOF):
    return [Estimate(value, se, dof, error_of=ErrorOf.SEEDS) for value in values]


def test_comparisons_that_agree_have_the_mean_by_inverse_variances():
    found = [Estimate(1.0, 0.1, 20), Estimate(1.1, 0.2, 15)]
    together = pooled(found)
    assert together.mean.value == pytest.approx((1.0 / 0.01 + 1.1 / 0.04) / 125)
    assert (together.mean.se, together.mean.dof) == (pytest.approx(125**-0.5), 15)
    assert together.count == 2
    assert together.q == pytest.approx(0.1**2 / 0.05)


def test_comparisons_with_equal_errors_that_disagree_have_the_error_of_their_own_spread():
    """Paule and Mandel's variance is then the sample's less the square of an error."""
    values = np.array([-3.0, 0.0, 1.0, 6.0])
    together = pooled(of(*values))
    assert together.mean.value == pytest.approx(values.mean())
    assert together.mean.se == pytest.approx(stats.sem(values))
    own, all_of_it = 1.0, values.var(ddof=1)
    dof = 1 / ((own / all_of_it) ** 2 / DOF + (1 - own / all_of_it) ** 2 / 3)
    assert together.mean.dof == pytest.approx(dof)
    assert together.q == pytest.approx(((values - values.mean()) ** 2).sum())


def test_with_unequal_errors_the_variance_between_brings_q_to_its_expectation():
    """Found here by halving; the mean is then the one that the variances sum to."""
    values, variances = np.array([0.0, 1.0, 3.0]), np.array([0.01, 0.04, 0.25])
    low, high = 0.0, 10.0
    for _ in range(60):
        between = (low + high) / 2
        weights = 1 / (variances + between)
        mean = np.average(values, weights=weights)
        too_far_apart = (weights * (values - mean) ** 2).sum() > 2
        low, high = (between, high) if too_far_apart else (low, between)
    found = [Estimate(v, s, DOF) for v, s in zip(values, variances**0.5, strict=True)]
    assert pooled(found).mean.value == pytest.approx(mean)
    assert pooled(found).mean.se == pytest.approx(weights.sum() ** -0.5)


def test_a_mean_of_comparisons_is_told_with_how_many_and_how_far_apart():
    assert str(pooled(of(1.0, 2.0))) == (
        "1.50 ± 0.71 (2 comparisons, χ² = 0.5 with 1 degree of freedom)"
    )
    assert str(pooled(of(1.0, 2.0, 3.0))) == (
        "2.00 ± 0.58 (3 comparisons, χ² = 2.0 with 2 degrees of freedom)"
    )


def trials(count, between, seed=0):
    """Means of comparisons of 0, and what each trial's settings differ by on average."""
    rng = np.random.default_rng(seed)
    variances = VARIANCES[:count]
    for _ in range(TRIALS):
        settings = rng.normal(0, between, count)
        values = settings + rng.normal(0, np.sqrt(variances))
        known = variances * rng.chisquare(DOF) / DOF
        found = [Estimate(v, s, DOF) for v, s in zip(values, known**0.5, strict=True)]
        yield pooled(found).mean, settings


def covers(mean, truth, level=0.95):
    return abs(mean.value - truth) < stats.t.isf((1 - level) / 2, mean.dof) * mean.se


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("between", [0.0, 0.5])
def test_the_interval_holds_as_often_as_it_says_where_settings_differ_by_half_an_error(
    count, between
):
    held = [covers(mean, 0.0) for mean, _ in trials(count, between)]
    assert 0.93 < np.mean(held) < 0.99


@pytest.mark.parametrize("count", [2, 3, 4])
def test_where_settings_differ_by_a_whole_error_it_holds_in_nine_cases_of_ten(count):
    held = [covers(mean, 0.0) for mean, _ in trials(count, 1.0)]
    assert 0.88 < np.mean(held) < 0.95


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("between", [0.0, 1.0, 2.0])
def test_for_the_settings_that_were_tried_it_holds_however_much_they_differ(count, between):
    """Their plain mean; the two last are known better, and weigh more."""
    held = [covers(mean, settings.mean()) for mean, settings in trials(count, between)]
    assert np.mean(held) > 0.93


def test_a_clear_mean_is_as_rare_as_a_clear_comparison_if_nothing_is_there():
    clear = [mean.beyond(CLEAR) or (-mean).beyond(CLEAR) for mean, _ in trials(3, 0.0)]
    assert sum(clear) < stats.binom.isf(0.001, TRIALS, 2 * stats.norm.sf(CLEAR))


def test_the_chance_of_a_value_is_students_on_both_sides():
    (found,) = of(2.131449546)
    assert found.chance() == pytest.approx(0.05)
    assert (-found).chance() == pytest.approx(0.05)
