"""Annealed importance sampling: closed forms, bounds on both sides, and what they hang on."""

import itertools
import math

import numpy as np
import pytest
import torch

from repro import annealing, scores
from repro.annealing import (
    ais_lower_bound,
    ais_upper_bound,
    anneal,
    inverse_temperatures,
    simulated,
)
from repro.catalogue import Architecture
from repro.models import Autoencoder
from repro.randomness import Streams
from repro.studies import planes
from repro.studies.designs import PLANE_LAYOUTS
from tests.helpers import few_digits

DIMENSIONS = 7


def linear_gaussian(scale, shift):
    """log w of z ~ N(0, I), x ~ N(z, I), and its slope; q is the posterior, wider and displaced.

    Of five observations; with ``scale`` 1 and ``shift`` 0, q is the exact posterior N(x/2, I/2).
    """
    x = torch.randn(1, 5, DIMENSIONS, generator=torch.Generator().manual_seed(1)).double()
    mu = x / 2 + shift
    sigma = scale * 0.5**0.5

    def log_weight(u):
        z = mu[:, None] + sigma * u
        residual = x[:, None] - z
        constant = math.log(sigma) - math.log(2 * math.pi) / 2
        log_w = ((u**2 - z**2 - residual**2) / 2 + constant).sum(-1)
        return log_w, u + sigma * (residual - z)

    log_px = (-(x**2) / 4 - math.log(4 * math.pi) / 2).sum(-1)

    def posterior(g):
        noise = torch.randn(x.shape, generator=g, dtype=torch.float64)
        return (x / 2 + noise * 0.5**0.5 - mu) / sigma

    return log_weight, mu.shape, log_px, posterior


class DoubleStreams(Streams):
    def normal(self, shape):
        return super().normal(shape).double()

    def uniform(self, shape):
        return super().uniform(shape).double()


def streams(seed=0):
    return DoubleStreams([seed], "test")


def test_with_the_posterior_as_q_the_bound_is_log_px_to_rounding():
    log_weight, shape, log_px, _ = linear_gaussian(1.0, 0.0)
    found = anneal(log_weight, shape, streams(), temperatures=3, chains=7)
    torch.testing.assert_close(found.log_px, log_px, atol=1e-12, rtol=0)
    assert found.spread.max() < 1e-12
    torch.testing.assert_close(found.ess, torch.full_like(log_px, 7))


@pytest.mark.parametrize(("scale", "shift"), [(1.5, 0.4), (0.6, 0.3)])
def test_of_a_linear_gaussian_model_it_is_the_closed_form_from_both_sides(scale, shift):
    log_weight, shape, log_px, posterior = linear_gaussian(scale, shift)
    up = anneal(log_weight, shape, streams(), 200, chains=50)
    exact = posterior(torch.Generator().manual_seed(0))
    down = anneal(log_weight, shape, streams(1), 200, 50, exact)
    for found in (up, down):
        error = found.spread / found.ess.sqrt()
        assert ((found.log_px - log_px).abs() < 5 * error + 1e-3).all()
        assert found.spread.max() < 0.6
    assert 0.4 < up.accepted.mean() < 0.95


def test_a_mean_weight_is_px_and_one_over_px_on_the_way_back():
    """With few temperatures and one chain, the mean over many of them, without a logarithm."""
    log_weight, shape, log_px, posterior = linear_gaussian(1.3, 0.2)
    g = torch.Generator().manual_seed(0)
    many = 4000
    up = anneal(log_weight, shape, streams(), 3, chains=many)
    errors = [(up.log_px.exp() / log_px.exp() - 1) * up.ess.sqrt()]
    single = []
    for seed in range(300):
        down = anneal(log_weight, shape, streams(seed), 3, chains=2, exact=posterior(g))
        single.append((log_px - down.log_px).exp())
    inverse = torch.stack(single)
    errors.append((inverse.mean(0) - 1) / (inverse.std(0) / math.sqrt(len(inverse))))
    assert all(error.abs().max() < 4 for error in errors)


def test_more_temperatures_never_lower_the_expected_bound():
    log_weight, shape, _, _ = linear_gaussian(2.0, 0.8)
    bounds = []
    for temperatures in (2, 8, 32):
        found = [anneal(log_weight, shape, streams(seed), temperatures, 3) for seed in range(40)]
        bounds.append(torch.stack([f.log_px.mean() for f in found]).numpy())
    for fewer, more in itertools.pairwise(bounds):
        gain = more - fewer
        assert gain.mean() > -3 * gain.std() / math.sqrt(len(gain))
    assert bounds[-1].mean() - bounds[0].mean() > 0.1


@pytest.fixture(scope="module")
def model():
    return Autoencoder(Architecture(hidden=20, latent=2), [0, 1])


def test_of_a_network_it_agrees_with_many_samples_and_lies_below_the_upper_bound(model):
    """After its initialisation the posterior is easy, so 50,000 samples know log p(x)."""
    x, z = simulated(model, 7, [0, 1])
    many = scores.log_weight_sums(model, x, 50_000, Streams([0, 1], "many").normal)
    low = ais_lower_bound(model, x, [0, 1], temperatures=20, chains=5)
    high = ais_upper_bound(model, x, z, [0, 1], temperatures=20, chains=5)
    error = low.spread / low.ess.sqrt() + (1 / many["ess"]).sqrt()
    assert ((low.log_px - many["iwae"]).abs() < 5 * error).all()
    width = (high.log_px - low.log_px).numpy()
    assert -3 * width.std() / math.sqrt(width.size) < width.mean() < 0.1


def test_of_a_model_in_the_plane_it_is_the_quadrature(monkeypatch):
    """Trained for a while, so that posteriors are narrow and bent."""
    monkeypatch.setattr(planes, "PLANE_STEPS", 200)
    trained = planes.in_the_plane(PLANE_LAYOUTS[0], few_digits(20).train)
    x, z = simulated(trained, 2, [0])
    exact = torch.tensor([planes.posterior(trained, image).log_px for image in x[0]])
    low = ais_lower_bound(trained, x, [0], temperatures=100, chains=5)
    high = ais_upper_bound(trained, x, z, [0], temperatures=100, chains=5)
    for found in (low, high):
        error = found.spread / found.ess.sqrt()
        assert ((found.log_px - exact).abs() < 5 * error + 0.01).all()


def test_a_runs_numbers_depend_on_its_seed_and_not_on_its_companions(model):
    x, _ = simulated(model, 5, [0, 1])
    alone = Autoencoder(Architecture(hidden=20, latent=2), [1])
    found = ais_lower_bound(alone, x[1:], [1], temperatures=4, chains=3)
    both = ais_lower_bound(model, x, [0, 1], temperatures=4, chains=3)
    torch.testing.assert_close(both.log_px[1:], found.log_px, atol=1e-4, rtol=0)
    other = ais_lower_bound(alone, x[1:], [2], temperatures=4, chains=3)
    assert (other.log_px != found.log_px).all()


def test_images_are_taken_a_few_at_a_time(model, monkeypatch):
    monkeypatch.setattr(annealing, "AT_A_TIME", 3)
    x, _ = simulated(model, 7, [0, 1])
    told = []
    found = ais_lower_bound(model, x, [0, 1], temperatures=2, chains=3, tell=told.append)
    assert found.log_px.shape == (2, 7)
    assert told == pytest.approx([3 / 7, 6 / 7, 1])


def test_simulated_images_are_the_models_own(model):
    x, z = simulated(model, 3000, [0, 1])
    assert z.shape == (2, 3000, 2)
    assert set(x.unique().tolist()) == {0, 1}
    means = model.decoder(z).sigmoid().mean(1)
    assert (x.mean(1) - means).abs().max() < 5 * 0.5 / math.sqrt(3000)


def test_temperatures_rise_from_0_to_1_and_are_dense_at_both_ends():
    rises = np.diff(inverse_temperatures(11))
    assert rises.sum() == pytest.approx(1)
    assert (rises > 0).all()
    assert rises[0] == pytest.approx(rises[-1])
    assert rises[0] < rises[5]
