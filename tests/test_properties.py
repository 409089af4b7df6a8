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
