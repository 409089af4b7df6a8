"""What training makes of bounds and estimators, from records that are made up."""

from dataclasses import replace

import pytest

from repro.records import Archive
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, share_of
from repro.studies import tables
from repro.studies.captions import METRIC_TITLES
from repro.studies.estimator_runs import BOTH_EARLIER, BOUNDS, ENCODER_ALONE, EstimatorRuns
from repro.studies.evidence import training_noise
from repro.studies.prose import Numbers
from repro.words.experiments import plan
from tests.helpers import write_record

ALONE = {"decoder": "iwae", "epochs": 4, "precision": "tf32"}


def runs(method, **words):
    return plan(method, profile="short", **{"epochs": 13} | words)


@pytest.fixture
def folder(tmp_path):
    """Two seeds of IWAE, and PIWAE, under rep; IWAE under drep; one held decoder; some others."""
    for value, e in zip((-90.0, -92.0), runs("iwae", seed="0,1"), strict=True):
        write_record(tmp_path, e, value=value)
    for value, e in zip((-88.0, -89.0), runs("piwae", seed="0,1"), strict=True):
        write_record(tmp_path, e, value=value)
    for value, e in zip((-80.0, -81.0), runs("vae", seed="0,1", epochs=40), strict=True):
        write_record(tmp_path, e, value=value)
    write_record(tmp_path, runs("iwae", estimator="drep")[0], value=-87.0)
    write_record(tmp_path, runs("vae", estimator="stl")[0], value=-79.0)
    write_record(tmp_path, runs("miwae", **ALONE)[0], value=-70.0)
    write_record(tmp_path, runs("miwae", M=16)[0], value=-1.0)
    write_record(tmp_path, runs("miwae", precision="tf32")[0], value=-1.0)
    write_record(tmp_path, runs("miwae", epochs=4)[0], value=-1.0)
    write_record(tmp_path, runs("miwae", dataset="omniglot-lake")[0], value=-1.0)
    return tmp_path


@pytest.fixture
def found(folder):
    return EstimatorRuns(Archive(folder), BOTH_EARLIER)


def test_only_runs_that_can_be_compared_are(found):
    assert set(found.rows.bound) == {
        "iwae rep", "iwae drep", "piwae rep", "vae rep", "vae drep", "miwae(16,4) rep"
    }  # fmt: skip
    assert len(found.rows) == 9


def test_the_errors_are_between_seeds_pooled(found):
    """Variances 2, 0.5 and 0.5 of three pairs: the spread is 1."""
    spread, dof = found.spread("iwae_64")
    assert (spread, dof) == (pytest.approx(1.0), 3)
    mean = found.value("iwae rep", "iwae_64")
    assert (mean.value, mean.se, mean.seeds) == (-91, pytest.approx(0.5**0.5), 2)


def test_the_gain_is_that_of_independent_trainings(found):
    gain = found.gain("iwae", "iwae_64")
    assert (gain.value, gain.se) == (4, pytest.approx(1.5**0.5))
    apart = found.apart("piwae rep", "iwae drep", "log_px")
    assert apart.value == -1.5
    assert found.gain("piwae", "iwae_64") is NOT_RUN


def test_the_vaes_sticking_gradient_is_its_doubly_reparameterised_one(found):
    assert found.value("vae drep", "iwae_64").value == -79


def test_encoders_alone_are_another_setting(folder):
    alone = EstimatorRuns(Archive(folder), ENCODER_ALONE)
    assert [*alone.rows.bound] == ["miwae rep"]
    found = alone.value("miwae rep", "iwae_64")
    assert (found.value, found.error_of, found.seeds) == (-70.0, ErrorOf.IMAGES, 1)
    assert str(Numbers(str(folder)).trained("miwae rep", "iwae_64", "alone")) == "−70.00 ± 0.10"


def test_on_the_way_of_one_training_each_no_error_is_known(tmp_path):
    for method, value in (("iwae", -73.0), ("miwae", -70.0)):
        write_record(tmp_path, runs(method, epochs=40)[0], value=value)
    on_the_way = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    assert on_the_way.value("miwae rep", "iwae_64") == Estimate(-70.0)
    assert on_the_way.apart("miwae rep", "iwae rep", "iwae_64") == Estimate(3.0)


def test_the_gap_is_the_difference_of_the_two_at_that_epoch(tmp_path):
    (e,) = runs("iwae", epochs=40)
    write_record(tmp_path, e)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    assert found.value("iwae rep", "minus_kl").value == 0
    assert replace(e, epochs=13) != e


# Bounds and estimators with seeds of their own


@pytest.fixture
def many_seeds(tmp_path):
    """Five seeds of IWAE under rep and four under drep, and two of PIWAE."""
    planted = (
        ("iwae", "rep", (-90.0, -91.0, -92.0, -93.0, -94.0)),
        ("iwae", "drep", (-89.0, -89.2, -89.4, -89.6)),
        ("piwae", "rep", (-80.0, -88.0)),
    )
    for method, estimator, values in planted:
        words = {"seed": list(range(len(values))), "estimator": estimator}
        for e, value in zip(runs(method, **words), values, strict=True):
            write_record(tmp_path, e, value=value)
    return EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)


def test_four_seeds_or_more_have_an_error_of_their_own(many_seeds):
    """However much another bound's seeds differ."""
    found = many_seeds.value("iwae rep", "iwae_64")
    own = 2.5**0.5 / 5**0.5
    assert found == Estimate(-92.0, pytest.approx(own), 4, 5, ErrorOf.SEEDS)
    of_two = many_seeds.value("piwae rep", "iwae_64")
    pooled = ((10 + 0.2 + 32) / 8) ** 0.5
    assert of_two == Estimate(-84.0, pytest.approx(pooled / 2**0.5), 8, 2, ErrorOf.SEEDS)


def test_three_seeds_have_the_error_of_all(tmp_path):
    for method, values in (("iwae", (-90.0, -91.0, -92.0)), ("piwae", (-80.0, -84.0, -88.0))):
        for e, value in zip(runs(method, seed="0,1,2"), values, strict=True):
            write_record(tmp_path, e, value=value)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    pooled = ((2 + 32) / 4) ** 0.5
    of_iwae = found.value("iwae rep", "iwae_64")
    assert of_iwae == Estimate(-91.0, pytest.approx(pooled / 3**0.5), 4, 3, ErrorOf.SEEDS)
    apart = found.apart("piwae rep", "iwae rep", "iwae_64")
    assert apart == Estimate(7.0, pytest.approx(pooled * (2 / 3) ** 0.5), 4, 1, ErrorOf.SEEDS)


def test_two_such_means_are_compared_by_welchs_test(many_seeds):
    """Welch and Satterthwaite's degrees of freedom, written out."""
    gain = many_seeds.gain("iwae", "iwae_64")
    of_rep, of_drep = 2.5 / 5, (0.2 / 3) / 4
    dof = (of_rep + of_drep) ** 2 / (of_rep**2 / 4 + of_drep**2 / 3)
    error = (of_rep + of_drep) ** 0.5
    expected = Estimate(
        pytest.approx(2.7), pytest.approx(error), pytest.approx(dof), 1, ErrorOf.SEEDS
    )
    assert gain == expected


def test_with_a_pooled_error_on_one_side_the_fewer_degrees_of_freedom_count(many_seeds):
    apart = many_seeds.apart("piwae rep", "iwae rep", "iwae_64")
    assert (apart.value, apart.dof) == (8, 4)


def test_ciwae_with_another_beta_has_another_name(tmp_path):
    for e in runs("ciwae", beta="0.3,0.5"):
        write_record(tmp_path, e, value=-90.0 - e.beta)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    assert found.value("ciwae rep", "iwae_64").value == -90.5
    assert found.value("ciwae rep", "log_px").value == -90.5
    assert found.value("ciwae(0.3) rep", "iwae_64").value == -90.3
    assert found.value("ciwae drep", "iwae_64") is NOT_RUN


def test_groups_lead_from_iwae_to_the_vae_for_miwae_and_not_for_piwae(tmp_path):
    """Each value is the number of groups, and PIWAE's is more by a half."""
    planted = (("iwae", 1.0), ("vae", 64.0))
    for method, value in planted:
        write_record(tmp_path, runs(method)[0], value=value)
    with_groups = (("miwae", 8, 8.0), ("miwae", 32, 32.0), ("piwae", 8, 8.5), ("piwae", 64, 64.5))
    for method, M, value in with_groups:
        write_record(tmp_path, runs(method, M=M, K=64 // M)[0], value=value)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    of_miwae = {M: e.value for M, e in found.by_groups("miwae", "iwae_64").items()}
    of_piwae = {M: e.value for M, e in found.by_groups("piwae", "iwae_64").items()}
    assert of_miwae == {1: 1, 8: 8, 32: 32, 64: 64}
    assert of_piwae == {1: 1, 8: 8.5, 64: 64.5}


def test_one_training_each_is_compared_with_what_another_would_change(tmp_path):
    """The error has the training's noise in it, borrowed; the images alone would give less."""
    words = {"profile": "full", "epochs": 364, "precision": "tf32"}
    for value, e in ((-87.0, plan("iwae", **words)[0]), (-86.0, plan("piwae", **words)[0])):
        write_record(tmp_path, e, value=value)
    numbers = Numbers(str(tmp_path))
    apart = numbers.trained_apart("piwae rep", "iwae rep", "iwae_64", "longer")
    assert apart.value == 1
    noise = training_noise(numbers.archive, "piwae", "iwae", "iwae_64")
    assert apart.se == pytest.approx(noise.sd)
    assert numbers.trained("iwae rep", "iwae_64", "longer").error_of is ErrorOf.IMAGES


def test_the_table_and_the_prose_have_one_error_for_one_difference(tmp_path):
    words = {"profile": "full", "epochs": 364, "precision": "tf32"}
    for value, estimator in ((-87.0, "rep"), (-86.0, "drep")):
        write_record(tmp_path, plan("iwae", estimator=estimator, **words)[0], value=value)
    in_prose = Numbers(str(tmp_path)).trained_apart("iwae drep", "iwae rep", "iwae_64", "longer")
    table = tables.trained_estimators_longer(str(tmp_path))
    assert table["difference"].iloc[0] == in_prose
    assert in_prose.error_of is ErrorOf.SEEDS


def test_the_share_that_was_closed_is_paired_on_the_seeds_of_all_three(tmp_path):
    planted = (
        ("iwae", "rep", (-10.0, -11.0, -12.0, -50.0)),
        ("iwae", "drep", (-9.5, -10.4, -11.6)),
        ("piwae", "rep", (-9.0, -10.0, -10.9)),
    )
    for method, estimator, values in planted:
        words = {"seed": list(range(len(values))), "estimator": estimator}
        for e, value in zip(runs(method, **words), values, strict=True):
            write_record(tmp_path, e, value=value)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    asked = ("iwae drep", "iwae rep", "piwae rep", "iwae_64")
    assert found.share_closed(*asked) == pytest.approx(share_of([0.5, 0.6, 0.4], [1.0, 1.0, 1.1]))
    assert found.trainings_behind(*asked[:2]) == "3 and 4 trainings"
    assert found.share_closed("vae drep", *asked[1:]) is NOT_RUN


def test_trainings_of_another_length_change_nothing_of_a_comparison(tmp_path):
    words = {"profile": "full", "precision": "tf32"}
    for epochs, values in ((364, (-87.0, -86.0)), (3280, (-80.0, -85.0))):
        for method, value in zip(("iwae", "piwae"), values, strict=True):
            write_record(tmp_path, plan(method, epochs=epochs, **words)[0], value=value)
    apart = Numbers(str(tmp_path)).trained_apart("piwae rep", "iwae rep", "iwae_64", "longer")
    assert (apart.value, apart.seeds) == (1, 1)


def test_the_table_has_each_bound_that_was_run_under_both_estimators(found):
    table = tables.trained_estimators_earlier(found.archive)
    expected = [(title, m) for title in METRIC_TITLES.values() for m in ("iwae", "piwae", "vae")]
    for (title, method), (shown, bound) in zip(expected, table.index, strict=True):
        assert shown == title
        assert bound.startswith(BOUNDS[method])
    iwae, piwae, _ = (row for _, row in table.loc["IWAE-64"].iterrows())
    assert (iwae["rep"].value, iwae["drep"].value, iwae["difference"].value) == (-91, -87, 4)
    assert piwae["drep"] is NOT_RUN
    assert piwae["difference"] is NOT_RUN


def test_without_seeds_no_spread_is_known(tmp_path):
    assert EstimatorRuns(Archive(tmp_path), BOTH_EARLIER).spread("iwae_64") == (0.0, 0)


def test_on_the_way_both_scores_and_the_gap_are_the_curves(tmp_path):
    (e,) = runs("iwae", epochs=40)
    write_record(tmp_path, e, value=-91.0)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    values = [found.value("iwae rep", m).value for m in ("iwae_64", "log_px", "minus_kl")]
    assert values == [-91.0, -91.0, 0.0]
