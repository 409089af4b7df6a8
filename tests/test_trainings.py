"""What another training would change of a difference, and how well that is known."""

import math

import numpy as np
import pytest
from scipy import stats

from repro.records import Archive
from repro.records.estimates import (
    NOT_RUN,
    ErrorOf,
    Estimate,
    Share,
    added_errors,
    number,
    share_of,
)
from repro.studies import evidence
from repro.studies.evidence import Deviation, counting_training, training_noise
from repro.studies.reported import TABLE1
from repro.words.experiments import plan
from tests.helpers import write_record

PIWAE = np.array([-88.0, -88.4, -88.6, -89.0])
IWAE = np.array([-90.0, -90.1, -90.9, -91.0])
ASKED = ("piwae", "iwae", "log_px")


@pytest.fixture
def archive(tmp_path):
    """Four seeds of two methods after 40 epochs in TF32, and runs that are no seeds of theirs."""
    in_tf32 = {"profile": "short", "precision": "tf32"}
    for method, values in (("piwae", PIWAE), ("iwae", IWAE)):
        for e, value in zip(plan(method, seed="0,1,2,3", **in_tf32), values, strict=True):
            write_record(tmp_path, e, value=value)
        (in_float32,) = plan(method, profile="short")
        (longer,) = plan(method, profile="short", epochs=60, precision="tf32", seed=9)
        (of_omniglot,) = plan(method, "omniglot-lake", seed=9, **in_tf32)
        for e in (in_float32, longer, of_omniglot):
            write_record(tmp_path, e, value=0.0)
    for e in plan("miwae", seed="0,1,2,3", **in_tf32):
        write_record(tmp_path, e, value=-10.0 * e.seed)
    return Archive(tmp_path)


def test_the_noise_of_trainings_is_between_our_pairs_of_seeds(archive, monkeypatch):
    monkeypatch.setitem(TABLE1["paper"], "reference", {})
    noise = training_noise(archive, "piwae", "iwae", "iwae_64")
    assert noise == (pytest.approx((PIWAE - IWAE).std(ddof=1)), 3)


def test_of_one_method_it_is_between_its_seeds(archive, monkeypatch):
    monkeypatch.setitem(TABLE1["paper"], "reference", {})
    noise = training_noise(archive, "iwae", "iwae", "iwae_64")
    assert noise == (pytest.approx(2**0.5 * IWAE.std(ddof=1)), 3)


@pytest.fixture
def printed(monkeypatch):
    """Four runs of two methods, which are further apart than ours."""
    found = {"iwae": Estimate(-86.0, 3.0), "piwae": Estimate(-85.0, 4.0)}
    monkeypatch.setitem(TABLE1["paper"], "reference", {"iwae_64": found})


def test_of_the_released_models_it_is_the_papers(archive, printed):
    """Four runs of two methods have three degrees of freedom each."""
    noise = training_noise(archive, "piwae", "iwae", "iwae_64", released=True)
    assert noise == (pytest.approx(2**0.5 * 12.5**0.5), 6)


def test_of_ours_it_is_ours_however_large_the_papers_is(archive, printed):
    """And of the released models where the paper prints none."""
    of_ours = (pytest.approx((PIWAE - IWAE).std(ddof=1)), 3)
    assert training_noise(archive, "piwae", "iwae", "iwae_64") == of_ours
    assert training_noise(archive, *ASKED, released=True) == of_ours


def test_without_trainings_of_ours_it_is_the_papers(tmp_path, printed):
    noise = training_noise(Archive(tmp_path), "piwae", "iwae", "iwae_64")
    assert noise == (pytest.approx(2**0.5 * 12.5**0.5), 6)


@pytest.mark.filterwarnings("error")
def test_without_trainings_and_without_the_paper_no_noise_is_known(tmp_path, monkeypatch):
    monkeypatch.setitem(TABLE1["paper"], "reference", {})
    noise = training_noise(Archive(tmp_path), "piwae", "iwae", "ssim")
    assert noise == (0, 0)
    over_images = Estimate(0.5, 0.3, dof=99, error_of=ErrorOf.IMAGES)
    assert counting_training(over_images, noise) is over_images


NOISE = Deviation(0.4, 19)  # in nats; as far as 19 degrees of freedom tell


def counted(estimate):
    return counting_training(estimate, NOISE)


def test_the_noise_is_known_with_what_its_own_fit_has():
    """Welch and Satterthwaite, written out; of images without end, the noise's share decides."""
    found = counted(Estimate(0.5, 0.3, dof=99, error_of=ErrorOf.IMAGES))
    dof = 0.25**2 / (0.09**2 / 99 + 0.16**2 / 19)
    assert found == Estimate(0.5, pytest.approx(0.5), pytest.approx(dof), 1, ErrorOf.SEEDS)
    many = counted(Estimate(0.5, 0.001, dof=9_999, error_of=ErrorOf.IMAGES))
    assert many.dof == pytest.approx(19, abs=0.01)


def test_three_and_a_third_errors_are_clear_with_many_degrees_of_freedom_and_not_with_19():
    exact = Estimate(1.34, 1e-9, dof=9_999, error_of=ErrorOf.IMAGES)
    assert counted(exact).beyond(3.0) is False
    assert counted(Estimate(1.40, 1e-9, dof=9_999, error_of=ErrorOf.IMAGES)).beyond(3.0) is True
    assert Estimate(1.34, 0.4, dof=1e6, error_of=ErrorOf.SEEDS).beyond(3.0) is True


def test_of_several_trainings_each_has_its_own_noise():
    found = counted(Estimate(0.5, 0.15, dof=99, seeds=4, error_of=ErrorOf.IMAGES))
    assert (found.se, found.seeds) == (pytest.approx(0.25), 4)


def test_what_counts_trainings_already_stays_as_it_is():
    between_seeds = Estimate(0.5, 0.1, error_of=ErrorOf.SEEDS)
    assert counted(between_seeds) is between_seeds
    assert evidence.difference(None, [], [], "log_px") is NOT_RUN


def test_added_errors_have_welchs_degrees_of_freedom():
    g = np.random.default_rng(0)
    a, b = g.normal(0, 1, 5), g.normal(0, 3, 7)
    parts = [(x.std(ddof=1) / len(x) ** 0.5, len(x) - 1) for x in (a, b)]
    se, dof = added_errors(*parts)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert dof == pytest.approx(welch.df)
    assert (a.mean() - b.mean()) / se == pytest.approx(welch.statistic)
    assert added_errors((0.0, 3), (0.0, 5)) == (0.0, math.inf)


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


def test_fiellers_interval_covers_as_often_as_it_says():
    g = np.random.default_rng(2)
    covered = 0
    for _ in range(1000):
        whole = g.normal(2, 0.5, 5)
        part = 0.3 * whole + g.normal(0.2, 0.3, 5)  # of means, 0.8 in 2
        share = share_of(part, whole)
        covered += share.low <= 0.4 <= share.high
    assert 930 <= covered <= 970


def test_a_share_of_what_is_level_with_0_is_not_bounded():
    share = share_of(np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 1.0]))
    assert share[1:] == (-math.inf, math.inf)
    assert str(Share(0.484, 0.35, 0.58)) == "48 % (35 to 58)"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(21.5, 0, "22"), (26.5, 0, "27"), (-26.5, 0, "−27"), (0.125, 2, "0.13"), (-0.004, 2, "0.00")],
)
def test_halves_are_rounded_away_from_0(value, digits, text):
    assert number(value, digits) == text
