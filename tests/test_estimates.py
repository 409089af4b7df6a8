"""A number is shown with its error and what that is of; seeds and test images give the error."""

import math

import numpy as np
import pytest

from repro.records import Archive
from repro.records.estimates import (
    NOT_RUN,
    ErrorOf,
    Estimate,
    added_errors,
    estimate_of,
    number,
    over_seeds,
    paired_difference,
    seed_spread,
)
from repro.studies import tables
from repro.words.experiments import TABLE_METHODS, plan
from tests.helpers import record_in_memory, write_record


def numbers_of(estimate):
    """Value, standard error, its degrees of freedom, and the number of seeds."""
    return estimate.value, estimate.se, estimate.dof, estimate.seeds


def of_method(shown, method):
    return [r for r in shown if r.experiment.method == method]


# As text


def test_a_minus_is_a_true_one_and_no_zero_has_any():
    assert number(-84.641) == "−84.64"
    assert number(-0.004) == "0.00"
    assert number(-0.0, digits=1) == "0.0"
    assert str(Estimate(-1.5, 0.25)) == "−1.50 ± 0.25"
    assert str(Estimate(-0.004, 0.25)) == "0.00 ± 0.25"


def test_digits_are_the_estimates_own_if_no_others_are_asked_for():
    e = Estimate(0.81649, 0.00512, digits=3)
    assert str(e) == "0.816 ± 0.005"
    assert f"{e}" == "0.816 ± 0.005"
    assert f"{e:.4f}" == "0.8165 ± 0.0051"
    assert str(e.shown_with(1)) == "0.8 ± 0.0"
    assert str(Estimate(50.4, digits=0)) == "50"


def test_a_value_without_an_error_stands_alone():
    assert str(Estimate(-84.64)) == "−84.64"
    assert str(Estimate(-84.64, seeds=4)) == "−84.64"


def test_several_seeds_are_counted_and_an_error_over_images_says_that_it_is_one():
    between_seeds = Estimate(-86.5, 0.29, dof=3, seeds=4, error_of=ErrorOf.SEEDS)
    over_images = Estimate(-86.5, 0.29, dof=9999, seeds=2, error_of=ErrorOf.IMAGES)
    of_one_seed = Estimate(-86.5, 0.29, dof=9999, error_of=ErrorOf.IMAGES)
    assert str(between_seeds) == "−86.50 ± 0.29 (4 seeds)"
    assert str(over_images) == "−86.50 ± 0.29 (2 seeds, ± over images)"
    assert str(of_one_seed) == "−86.50 ± 0.29"


def test_what_has_no_record_is_false_and_not_run():
    assert not NOT_RUN
    assert str(NOT_RUN) == "not run"
    assert f"{NOT_RUN}" == "not run"
    assert over_seeds([], "iwae_64") is NOT_RUN
    assert paired_difference([], [], "iwae_64") is NOT_RUN


# Arithmetic


def test_the_negative_keeps_the_error():
    e = Estimate(-1.5, 0.25, dof=3, seeds=4, error_of=ErrorOf.SEEDS, digits=3)
    assert -e == Estimate(1.5, 0.25, dof=3, seeds=4, error_of=ErrorOf.SEEDS, digits=3)
    assert str(-Estimate(0.0, 0.1)) == "0.00 ± 0.10"


def test_errors_of_independent_estimates_add_in_quadrature():
    apart = Estimate(-84.0, 0.3, dof=20) - Estimate(-86.0, 0.4, dof=5)
    assert apart.value == 2.0
    assert apart.se == pytest.approx(0.5)
    assert apart.dof == 5


def test_a_difference_from_an_estimate_without_an_error_has_none():
    known, unknown = Estimate(-84.0, 0.3), Estimate(-86.0)
    assert (known - unknown).se is None
    assert (unknown - known).se is None
    assert (known - unknown).value == 2.0


# Judgement


def test_beyond_is_by_students_t():
    assert not Estimate(2.0, 0.5, dof=1).beyond(3)  # four standard errors, of two seeds
    assert Estimate(2.0, 0.5, dof=10_000).beyond(3)
    assert Estimate(1.6, 0.5).beyond(3)
    assert not Estimate(1.4, 0.5).beyond(3)
    assert not Estimate(-2.0, 0.5).beyond(3)
    # 3 normal standard errors leave 0.00135 above them; with 4 degrees of freedom 6.62 do.
    assert Estimate(6.7, 1.0, dof=4).beyond(3)
    assert not Estimate(6.5, 1.0, dof=4).beyond(3)


def test_without_an_error_nothing_is_beyond_or_not():
    assert Estimate(2.0, None, dof=0).beyond(3) is None
    assert Estimate(2.0).beyond(3) is None


def test_a_spread_of_single_values_is_no_standard_error():
    assert Estimate(2.0, 0.5, error_of=ErrorOf.SPREAD).beyond(3) is None


# From records


def test_one_seeds_error_is_over_the_test_images(tmp_path):
    (e,) = plan("iwae", profile="short")
    write_record(tmp_path, e, -90.0, 0.1)
    mean = over_seeds([Archive(tmp_path).get(e)], "iwae_64")
    assert mean.error_of is ErrorOf.IMAGES
    assert str(mean) == "−90.00 ± 0.10"


def test_two_seeds_error_is_over_the_test_images_of_their_mean_and_says_so():
    """Neither seed's own error: their images differ in opposite ways, in part."""
    runs = []
    by_image = np.array([[-92.0, -90.0, -88.0], [-91.0, -92.0, -93.0]])
    for e, images in zip(plan("iwae", seed="0,1", profile="short"), by_image, strict=True):
        own = {"value": images.mean(), "se": images.std(ddof=1) / np.sqrt(3), "sd": images.std()}
        runs.append(record_in_memory(e, {"iwae_64": own}, {"iwae_64": images}))
    mean = over_seeds(runs, "iwae_64")
    assert mean.value == pytest.approx(-91.0)
    assert mean.se == pytest.approx(by_image.mean(0).std(ddof=1) / np.sqrt(3))
    assert mean.seeds == 2
    assert mean.dof == 2
    assert mean.error_of is ErrorOf.IMAGES
    assert str(mean) == "−91.00 ± 0.29 (2 seeds, ± over images)"


def test_the_gap_of_two_seeds_has_its_error_from_the_gaps_of_the_images():
    runs = []
    gaps = np.array([[-1.0, -2.0, -3.0], [-1.0, -4.0, -1.0]])
    for e, gap in zip(plan("iwae", seed="0,1", profile="short"), gaps, strict=True):
        log_px = np.array([-80.0, -95.0, -110.0])
        images = {"iwae_64": log_px + gap, "log_px": log_px}
        runs.append(record_in_memory(e, {"minus_kl": {"value": gap.mean(), "se": 9.0}}, images))
    mean = over_seeds(runs, "minus_kl")
    assert mean.value == pytest.approx(-2.0)
    assert mean.se == pytest.approx(gaps.mean(0).std(ddof=1) / np.sqrt(3))


def test_differences_are_paired_over_images_or_between_seeds(tmp_path):
    for seed, shift in enumerate((1.0, 3.0, 1.0, 3.0)):
        write_record(tmp_path, plan("iwae", seed=seed, profile="short")[0], -90)
        write_record(tmp_path, plan("piwae", seed=seed, profile="short")[0], -90 + shift)
    shown = Archive(tmp_path).records("short")
    iwae, piwae = of_method(shown, "iwae"), of_method(shown, "piwae")
    of_one_seed = paired_difference(piwae[:1], iwae[:1], "iwae_64")
    assert numbers_of(of_one_seed) == (1.0, 0.0, 2, 1)
    # Two seeds tell too little, so this is image by image, of the mean of two seeds.
    of_two_seeds = paired_difference(piwae[:2], iwae, "iwae_64")
    assert numbers_of(of_two_seeds) == (2.0, 0.0, 2, 2)
    of_four_seeds = paired_difference(piwae, iwae, "iwae_64")
    expected = (pytest.approx(2.0), pytest.approx(1 / 3**0.5), 3, 4)
    assert numbers_of(of_four_seeds) == expected
    assert paired_difference(piwae[:1], iwae[1:], "iwae_64") is NOT_RUN
    cells = tables.as_strings(tables.paired_differences(Archive(tmp_path), [*piwae, *iwae]))
    shown_there = cells.loc[("mnist, reference", "IWAE-64, 4 seeds"), "PIWAE − IWAE"]
    assert shown_there == "2.00 ± 0.58"


@pytest.fixture
def two_way(tmp_path):
    """Records of five methods and three seeds, each with its own effect, and their values."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5, 3))
    of_methods = 3 * rng.normal(size=(5, 1))
    of_seeds = 2 * rng.normal(size=3)
    values = noise + of_methods + of_seeds
    for method, row in zip(TABLE_METHODS, values, strict=True):
        for e, value in zip(plan(method, seed="0,1,2", profile="short"), row, strict=True):
            write_record(tmp_path, e, -90 + value)
    return Archive(tmp_path).records("short"), values


def test_the_spread_between_seeds_is_pooled_over_methods(two_way):
    """Against the sum of squares within methods of a two-way layout."""
    shown, values = two_way
    within = values - values.mean(1, keepdims=True)
    pooled = np.sqrt((within**2).sum() / 10)
    assert seed_spread(shown, "iwae_64") == (pytest.approx(pooled), 10)
    mean = over_seeds(of_method(shown, "vae"), "iwae_64", shown)
    assert mean.se == pytest.approx(pooled / np.sqrt(3))
    assert mean.error_of is ErrorOf.SEEDS


def test_the_paired_spread_is_what_is_left_once_each_seed_has_its_own_mean(two_way):
    """Against the residual sum of squares of a two-way layout."""
    shown, values = two_way
    within = values - values.mean(1, keepdims=True)
    residuals = within - within.mean(0)
    sd, dof = seed_spread(shown, "iwae_64", paired=True)
    assert sd == pytest.approx(np.sqrt((residuals**2).sum() / 8))
    assert dof == 8
    apart = paired_difference(of_method(shown, "vae"), of_method(shown, "iwae"), "iwae_64", shown)
    assert numbers_of(apart)[1:] == (pytest.approx(sd * np.sqrt(2 / 3)), 8, 3)


def test_with_one_run_missing_the_rest_still_tells_the_paired_spread(two_way):
    shown, _ = two_way
    fewer = [r for r in shown if (r.experiment.method, r.experiment.seed) != ("vae", 2)]
    sd, dof = seed_spread(fewer, "iwae_64", paired=True)
    assert dof == 7
    vae, iwae = of_method(shown, "vae"), of_method(shown, "iwae")
    apart = paired_difference(vae[:2], iwae, "iwae_64", fewer)
    assert numbers_of(apart)[1:] == (pytest.approx(sd), 7, 2)


def test_too_few_seeds_tell_no_spread(two_way):
    shown, _ = two_way
    vae, iwae = of_method(shown, "vae"), of_method(shown, "iwae")
    assert seed_spread(iwae, "iwae_64") == (0.0, 0)
    assert seed_spread([*iwae, *vae], "iwae_64", paired=True) == (0.0, 0)


# Every field of an estimate, in every branch


def planted(method, seeds, value=-90.0, se=0.3, images=None):
    """Records in memory of several seeds, whose metric is ``value`` plus the seed."""
    found = []
    for e in plan(method, seed=list(seeds), profile="short"):
        of_run = {"iwae_64": {"value": value + e.seed, "se": se, "sd": 9.0}}
        found.append(record_in_memory(e, of_run, images))
    return found


def test_a_mean_of_values_says_all_that_is_known_of_it():
    found = Estimate.mean_of(np.array([1.0, 2.0, 6.0]), ErrorOf.DRAWS, digits=4)
    error = pytest.approx(7**0.5 / 3**0.5)
    assert found == Estimate(3.0, error, 2, 1, ErrorOf.DRAWS, 4)
    assert Estimate.mean_of(np.array([1.0, 3.0]), ErrorOf.SEEDS, 2).seeds == 2
    assert Estimate.mean_of(np.array([1.0, 3.0]), ErrorOf.SEEDS).digits == 2


def test_a_mean_over_seeds_that_tell_their_spread_says_all_that_is_known_of_it():
    found = over_seeds(planted("iwae", (0, 2, 4, 6)), "iwae_64", digits=3)
    spread = np.std([0, 2, 4, 6], ddof=1)
    expected = Estimate(-87.0, pytest.approx(spread / 2), 3, 4, ErrorOf.SEEDS, 3)
    assert found == expected
    assert over_seeds(planted("iwae", (0, 2, 4, 6)), "iwae_64").digits == 2


def test_a_mean_over_two_seeds_with_images_says_all_that_is_known_of_it():
    """The value is that of the metrics, which images rounded to single precision only come near."""
    images = {"iwae_64": np.array([-91.0, -89.0, -90.0])}
    found = over_seeds(planted("iwae", (0, 1), images=images), "iwae_64", digits=3)
    expected = Estimate(-89.5, pytest.approx(1 / 3**0.5), 2, 2, ErrorOf.IMAGES, 3)
    assert found == expected


def test_a_mean_over_two_seeds_without_images_says_all_that_is_known_of_it():
    found = over_seeds(planted("iwae", (0, 1), se=0.3), "iwae_64", digits=3)
    assert found == Estimate(-89.5, 0.3, seeds=2, error_of=ErrorOf.IMAGES, digits=3)


def test_a_difference_whose_error_is_not_known_says_so():
    a, b = (planted(m, (0, 1), value) for m, value in (("iwae", -90.0), ("miwae", -91.0)))
    assert paired_difference(a, b, "iwae_64") == Estimate(1.0, None, 0, 2)


def test_only_images_of_one_binarisation_are_paired(tmp_path):
    """Records are on disk here, because their inputs are compared."""
    (first,) = plan("iwae", profile="short")
    (second,) = plan("miwae", profile="short")
    paths = [write_record(tmp_path, e, value) for e, value in ((first, -90.0), (second, -89.0))]
    a, b = (Archive(tmp_path).read(path) for path in paths)
    found = paired_difference([b], [a], "iwae_64")
    assert found == Estimate(1.0, 0.0, 2, 1, ErrorOf.IMAGES)
    a.__dict__["images"] = {}
    assert paired_difference([b], [a], "iwae_64") == Estimate(1.0, None, 0, 1)


def test_a_difference_over_images_has_the_metrics_value():
    a, b = (planted(m, (3,), value) for m, value in (("iwae", -90.0), ("miwae", -91.5)))
    for record, shift in ((a[0], 0.0), (b[0], 1.0)):
        record.__dict__["images"] = {"iwae_64": np.array([-5.0, -6.0, -8.0]) - shift}
        record.__dict__["reconstructions"] = (np.zeros(3), np.zeros(3))
    found = paired_difference(a, b, "iwae_64")
    assert found == Estimate(1.5, 0.0, 2, 1, ErrorOf.IMAGES)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ErrorOf.SEEDS, ErrorOf.IMAGES),
        (ErrorOf.SPREAD, ErrorOf.SPREAD),
        (ErrorOf.IMAGES, ErrorOf.SPREAD),
    ],
)
def test_errors_of_different_kinds_make_none(first, second):
    a, b = (Estimate(1.0, 0.1, error_of=kind) for kind in (first, second))
    with pytest.raises(ValueError, match="make no standard error"):
        _ = a - b


def test_nothing_is_beyond_by_nothing():
    assert Estimate(0.0, 0.0).beyond(3) is False


def test_a_metrics_error_is_over_images():
    found = estimate_of({"value": -86.1, "se": 0.2, "sd": 20.0})
    assert found == Estimate(-86.1, 0.2, error_of=ErrorOf.IMAGES)


def test_a_number_is_rounded_away_from_zero_at_halves_and_shown_as_it_is_if_it_is_none():
    assert number(0.125) == "0.13"
    assert number(-0.125) == "−0.13"
    assert number(math.nan) == "nan"


def test_parts_without_an_error_add_up_to_none():
    assert added_errors((0.0, 3), (0.0, 5)) == (0.0, math.inf)
