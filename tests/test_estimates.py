"""A number is shown with its error and what that is of; seeds and test images give the error.

So do other trainings, several comparisons put together, and shares of a difference.
"""

import math
import operator

import numpy as np
import pytest
from scipy import stats

from repro.records import Archive
from repro.records.estimates import (
    CLEAR,
    NOT_RUN,
    ErrorOf,
    Estimate,
    Share,
    added_errors,
    estimate_of,
    number,
    over_seeds,
    paired_difference,
    pooled,
    seed_spread,
    share_of,
)
from repro.studies import evidence, tables
from repro.studies.evidence import Deviation, counting_training, training_noise
from repro.studies.reported import TABLE1
from repro.words.experiments import TABLE_METHODS, plan
from tests.helpers import record_in_memory, write_record

IMAGES, SEEDS, DRAWS, SPREAD = ErrorOf.IMAGES, ErrorOf.SEEDS, ErrorOf.DRAWS, ErrorOf.SPREAD


def numbers_of(estimate):
    """Value, standard error, its degrees of freedom, and the number of seeds."""
    return estimate.value, estimate.se, estimate.dof, estimate.seeds


def of_method(shown, method):
    return [r for r in shown if r.experiment.method == method]


# As text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-84.641, 2, "−84.64"),
        (-0.004, 2, "0.00"),
        (-0.0, 1, "0.0"),
        (21.5, 0, "22"),
        (26.5, 0, "27"),
        (-26.5, 0, "−27"),
        (0.125, 2, "0.13"),
        (-0.125, 2, "−0.13"),
        (math.nan, 2, "nan"),
        (-1e29, 1, f"−1{29 * '0'}.0"),
    ],
)
def test_a_number_has_a_true_minus_and_halves_are_rounded_away_from_0(value, digits, text):
    assert number(value, digits) == text


PRECISE = Estimate(0.81649, 0.00512, digits=3)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(-1.5, 0.25), "−1.50 ± 0.25"),
        (Estimate(-0.004, 0.25), "0.00 ± 0.25"),
        (-Estimate(0.0, 0.1), "0.00 ± 0.10"),
        (PRECISE, "0.816 ± 0.005"),
        (PRECISE.shown_with(1), "0.8 ± 0.0"),
        (Estimate(50.4, digits=0), "50"),
        (Estimate(-84.64), "−84.64"),
        (Estimate(-84.64, seeds=4), "−84.64"),
        (Estimate(-86.5, 0.29, 3, 4, SEEDS), "−86.50 ± 0.29 (4 seeds)"),
        (Estimate(-86.5, 0.29, 9999, 2, IMAGES), "−86.50 ± 0.29 (2 seeds, ± over images)"),
        (Estimate(-86.5, 0.29, 9999, 1, IMAGES), "−86.50 ± 0.29"),
        (NOT_RUN, "not run"),
        (Share(0.484, 0.35, 0.58), "48 % (35 to 58)"),
    ],
)
def test_an_estimate_is_told_with_what_is_known_of_its_error(estimate, text):
    assert str(estimate) == text


def test_digits_may_be_asked_for_where_an_estimate_is_told():
    assert f"{PRECISE} {PRECISE:.4f} {NOT_RUN}" == "0.816 ± 0.005 0.8165 ± 0.0051 not run"


def test_what_has_no_record_is_false_and_not_run():
    assert not NOT_RUN
    assert over_seeds([], "iwae_64") is NOT_RUN
    assert paired_difference([], [], "iwae_64") is NOT_RUN
    assert evidence.difference(None, [], [], "log_px") is NOT_RUN


# Arithmetic


def test_the_negative_keeps_all_that_is_known():
    of_error = {"dof": 3, "seeds": 4, "error_of": SEEDS, "digits": 3}
    assert -Estimate(-1.5, 0.25, **of_error) == Estimate(1.5, 0.25, **of_error)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Estimate(-84.0, 0.3, dof=20), Estimate(-86.0, 0.4, dof=5), (2.0, 0.5, 5)),
        (Estimate(-84.0, 0.3), Estimate(-86.0), (2.0, None, math.inf)),
        (Estimate(-86.0), Estimate(-84.0, 0.3), (-2.0, None, math.inf)),
    ],
)
def test_errors_of_independent_estimates_add_in_quadrature(first, second, expected):
    apart = first - second
    assert (apart.value, apart.se, apart.dof) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(SEEDS, IMAGES), (SPREAD, SPREAD), (IMAGES, SPREAD)])
def test_errors_of_different_kinds_make_none(first, second):
    a, b = (Estimate(1.0, 0.1, error_of=kind) for kind in (first, second))
    with pytest.raises(ValueError, match="make no standard error"):
        operator.sub(a, b)


def test_added_errors_have_welchs_degrees_of_freedom():
    g = np.random.default_rng(0)
    a, b = g.normal(0, 1, 5), g.normal(0, 3, 7)
    parts = [(x.std(ddof=1) / len(x) ** 0.5, len(x) - 1) for x in (a, b)]
    se, dof = added_errors(*parts)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert dof == pytest.approx(welch.df)
    assert (a.mean() - b.mean()) / se == pytest.approx(welch.statistic)
    assert added_errors((0.0, 3), (0.0, 5)) == (0.0, math.inf)


# Judgement


@pytest.mark.parametrize(
    ("estimate", "beyond"),
    [
        (Estimate(2.0, 0.5, dof=1), False),  # four standard errors, of two seeds
        (Estimate(2.0, 0.5, dof=10_000), True),
        (Estimate(1.6, 0.5), True),
        (Estimate(1.4, 0.5), False),
        (Estimate(-2.0, 0.5), False),
        # 3 normal standard errors leave 0.00135 above them; with 4 degrees of freedom 6.62 do.
        (Estimate(6.7, 1.0, dof=4), True),
        (Estimate(6.5, 1.0, dof=4), False),
        (Estimate(0.0, 0.0), False),
        (Estimate(2.0, None, dof=0), None),
        (Estimate(2.0), None),
        (Estimate(2.0, 0.5, error_of=SPREAD), None),  # no standard error
    ],
)
def test_beyond_is_by_students_t(estimate, beyond):
    assert estimate.beyond(3) is beyond


@pytest.mark.parametrize("value", [2.131449546, -2.131449546])
def test_the_chance_of_a_value_is_students_on_both_sides(value):
    assert Estimate(value, 1.0, 15).chance() == pytest.approx(0.05)


# From records


def planted(method, seeds, value=-90.0, se=0.3, images=None):
    """Records in memory of several seeds, whose metric is ``value`` plus the seed."""
    found = []
    for e in plan(method, seed=list(seeds), profile="short"):
        of_run = {"iwae_64": {"value": value + e.seed, "se": se, "sd": 9.0}}
        found.append(record_in_memory(e, of_run, images))
    return found


def test_a_metrics_error_and_that_of_one_seed_are_over_images():
    metric = {"value": -86.1, "se": 0.2, "sd": 20.0}
    assert estimate_of(metric) == Estimate(-86.1, 0.2, error_of=IMAGES)
    assert over_seeds(planted("iwae", [0]), "iwae_64") == Estimate(-90.0, 0.3, error_of=IMAGES)


def test_a_mean_of_values_says_all_that_is_known_of_it():
    found = Estimate.mean_of(np.array([1.0, 2.0, 6.0]), DRAWS, digits=4)
    assert found == Estimate(3.0, pytest.approx(7**0.5 / 3**0.5), 2, 1, DRAWS, 4)
    of_two = Estimate.mean_of(np.array([1.0, 3.0]), SEEDS, 2)
    assert (of_two.seeds, of_two.digits) == (2, 2)


@pytest.mark.parametrize(
    ("seeds", "images", "expected"),
    [
        ((0, 2, 4, 6), None, (-87.0, np.std([0, 2, 4, 6], ddof=1) / 2, 3, 4, SEEDS)),
        # The value is that of the metrics; single precision of the images only comes near.
        ((0, 1), [-91.0, -89.0, -90.0], (-89.5, 1 / 3**0.5, 2, 2, IMAGES)),
        ((0, 1), None, (-89.5, 0.3, math.inf, 2, IMAGES)),
    ],
)
def test_a_mean_over_seeds_says_all_that_is_known_of_it(seeds, images, expected):
    value, se, *rest = expected
    runs = planted("iwae", seeds, images=images and {"iwae_64": np.array(images)})
    found = over_seeds(runs, "iwae_64", digits=3)
    assert found == Estimate(value, pytest.approx(se), *rest, 3)
    assert over_seeds(runs, "iwae_64").digits == 2


def test_two_seeds_error_is_over_the_test_images_of_their_mean():
    """Neither seed's own error: their images differ in opposite ways, in part; so do their gaps."""
    log_px = np.array([-80.0, -95.0, -110.0])
    gaps = np.array([[-1.0, -2.0, -3.0], [-1.0, -4.0, -1.0]])
    runs = []
    for e, gap in zip(plan("iwae", seed="0,1", profile="short"), gaps, strict=True):
        images = {"iwae_64": log_px + gap, "log_px": log_px}
        own = {"iwae_64": images["iwae_64"], "minus_kl": gap}
        metrics = {name: {"value": values.mean(), "se": 9.0} for name, values in own.items()}
        runs.append(record_in_memory(e, metrics, images))
    for metric, by_image in (("iwae_64", log_px + gaps.mean(0)), ("minus_kl", gaps.mean(0))):
        error = by_image.std(ddof=1) / np.sqrt(3)
        expected = (pytest.approx(by_image.mean()), pytest.approx(error), 2, 2)
        assert numbers_of(over_seeds(runs, metric)) == expected


def test_differences_are_paired_over_images_or_between_seeds(tmp_path):
    for seed, shift in enumerate((1.0, 3.0, 1.0, 3.0)):
        write_record(tmp_path, plan("iwae", seed=seed, profile="short")[0], -90)
        write_record(tmp_path, plan("piwae", seed=seed, profile="short")[0], -90 + shift)
    shown = Archive(tmp_path).records("short")
    iwae, piwae = of_method(shown, "iwae"), of_method(shown, "piwae")
    of_four_seeds = (pytest.approx(2.0), pytest.approx(1 / 3**0.5), 3, 4)
    # Two seeds tell too little, so it is image by image then, of the mean of two seeds.
    for seeds, expected in ((1, (1.0, 0.0, 2, 1)), (2, (2.0, 0.0, 2, 2)), (4, of_four_seeds)):
        assert numbers_of(paired_difference(piwae[:seeds], iwae, "iwae_64")) == expected
    assert paired_difference(piwae[:1], iwae[1:], "iwae_64") is NOT_RUN
    cells = tables.as_strings(tables.paired_differences(Archive(tmp_path), [*piwae, *iwae]))
    shown_there = cells.loc[("mnist, reference", "IWAE-64, 4 seeds"), "PIWAE − IWAE"]
    assert shown_there == "2.00 ± 0.58"


def test_a_difference_whose_error_is_not_known_says_so():
    a, b = (planted(m, (0, 1), value) for m, value in (("iwae", -90.0), ("miwae", -91.0)))
    assert paired_difference(a, b, "iwae_64") == Estimate(1.0, None, 0, 2)


def test_only_images_of_one_binarisation_are_paired():
    """The value is that of the metrics; the images are a nat apart."""
    a, b = (planted(m, (3,), value) for m, value in (("iwae", -90.0), ("miwae", -91.5)))
    for (record,), shift in ((a, 0.0), (b, 1.0)):
        vars(record)["images"] = {"iwae_64": np.array([-5.0, -6.0, -8.0]) - shift}
        vars(record)["reconstructions"] = (np.zeros(3), np.zeros(3))
    assert paired_difference(a, b, "iwae_64") == Estimate(1.5, 0.0, 2, 1, IMAGES)
    vars(a[0])["reconstructions"] = (np.ones(3), np.zeros(3))
    assert paired_difference(a, b, "iwae_64") == Estimate(1.5, None, 0, 1)


@pytest.fixture(scope="module")
def two_way():
    """Records of five methods and three seeds, each with its own effect, and their values."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5, 3))
    values = noise + 3 * rng.normal(size=(5, 1)) + 2 * rng.normal(size=3)
    shown = []
    for method, row in zip(TABLE_METHODS, values, strict=True):
        for e, value in zip(plan(method, seed="0,1,2", profile="short"), row, strict=True):
            shown.append(record_in_memory(e, {"iwae_64": {"value": value, "se": 0.1}}))
    return shown, values


def test_the_spread_between_seeds_is_pooled_over_methods(two_way):
    """Against the sums of squares of a two-way layout: within methods, and the residuals."""
    shown, values = two_way
    vae, iwae = of_method(shown, "vae"), of_method(shown, "iwae")
    within = values - values.mean(1, keepdims=True)
    of_all = np.sqrt((within**2).sum() / 10)
    assert seed_spread(shown, "iwae_64") == (pytest.approx(of_all), 10)
    mean = over_seeds(vae, "iwae_64", shown)
    assert (mean.se, mean.error_of) == (pytest.approx(of_all / np.sqrt(3)), SEEDS)
    sd, dof = seed_spread(shown, "iwae_64", paired=True)
    left = np.sqrt(((within - within.mean(0)) ** 2).sum() / 8)
    assert (sd, dof) == (pytest.approx(left), 8)
    apart = paired_difference(vae, iwae, "iwae_64", shown)
    assert numbers_of(apart)[1:] == (pytest.approx(sd * np.sqrt(2 / 3)), 8, 3)


def test_with_one_run_missing_the_rest_still_tells_the_paired_spread(two_way):
    shown, _ = two_way
    fewer = [r for r in shown if (r.experiment.method, r.experiment.seed) != ("vae", 2)]
    sd, dof = seed_spread(fewer, "iwae_64", paired=True)
    assert dof == 7
    vae, iwae = of_method(fewer, "vae"), of_method(fewer, "iwae")
    apart = paired_difference(vae, iwae, "iwae_64", fewer)
    assert numbers_of(apart)[1:] == (pytest.approx(sd), 7, 2)


def test_too_few_seeds_tell_no_spread(two_way):
    shown, _ = two_way
    vae, iwae = of_method(shown, "vae"), of_method(shown, "iwae")
    assert seed_spread(iwae, "iwae_64") == (0.0, 0)
    assert seed_spread([*iwae, *vae], "iwae_64", paired=True) == (0.0, 0)


# What another training changes

PIWAE = np.array([-88.0, -88.4, -88.6, -89.0])
IWAE = np.array([-90.0, -90.1, -90.9, -91.0])
OF_PAIRS = (pytest.approx((PIWAE - IWAE).std(ddof=1)), 3)
OF_PAPER = (pytest.approx(2**0.5 * 12.5**0.5), 6)  # two methods have three degrees of freedom each


@pytest.fixture(scope="module")
def of_trainings(tmp_path_factory):
    """Four seeds of two methods after 40 epochs in TF32, and runs that are no seeds of theirs."""
    folder = tmp_path_factory.mktemp("trainings")
    in_tf32 = {"profile": "short", "precision": "tf32"}
    for method, values in (("piwae", PIWAE), ("iwae", IWAE)):
        for e, value in zip(plan(method, seed="0,1,2,3", **in_tf32), values, strict=True):
            write_record(folder, e, value=value)
        others = [
            *plan(method, profile="short"),
            *plan(method, epochs=60, seed=9, **in_tf32),
            *plan(method, "omniglot-lake", seed=9, **in_tf32),
        ]
        for e in others:
            write_record(folder, e, value=0.0)
    for e in plan("miwae", seed="0,1,2,3", **in_tf32):
        write_record(folder, e, value=-10.0 * e.seed)
    return Archive(folder)


@pytest.fixture
def printed(monkeypatch):
    """Four runs of two methods in the paper, which are further apart than ours."""
    found = {"iwae": Estimate(-86.0, 3.0), "piwae": Estimate(-85.0, 4.0)}
    monkeypatch.setitem(TABLE1["paper"], "reference", {"iwae_64": found})


@pytest.mark.parametrize(
    ("asked", "noise"),
    [
        (("piwae", "iwae", "iwae_64"), OF_PAIRS),  # of ours, however large the paper's is
        (("iwae", "iwae", "iwae_64"), (pytest.approx(2**0.5 * IWAE.std(ddof=1)), 3)),
        (("piwae", "iwae", "iwae_64", True), OF_PAPER),  # of the released models
        (("piwae", "iwae", "log_px", True), OF_PAIRS),  # where the paper prints none
    ],
)
def test_the_noise_of_trainings_is_that_of_those_who_trained(of_trainings, printed, asked, noise):
    assert training_noise(of_trainings, *asked) == noise


@pytest.mark.filterwarnings("error")
def test_without_trainings_of_ours_it_is_the_papers_and_without_that_unknown(tmp_path, printed):
    archive = Archive(tmp_path)
    assert training_noise(archive, "piwae", "iwae", "iwae_64") == OF_PAPER
    unknown = training_noise(archive, "piwae", "iwae", "ssim")
    assert unknown == (0, 0)
    over_images = Estimate(0.5, 0.3, dof=99, error_of=IMAGES)
    assert counting_training(over_images, unknown) is over_images


def counted(value, se, dof, seeds=1):
    """With a noise of 0.4 nats, as far as 19 degrees of freedom tell."""
    return counting_training(Estimate(value, se, dof, seeds, IMAGES), Deviation(0.4, 19))


def test_the_noise_is_known_with_what_its_own_fit_has():
    """Welch and Satterthwaite, written out; of images without end, the noise's share decides."""
    dof = 0.25**2 / (0.09**2 / 99 + 0.16**2 / 19)
    expected = Estimate(0.5, pytest.approx(0.5), pytest.approx(dof), 1, SEEDS)
    assert counted(0.5, 0.3, 99) == expected
    assert counted(0.5, 0.001, 9_999).dof == pytest.approx(19, abs=0.01)
    of_four = counted(0.5, 0.15, 99, seeds=4)  # each has its own noise
    assert (of_four.se, of_four.seeds) == (pytest.approx(0.25), 4)
    between_seeds = Estimate(0.5, 0.1, error_of=SEEDS)
    assert counting_training(between_seeds, Deviation(0.4, 19)) is between_seeds


def test_three_and_a_third_errors_are_clear_with_many_degrees_of_freedom_and_not_with_19():
    assert counted(1.34, 1e-9, 9_999).beyond(3.0) is False
    assert counted(1.40, 1e-9, 9_999).beyond(3.0) is True
    assert Estimate(1.34, 0.4, dof=1e6, error_of=SEEDS).beyond(3.0) is True


# Shares


def test_fiellers_interval_holds_the_ratios_that_are_level_with_the_data():
    """At its ends Student's t of part - r whole is the quantile; within it is less."""
    g = np.random.default_rng(1)
    whole = g.normal(2, 0.2, 5)
    part = 0.5 * whole + g.normal(0, 0.1, 5)
    share = share_of(part, whole)
    assert share.value == pytest.approx(part.mean() / whole.mean())
    quantile = stats.t.ppf(0.975, 4)
    for end in share[1:]:
        assert abs(stats.ttest_1samp(part - end * whole, 0).statistic) == pytest.approx(quantile)
    assert abs(stats.ttest_1samp(part - share.value * whole, 0).statistic) < 1e-9
    level = share_of(np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 1.0]))
    assert level[1:] == (-math.inf, math.inf)


# Comparisons put together

DOF = 15  # of the fit from which all errors of a trial are borrowed
TRIALS = 800
VARIANCES = np.array([1.0, 1.0, 0.5, 0.5])  # two pipelines


def of(*values):
    return [Estimate(value, 1.0, DOF, error_of=SEEDS) for value in values]


def test_comparisons_that_agree_have_the_mean_by_inverse_variances():
    together = pooled([Estimate(1.0, 0.1, 20), Estimate(1.1, 0.2, 15)])
    assert together.mean.value == pytest.approx((1.0 / 0.01 + 1.1 / 0.04) / 125)
    assert (together.mean.se, together.mean.dof) == (pytest.approx(125**-0.5), 15)
    assert together.count == 2
    assert together.q == pytest.approx(0.1**2 / 0.05)


def test_comparisons_with_equal_errors_that_disagree_have_the_error_of_their_own_spread():
    """Paule and Mandel's variance is then the sample's less the square of an error."""
    values = np.array([-3.0, 0.0, 1.0, 6.0])
    together = pooled(of(*values))
    share = 1 / values.var(ddof=1)
    dof = 1 / (share**2 / DOF + (1 - share) ** 2 / 3)
    expected = (values.mean(), stats.sem(values), dof)
    mean = together.mean
    assert (mean.value, mean.se, mean.dof) == pytest.approx(expected)
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
    found = pooled([Estimate(v, s, DOF) for v, s in zip(values, variances**0.5, strict=True)])
    assert (found.mean.value, found.mean.se) == pytest.approx((mean, weights.sum() ** -0.5))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.0, 2.0), "1.50 ± 0.71 (2 comparisons, χ² = 0.5 with 1 degree of freedom)"),
        ((1.0, 2.0, 3.0), "2.00 ± 0.58 (3 comparisons, χ² = 2.0 with 2 degrees of freedom)"),
    ],
)
def test_a_mean_of_comparisons_is_told_with_how_many_and_how_far_apart(values, text):
    assert str(pooled(of(*values))) == text


def trials(count, between):
    """Means of comparisons of 0, and what each trial's settings differ by on average."""
    rng = np.random.default_rng(0)
    variances = VARIANCES[:count]
    for _ in range(TRIALS):
        settings = rng.normal(0, between, count)
        values = settings + rng.normal(0, np.sqrt(variances))
        known = variances * rng.chisquare(DOF) / DOF
        found = [Estimate(v, s, DOF) for v, s in zip(values, known**0.5, strict=True)]
        yield pooled(found).mean, settings.mean()


def covers(mean, truth):
    return abs(mean.value - truth) < stats.t.isf(0.025, mean.dof) * mean.se


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    ("between", "least", "most"), [(0.0, 0.93, 0.99), (0.5, 0.93, 0.99), (1.0, 0.88, 0.95)]
)
def test_the_interval_holds_as_often_as_the_protocol_says(count, between, least, most):
    """As it says where settings differ by half an error, in nine cases of ten by a whole one."""
    assert least < np.mean([covers(mean, 0.0) for mean, _ in trials(count, between)]) < most


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("between", [0.0, 1.0, 2.0])
def test_for_the_settings_that_were_tried_it_holds_however_much_they_differ(count, between):
    """Their plain mean; the two last are known better, and weigh more."""
    assert np.mean([covers(*trial) for trial in trials(count, between)]) > 0.93


def test_a_clear_mean_is_as_rare_as_a_clear_comparison_if_nothing_is_there():
    clear = [mean.beyond(CLEAR) or (-mean).beyond(CLEAR) for mean, _ in trials(3, 0.0)]
    assert sum(clear) < stats.binom.isf(0.001, TRIALS, 2 * stats.norm.sf(CLEAR))
