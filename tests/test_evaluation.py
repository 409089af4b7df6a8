"""Every metric against a brute-force computation from its definition."""

import math

import numpy as np
import pytest
import torch

from repro.lab import evaluation
from repro.lab.models import Architecture, Autoencoder
from repro.lab.randomness import Streams
from tests.helpers import paper_log_w

IMAGES, K, RUNS = 7, 15, 2


@pytest.fixture
def model():
    return Autoencoder(Architecture(hidden=11, latent=3, pixels=16), seeds=[0, 1])


def test_streamed_bounds_are_the_brute_force_ones_in_float64(model, monkeypatch):
    """They are those of the same samples through torch.distributions in float64, all at once.

    The chunks, of 3 images and 4 samples, leave no trace.
    """
    monkeypatch.setitem(evaluation.CHUNK_IMAGES, "cpu", 3)
    monkeypatch.setattr(evaluation, "CHUNK_SAMPLES", 4)
    x = torch.rand(RUNS, IMAGES, 16).round()
    drawn = []

    def noise(shape):
        drawn.append(torch.randn(RUNS, *shape))
        return drawn[-1]

    ours = evaluation.log_weight_sums(model, x, K, noise)
    chunks = math.ceil(K / 4)
    of_images = [torch.cat(drawn[i : i + chunks], 1) for i in range(0, len(drawn), chunks)]
    eps = torch.cat(of_images, 2).double()
    model.double()
    for run in range(RUNS):
        w = paper_log_w(model, run, x[run].double(), eps[run]).exp()
        assert w.shape == (K, IMAGES)
        expected = {
            "elbo": w.log().mean(0),
            "iwae": w.mean(0).log(),
            "ess": w.sum(0) ** 2 / (w**2).sum(0),
        }
        for name, value in expected.items():
            torch.testing.assert_close(ours[name][run], value, rtol=2e-6, atol=2e-6)


def test_iwae_and_log_px_agree_with_an_independent_estimate(model):
    """IWAE-64 and log p-hat agree with float64 brute force on other samples."""
    images = torch.rand(40, 16)
    (metrics, _) = evaluation.evaluate(model, images, [0, 1], log_px_samples=1000)
    x = Streams([0, 1], "evaluate: binarise").binarise(images[None])[0].double()
    model.double()
    for name, samples, repeats in (("iwae_64", 64, 40), ("log_px", 1000, 10)):
        g = torch.Generator().manual_seed(7)
        eps = torch.randn(samples * repeats, 40, 3, dtype=torch.float64, generator=g)
        with torch.no_grad():
            log_w = paper_log_w(model, 0, x, eps).view(repeats, samples, 40)
        # Each repeat gives one estimate of the test set's mean.
        values = (log_w.logsumexp(1) - math.log(samples)).mean(1)
        error = values.std().item() * (1 + 1 / repeats) ** 0.5
        assert abs(metrics[name]["value"] - values.mean().item()) < 4 * error
    assert metrics["minus_kl"]["value"] < 3 * metrics["minus_kl"]["se"]


def test_the_gap_is_iwae_64_minus_log_px_of_each_image(model):
    for values in evaluation.measure(model, torch.rand(20, 16), [0, 1], log_px_samples=100):
        np.testing.assert_array_equal(values["minus_kl"], values["iwae_64"] - values["log_px"])


def test_evaluation_is_deterministic_and_blind_to_companions(model):
    images = torch.rand(20, 16)
    both = evaluation.evaluate(model, images, [0, 1], 100)
    assert both == evaluation.evaluate(model, images, [0, 1], 100)
    alone = Autoencoder(model.shape, seeds=[1])
    (single,) = evaluation.evaluate(alone, images, [1], 100)
    for name, m in single.items():
        assert m["value"] == pytest.approx(both[1][name]["value"], rel=1e-5)


def stated_ssim(x, y, side=28):
    """The protocol's formula, pixel by pixel.

    The window is 11x11 and Gaussian with sigma 1.5, L = 1, covariances are biased, and there are
    zeros outside of the image.
    """
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = (np.pad(a.reshape(side, side).astype(np.float64), 5) for a in (x, y))
    total = 0.0
    for i in range(side):
        for j in range(side):
            a = x[i : i + 11, j : j + 11]
            b = y[i : i + 11, j : j + 11]
            mean_a = (window * a).sum()
            mean_b = (window * b).sum()
            variances = (window * ((a - mean_a) ** 2 + (b - mean_b) ** 2)).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
            total += luminance * structure
    return total / side**2


def test_ssim_is_the_stated_formula():
    rng = np.random.default_rng(0)
    x = (rng.random((5, 784)) > 0.8).astype(np.float32)
    y = rng.random((5, 784)).astype(np.float32)
    y[:3] = 0.7 * x[:3] + 0.3 * y[:3]
    ours = evaluation.ssim(x, y, chunk=2)
    stated = [stated_ssim(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ours, stated, rtol=0, atol=1e-6)
    np.testing.assert_allclose(evaluation.ssim(x, x), 1)


def test_active_units_are_counted_with_their_error():
    rng = np.random.default_rng(0)
    spreads = np.array([1, 0.5, 0.1, 0.01, 0])  # the third one is at the threshold
    mu = rng.normal(size=(2000, 5)) * spreads
    counted = evaluation.active_units(mu)
    assert counted["value"] in (2, 3)
    assert 0.1 < counted["se"] < 0.8
    assert evaluation.active_units(mu[:, :2])["se"] == 0


def test_mean_and_error():
    values = np.array([1.0, 2.0, 4.0])
    m = evaluation.over_images(values)
    assert m["value"] == pytest.approx(7 / 3)
    assert m["se"] == pytest.approx(values.std(ddof=1) / 3**0.5)


class OfKnownWeights:
    """A model whose importance weights are Pareto's: an image's grey value is the shape."""

    device = torch.device("cpu")

    def log_weights(self, x, M, K, noise):
        uniform = torch.special.ndtr(noise((M, K, x.shape[1])).double())
        return -x.double().mean(-1) * uniform.log(), None


def test_the_shape_of_known_weights_is_found(monkeypatch):
    """Shapes of 0.3, 0.6 and 0.9, in two chunks of images and many of samples."""
    monkeypatch.setattr(evaluation, "SHAPE_IMAGES", 2)
    monkeypatch.setattr(evaluation, "_binarised", lambda model, images, *rest: images[None])
    shapes = torch.tensor([0.3, 0.6, 0.9])
    found = evaluation.pareto_shapes(OfKnownWeights(), shapes[:, None].expand(3, 4), [0], 20_000)
    assert found == pytest.approx(shapes.numpy(), abs=0.12)


def test_log_px_rises_with_samples_as_half_the_relative_variance_says(monkeypatch):
    """The check of the released models, on weights that are log-normal with sigma = 1."""

    class LogNormal(OfKnownWeights):
        def log_weights(self, x, M, K, noise):
            return noise((M, K, x.shape[1])), None

    monkeypatch.setattr(evaluation, "_binarised", lambda model, images, *rest: images[None])
    few = evaluation.log_px_and_ess(LogNormal(), torch.zeros(4000, 1), [0], 100)
    expected = 0.5 - (math.e - 1) / 200  # log E w, less half the relative variance of the mean
    assert few["iwae"].mean() == pytest.approx(expected, abs=0.01)
    assert (1 / few["ess"] - 1 / 100).mean() == pytest.approx((math.e - 1) / 100, rel=0.15)
