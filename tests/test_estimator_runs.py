"""What training makes of bounds and estimators, from records that are made up."""

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
LONGER = {"profile": "full", "epochs": 364, "precision": "tf32"}


def plant(folder, method, *values, **words):
    """Write a record for each value, of one seed after the other."""
    words = {"profile": "short", "epochs": 13} | words
    for seed, value in enumerate(values):
        write_record(folder, *plan(method, seed=seed, **words), value=value)


def earlier(folder):
    return EstimatorRuns(Archive(folder), BOTH_EARLIER)


@pytest.fixture
def folder(tmp_path):
    """Two seeds of IWAE, and PIWAE, under rep; IWAE under drep; one held decoder; some others."""
    plant(tmp_path, "iwae", -90.0, -92.0)
    plant(tmp_path, "piwae", -88.0, -89.0)
    plant(tmp_path, "vae", -80.0, -81.0, epochs=40)
    plant(tmp_path, "iwae", -87.0, estimator="drep")
    plant(tmp_path, "vae", -79.0, estimator="stl")
    plant(tmp_path, "miwae", -70.0, **ALONE)
    plant(tmp_path, "miwae", -1.0, M=16)
    others = {"precision": "tf32"}, {"epochs": 4}, {"dataset": "omniglot-lake"}, {"M": 2, "K": 2}
    others += {"batch_size": 50}, {"learning_rate": 1e-4}, {"schedule": "constant"}, {"hidden": 9}
    for words in others:
        plant(tmp_path, "miwae", -1.0, **words)
    return tmp_path


def test_only_runs_that_can_be_compared_are_and_their_errors_are_pooled(folder):
    """Variances 2, 0.5 and 0.5 of three pairs: the spread is 1."""
    found = earlier(folder)
    assert set(found.rows.bound) == {
        "iwae rep", "iwae drep", "piwae rep", "vae rep", "vae drep", "miwae(16,4) rep"
    }  # fmt: skip
    assert len(found.rows) == 9
    assert found.spread("iwae_64") == (pytest.approx(1.0), 3)
    mean = found.value("iwae rep", "iwae_64")
    assert (mean.value, mean.se, mean.seeds) == (-91, pytest.approx(0.5**0.5), 2)
    # The VAE's gradient without what is only noise is its doubly reparameterised one.
    assert found.value("vae drep", "iwae_64").value == -79


def test_the_gain_is_that_of_independent_trainings(folder):
    found = earlier(folder)
    gain = found.gain("iwae", "iwae_64")
    assert (gain.value, gain.se) == (4, pytest.approx(1.5**0.5))
    assert found.apart("piwae rep", "iwae drep", "log_px").value == -1.5
    assert found.gain("piwae", "iwae_64") is NOT_RUN


def test_encoders_alone_are_another_setting(folder):
    alone = EstimatorRuns(Archive(folder), ENCODER_ALONE)
    assert [*alone.rows.bound] == ["miwae rep"]
    found = alone.value("miwae rep", "iwae_64")
    assert (found.value, found.error_of, found.seeds) == (-70.0, ErrorOf.IMAGES, 1)
    assert str(Numbers(str(folder)).trained("miwae rep", "iwae_64", "alone")) == "−70.00 ± 0.10"


def test_the_table_has_each_bound_that_was_run_under_both_estimators(folder):
    table = tables.trained_estimators_earlier(Archive(folder))
    expected = [(title, m) for title in METRIC_TITLES.values() for m in ("iwae", "piwae", "vae")]
    for (title, method), (shown, bound) in zip(expected, table.index, strict=True):
        assert shown == title
        assert bound.startswith(BOUNDS[method])
    iwae, piwae, _ = (row for _, row in table.loc["IWAE-64"].iterrows())
    assert (iwae["rep"].value, iwae["drep"].value, iwae["difference"].value) == (-91, -87, 4)
    assert piwae["drep"] is NOT_RUN
    assert piwae["difference"] is NOT_RUN


def test_on_the_way_of_one_training_each_values_are_the_curves_and_no_error_is_known(tmp_path):
    assert earlier(tmp_path).spread("iwae_64") == (0.0, 0)
    for method, value in (("iwae", -73.0), ("miwae", -70.0)):
        plant(tmp_path, method, value, epochs=40)
    on_the_way = earlier(tmp_path)
    for metric, value in (("iwae_64", -70.0), ("log_px", -70.0), ("minus_kl", 0.0)):
        assert on_the_way.value("miwae rep", metric) == Estimate(value)
    assert on_the_way.apart("miwae rep", "iwae rep", "iwae_64") == Estimate(3.0)


# Bounds and estimators with seeds of their own


@pytest.fixture
def many_seeds(tmp_path):
    """Five seeds of IWAE under rep and four under drep, and two of PIWAE."""
    plant(tmp_path, "iwae", -90.0, -91.0, -92.0, -93.0, -94.0)
    plant(tmp_path, "iwae", -89.0, -89.2, -89.4, -89.6, estimator="drep")
    plant(tmp_path, "piwae", -80.0, -88.0)
    return earlier(tmp_path)


def test_four_seeds_or_more_have_an_error_of_their_own(many_seeds):
    """However much another bound's seeds differ."""
    own = 2.5**0.5 / 5**0.5
    expected = Estimate(-92.0, pytest.approx(own), 4, 5, ErrorOf.SEEDS)
    assert many_seeds.value("iwae rep", "iwae_64") == expected
    pooled = ((10 + 0.2 + 32) / 8) ** 0.5
    expected = Estimate(-84.0, pytest.approx(pooled / 2**0.5), 8, 2, ErrorOf.SEEDS)
    assert many_seeds.value("piwae rep", "iwae_64") == expected


def test_two_such_means_are_compared_by_welchs_test(many_seeds):
    """Welch and Satterthwaite's degrees of freedom, written out; else the fewer count."""
    of_rep, of_drep = 2.5 / 5, (0.2 / 3) / 4
    dof = (of_rep + of_drep) ** 2 / (of_rep**2 / 4 + of_drep**2 / 3)
    gain = many_seeds.gain("iwae", "iwae_64")
    assert (gain.value, gain.se, gain.dof) == pytest.approx((2.7, (of_rep + of_drep) ** 0.5, dof))
    assert (gain.seeds, gain.error_of) == (1, ErrorOf.SEEDS)
    apart = many_seeds.apart("piwae rep", "iwae rep", "iwae_64")
    assert (apart.value, apart.dof) == (8, 4)


def test_three_seeds_have_the_error_of_all(tmp_path):
    plant(tmp_path, "iwae", -90.0, -91.0, -92.0)
    plant(tmp_path, "piwae", -80.0, -84.0, -88.0)
    pooled = ((2 + 32) / 4) ** 0.5
    of_iwae = earlier(tmp_path).value("iwae rep", "iwae_64")
    assert of_iwae == Estimate(-91.0, pytest.approx(pooled / 3**0.5), 4, 3, ErrorOf.SEEDS)
    apart = earlier(tmp_path).apart("piwae rep", "iwae rep", "iwae_64")
    assert apart == Estimate(7.0, pytest.approx(pooled * (2 / 3) ** 0.5), 4, 1, ErrorOf.SEEDS)


def test_ciwae_with_another_beta_has_another_name(tmp_path):
    for beta, value in ((0.5, -90.5), (0.3, -90.3)):
        plant(tmp_path, "ciwae", value, beta=beta)
    found = earlier(tmp_path)
    assert found.value("ciwae rep", "iwae_64").value == -90.5
    assert found.value("ciwae rep", "log_px").value == -90.5
    assert found.value("ciwae(0.3) rep", "iwae_64").value == -90.3
    assert found.value("ciwae drep", "iwae_64") is NOT_RUN


def test_groups_lead_from_iwae_to_the_vae_for_miwae_and_not_for_piwae(tmp_path):
    """Each value is the number of groups, and PIWAE's is more by a half."""
    for method, M, value in (
        ("iwae", 1, 1.0),
        ("vae", 64, 64.0),
        ("miwae", 8, 8.0),
        ("miwae", 32, 32.0),
        ("piwae", 8, 8.5),
        ("piwae", 64, 64.5),
    ):
        plant(tmp_path, method, value, M=M, K=64 // M)
    for method, expected in (
        ("miwae", {1: 1, 8: 8, 32: 32, 64: 64}),
        ("piwae", {1: 1, 8: 8.5, 64: 64.5}),
    ):
        found = earlier(tmp_path).by_groups(method, "iwae_64")
        assert {M: e.value for M, e in found.items()} == expected


def test_one_training_each_is_compared_with_what_another_would_change(tmp_path):
    """The error has the training's noise in it, borrowed; another length changes nothing."""
    for words, values in ((LONGER, (-87.0, -86.0)), (LONGER | {"epochs": 3280}, (-80.0, -85.0))):
        for method, value in zip(("iwae", "piwae"), values, strict=True):
            plant(tmp_path, method, value, **words)
    numbers = Numbers(str(tmp_path))
    apart = numbers.trained_apart("piwae rep", "iwae rep", "iwae_64", "longer")
    noise = training_noise(numbers.archive, "piwae", "iwae", "iwae_64")
    assert (apart.value, apart.seeds, apart.se) == (1, 1, pytest.approx(noise.sd))
    assert numbers.trained("iwae rep", "iwae_64", "longer").error_of is ErrorOf.IMAGES


def test_the_table_and_the_prose_have_one_error_for_one_difference(tmp_path):
    for value, estimator in ((-87.0, "rep"), (-86.0, "drep")):
        plant(tmp_path, "iwae", value, estimator=estimator, **LONGER)
    in_prose = Numbers(str(tmp_path)).trained_apart("iwae drep", "iwae rep", "iwae_64", "longer")
    table = tables.trained_estimators_longer(str(tmp_path))
    assert table["difference"].iloc[0] == in_prose
    assert in_prose.error_of is ErrorOf.SEEDS


def test_the_share_that_was_closed_is_paired_on_the_seeds_of_all_three(tmp_path):
    plant(tmp_path, "iwae", -10.0, -11.0, -12.0, -50.0)
    plant(tmp_path, "iwae", -9.5, -10.4, -11.6, estimator="drep")
    plant(tmp_path, "piwae", -9.0, -10.0, -10.9)
    found = earlier(tmp_path)
    asked = ("iwae drep", "iwae rep", "piwae rep", "iwae_64")
    assert found.share_closed(*asked) == pytest.approx(share_of([0.5, 0.6, 0.4], [1.0, 1.0, 1.1]))
    assert found.trainings_behind(*asked[:2]) == "3 and 4 trainings"
    assert found.share_closed("vae drep", *asked[1:]) is NOT_RUN
