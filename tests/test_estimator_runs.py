"""What training makes of bounds and estimators, from records that are made up."""

from dataclasses import replace

import pytest

from repro.experiments import plan
from repro.records import Archive
from repro.report.estimates import NOT_RUN
from repro.report.estimators import BOTH_EARLIER, ENCODER_ALONE, EstimatorRuns
from repro.report.prose import Numbers
from tests.helpers import write_record


def runs(method, **words):
    return plan(method, profile_name="short", **{"epochs": 13} | words)


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
    write_record(tmp_path, runs("miwae", decoder="iwae", epochs=4)[0], value=-70.0)
    write_record(tmp_path, runs("miwae", M=16)[0], value=-1.0)
    write_record(tmp_path, runs("miwae", precision="tf32")[0], value=-1.0)
    write_record(tmp_path, runs("miwae", epochs=4)[0], value=-1.0)
    write_record(tmp_path, runs("miwae", dataset="omniglot-lake")[0], value=-1.0)
    return tmp_path


@pytest.fixture
def found(folder):
    return EstimatorRuns(Archive(folder), BOTH_EARLIER)


def test_only_runs_that_can_be_compared_are(found):
    assert set(found.rows.method) == {"iwae", "piwae", "vae"}
    assert len(found.rows) == 8


def test_the_errors_are_between_seeds_pooled(found):
    """Variances 2, 0.5 and 0.5 of three pairs: the spread is 1."""
    spread, dof = found.spread("iwae_64")
    assert (spread, dof) == (pytest.approx(1.0), 3)
    mean = found.value("iwae", "rep", "iwae_64")
    assert (mean.value, mean.se, mean.seeds) == (-91, pytest.approx(0.5**0.5), 2)


def test_the_gain_is_that_of_independent_trainings(found):
    gain = found.gain("iwae", "iwae_64")
    assert (gain.value, gain.se) == (4, pytest.approx(1.5**0.5))
    apart = found.apart(("piwae", "rep"), ("iwae", "drep"), "log_px")
    assert apart.value == -1.5
    assert found.gain("piwae", "iwae_64") is NOT_RUN


def test_the_vaes_sticking_gradient_is_its_doubly_reparameterised_one(found):
    assert found.value("vae", "drep", "iwae_64").value == -79


def test_encoders_alone_are_another_setting(folder):
    alone = EstimatorRuns(Archive(folder), ENCODER_ALONE)
    assert [*alone.rows.method] == ["miwae"]
    assert alone.value("miwae", "rep", "iwae_64").se is None
    assert str(Numbers(str(folder)).alone("miwae", "rep")) == "−70.00"


def test_the_gap_is_the_difference_of_the_two_at_that_epoch(tmp_path):
    (e,) = runs("iwae", epochs=40)
    write_record(tmp_path, e)
    found = EstimatorRuns(Archive(tmp_path), BOTH_EARLIER)
    assert found.value("iwae", "rep", "minus_kl").value == 0
    assert replace(e, epochs=13) != e
