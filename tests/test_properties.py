"""What must hold for any sizes and any log-weights, however extreme."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.bounds import METHODS
from repro.datasets import DRAWERS, load
from repro.estimators import cotangents
from repro.randomness import Streams
from repro.records import METRICS, Archive
from repro.training.program import learning_rate
from repro.words.experiments import MILESTONES, plan
from tests.helpers import write_record

BETWEEN = ("vae", "iwae", "miwae", "ciwae", "vr-iwae", "u-miwae")  # the VAE's bound and IWAE's
BETA = 0.3
many = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def log_weights(draw, spread=1e4):
    """Log-weights [M, K, batch], up to 2e4 nats apart."""
    sizes = draw(st.tuples(*[st.integers(1, 5)] * 3))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.floats(0, spread))
    middle = draw(st.floats(-spread, spread))
    return middle + scale * (2 * torch.rand(sizes, generator=g, dtype=torch.float64) - 1)


def bounds_of(method, log_w):
    """Theta's and phi's bound of a method, each [batch]."""
    return METHODS[method](log_w, log_w, BETA if METHODS[method].takes_beta else None)


def tolerance(log_w):
    return 1e-12 * (1 + log_w.abs().max())


@many
@given(log_weights())
def test_every_bound_lies_between_the_vaes_and_iwaes_for_every_draw(log_w):
    """By Jensen's inequality, sample for sample and not in expectation alone."""
    lowest, highest = bounds_of("vae", log_w)[0], bounds_of("iwae", log_w)[0]
    for method in BETWEEN:
        for bound in bounds_of(method, log_w):
            assert (bound >= lowest - tolerance(log_w)).all(), method
            assert (bound <= highest + tolerance(log_w)).all(), method
    assert (highest <= log_w.amax((0, 1)) + tolerance(log_w)).all()


@many
@given(log_weights(), st.floats(-1e4, 1e4))
def test_a_constant_in_all_log_weights_is_a_constant_in_every_bound(log_w, constant):
    for method in METHODS:
        for before, after in zip(
            bounds_of(method, log_w), bounds_of(method, log_w + constant), strict=True
        ):
            torch.testing.assert_close(after, before + constant, rtol=1e-10, atol=1e-8)


@many
@given(log_weights(spread=50.0))
def test_the_derivatives_of_every_bound_are_weights_that_sum_to_one(log_w):
    """They follow from the invariance above, and none is negative."""
    M, K, batch = log_w.shape
    for method in METHODS:
        counts = cotangents(log_w.flatten(0, 1), method, M, K, beta=BETA)
        for cotangent in (counts.theta, counts.phi):
            weights = -cotangent * batch
            assert (weights >= -1e-12).all(), method
            torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


@many
@given(log_weights(spread=50.0))
def test_the_order_of_samples_does_not_matter_to_bounds_without_groups(log_w):
    g = torch.Generator().manual_seed(0)
    M, K, _ = log_w.shape
    order = torch.randperm(M * K, generator=g)
    shuffled = log_w.flatten(0, 1)[order].unflatten(0, (M, K))
    for method in ("vae", "iwae", "ciwae", "vr-iwae"):
        for before, after in zip(
            bounds_of(method, log_w), bounds_of(method, shuffled), strict=True
        ):
            torch.testing.assert_close(after, before)


def test_a_sample_of_no_weight_is_nothing_to_iwae_and_ruin_to_the_vae():
    log_w = torch.zeros(2, 3, 1, dtype=torch.float64)
    log_w[0, 0] = -math.inf
    assert float(bounds_of("iwae", log_w)[0]) == pytest.approx(math.log(5 / 6))
    assert float(bounds_of("vae", log_w)[0]) == -math.inf


@pytest.mark.parametrize("method", METHODS)
def test_a_log_weight_that_is_not_a_number_is_not_hidden(method):
    log_w = torch.zeros(2, 3, 4, dtype=torch.float64)
    log_w[1, 2, 0] = math.nan
    for bound in bounds_of(method, log_w):
        assert bound[0].isnan()
        assert bound[1:].isfinite().all()


@many
@given(st.integers(0, MILESTONES[-1] - 1))
def test_the_learning_rate_never_rises_and_falls_at_milestones_only(epoch):
    rates = [learning_rate(epoch), learning_rate(epoch + 1)]
    assert rates[0] >= rates[1]
    falls = rates[0] > rates[1]
    assert falls == (epoch + 1 in MILESTONES[:-1])


@many
@given(
    st.sampled_from(["vae", "iwae", "miwae", "piwae", "ciwae", "ciwae-learned"]),
    st.integers(0, 10**9),
    st.integers(1, 50),
    st.sampled_from(["rep", "drep"]),
)
def test_different_runs_have_different_names(method, seed, epochs, estimator):
    """And the same words plan the same run."""
    words = {"seed": seed, "epochs": epochs, "estimator": estimator, "profile": "smoke"}
    (run,) = plan(method, **words)
    (again,) = plan(method, **words)
    assert run == again
    (other,) = plan(method, **words | {"seed": (seed + 1) % 10**9})
    assert other.name != run.name


numbers = st.floats(-1e4, -1e-3, allow_nan=False)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.sampled_from(["vae", "iwae", "miwae", "ciwae"]),
    st.integers(0, 10**9),
    st.integers(1, 5),
    st.sampled_from(["float32", "tf32"]),
    numbers,
    st.dictionaries(st.sampled_from(METRICS), numbers, max_size=3),
)
def test_a_record_is_read_as_it_was_written(
    tmp_path_factory, method, seed, epochs, precision, value, more
):
    """Every metric to the last bit, and the experiment that its folder's name stands for."""
    words = {"seed": seed, "epochs": epochs, "precision": precision, "profile": "smoke"}
    (e,) = plan(method, **words)
    also = {name: {"value": other, "se": 0.1, "sd": 0.2} for name, other in more.items()}
    folder = tmp_path_factory.mktemp("round")
    write_record(folder, e, value=value, also=also)
    (record,) = Archive(folder).records("smoke")
    assert record.experiment == e
    assert {m: record.metrics[m]["value"] for m in METRICS} == dict.fromkeys(METRICS, value) | more
    assert [*record.curve.epoch] == list(range(1, epochs + 1))
    assert (record.curve.iwae_64 == value).all()


@many
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 10**6))
def test_binarisation_is_unbiased_and_certain_at_both_ends(intensities, seed):
    """The mean of 2,000 draws is within five standard errors of the intensity."""
    draws = 2000
    image = torch.tensor(intensities).expand(1, draws, -1)
    drawn = Streams([seed], "test").binarise(image)[0]
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    expected = image[0, 0].double()
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((drawn.double().mean(0) - expected).abs() <= 5 * error + 2 / draws).all()
    certain = (expected == 0) | (expected == 1)
    assert (drawn.double().mean(0)[certain] == expected[certain]).all()


def test_nobody_who_drew_for_training_drew_for_testing():
    of_training, of_testing = (set(DRAWERS[split]) for split in ("train", "test"))
    assert not of_training & of_testing
    assert of_training | of_testing == set(range(1, 21))


def test_no_digit_is_in_both_parts():
    digits = load("digits")
    train = {image.tobytes() for image in digits.train.numpy()}
    assert not any(image.tobytes() in train for image in digits.test.numpy())
