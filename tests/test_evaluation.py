"""Every metric against a brute-force computation from its definition."""

import math

import numpy as np
import pytest
import torch

from repro import scores
from repro.catalogue import Architecture
from repro.models import Autoencoder
from repro.randomness import Streams
from tests.helpers import SMALL, few_digits, paper_log_w

IMAGES, K, RUNS = 7, 15, 2


@pytest.fixture
def model():
    return Autoencoder(Architecture(hidden=11, latent=3, pixels=16), seeds=[0, 1])


def test_streamed_bounds_are_the_brute_force_ones_in_float64(model, monkeypatch):
    """They are those of the same samples through torch.distributions in float64, all at once.

    The chunks, of 3 images and 4 samples, leave no trace.
    """
    monkeypatch.setitem(scores.CHUNK_IMAGES, "cpu", 3)
    monkeypatch.setattr(scores, "CHUNK_SAMPLES", 4)
    x = torch.rand(RUNS, IMAGES, 16).round()
    drawn = []

    def noise(shape):
        drawn.append(torch.randn(RUNS, *shape))
        return drawn[-1]

    ours = scores.log_weight_sums(model, x, K, noise)
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


def evaluate(model, images, seeds, log_px_samples=None, **how):
    """Every metric's value and error, for each run."""
    if log_px_samples is not None:
        how["log_px_samples"] = log_px_samples
    values = scores.measure(model, images, seeds, **how)
    return [*map(scores.summary, values, seeds)]


def test_iwae_and_log_px_agree_with_an_independent_estimate(model):
    images = torch.rand(40, 16)
    (metrics, _) = evaluate(model, images, [0, 1], log_px_samples=1000)
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


def test_evaluation_is_deterministic_and_blind_to_companions(model):
    images = torch.rand(20, 16)
    both = evaluate(model, images, [0, 1], 100)
    assert both == evaluate(model, images, [0, 1], 100)
    alone = Autoencoder(model.shape, seeds=[1])
    (single,) = evaluate(alone, images, [1], 100)
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
    ours = scores.ssim(x, y, chunk=2)
    stated = [stated_ssim(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ours, stated, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores.ssim(x, x), 1)


def test_the_error_of_active_units_is_between_resamples_of_the_images():
    """Units whose variance is near the threshold, in a sample that is small and far from 0."""
    g = np.random.default_rng(1)
    mu = (3 + 0.1 * g.normal(size=(20, 6))).astype(np.float32)
    counts = []
    rng = np.random.default_rng(5)
    for weights in rng.multinomial(20, np.full(20, 1 / 20), 200):
        resampled = np.repeat(mu.astype(np.float64), weights, axis=0)
        counts.append((resampled.var(0) > 0.01).sum())
    counted = scores.active_units(mu, seed=5)
    assert counted["value"] == (mu.astype(np.float64).var(0) > 0.01).sum()
    assert counted["se"] == pytest.approx(np.std(counts, ddof=1))
    assert counted["se"] > 0.3


@pytest.mark.parametrize(
    ("measured", "samples"),
    [
        (lambda *of: scores.iwae_bound(*of[:3], "evaluate", *of[3:]), 64),
        (scores.pareto_shapes, 5000),
        (evaluate, 5000),
    ],
)
def test_by_default_metrics_have_as_many_samples_as_the_protocol_says(model, measured, samples):
    of = (model, torch.rand(7, 16), [0, 1])
    by_default, asked = measured(*of), measured(*of, samples)
    assert np.array_equal(by_default, asked)


def test_more_images_than_are_encoded_at_once_are_all_measured(model):
    images = torch.rand(1001, 16)
    for values in scores.measure(model, images, [0, 1], log_px_samples=2):
        assert values["mu"].shape == (1001, 3)
        assert values["ssim"].shape == (1001,)


def test_what_takes_long_tells_how_far_it_is(model, monkeypatch):
    monkeypatch.setitem(scores.CHUNK_IMAGES, "cpu", 10)
    told = []
    images = torch.rand(20, 16)
    scores.iwae_bound(model, images, [0, 1], "evaluate", tell=told.append)
    assert told == [0.5, 1.0]
    told.clear()
    evaluate(model, images, [0, 1], 100, tell=told.append)
    assert told == [0.5, 1.0]


class OfKnownWeights:
    """A model whose importance weights are Pareto's: their shape is the share of ink."""

    device = torch.device("cpu")
    binarises = True

    def noise(self, streams):
        return streams.normal

    def log_weights(self, x, M, K, noise):
        uniform = torch.special.ndtr(noise((M, K, x.shape[1])).double())
        return -x.double().mean(-1) * uniform.log(), None


def test_the_shape_of_known_weights_is_found(monkeypatch):
    """Shapes of 0.3, 0.6 and 0.9, in two chunks of images and many of samples."""
    monkeypatch.setattr(scores, "SHAPE_IMAGES", 2)
    shapes = torch.tensor([3, 6, 9])
    images = (torch.arange(10) < shapes[:, None]).float()
    found = scores.pareto_shapes(OfKnownWeights(), images, [0], 20_000)
    assert found == pytest.approx(shapes.numpy() / 10, abs=0.12)


def test_log_px_rises_with_samples_as_half_the_relative_variance_says():
    """The check of the released models, on weights that are log-normal with sigma = 1."""

    class LogNormal(OfKnownWeights):
        def log_weights(self, x, M, K, noise):
            return noise((M, K, x.shape[1])), None

    few = scores.log_px_and_ess(LogNormal(), torch.zeros(4000, 1), [0], 100)
    expected = 0.5 - (math.e - 1) / 200  # log E w, less half the relative variance of the mean
    assert few["iwae"].mean() == pytest.approx(expected, abs=0.01)
    assert (1 / few["ess"] - 1 / 100).mean() == pytest.approx((math.e - 1) / 100, rel=0.15)


# Every number of a record, from its own stream of random numbers


@pytest.fixture
def of_two_runs():
    """A model and images."""
    return Autoencoder(SMALL, seeds=[3, 4]), few_digits(30).test


def test_each_metric_is_of_the_stream_and_the_number_of_samples_that_it_says(of_two_runs):
    """Recomputed here from the streams' names. A change of these changes every record."""
    model, images = of_two_runs
    seeds = [3, 4]
    x = Streams(seeds, "evaluate: binarise").binarise(images[None])

    def sums(K, purpose):
        noise = Streams(seeds, f"evaluate: {purpose}").normal
        return scores.log_weight_sums(model, x, K, noise)

    few = sums(64, "IWAE-64")
    many = sums(100, "log_px")
    with torch.no_grad():
        mu, _ = model.encoder(x)
    noise = Streams(seeds, "evaluate: reconstruct").normal
    ssim = scores.ssim_of_reconstructions(model, x, noise)
    heard = []
    found = scores.measure(model, images, seeds, 100, heard.append)
    assert heard == [1.0]
    for run, values in enumerate(found):
        for name in ("elbo", "ess"):
            assert values[name] == pytest.approx(few[name][run].numpy(), rel=1e-12)
        assert values["iwae_64"] == pytest.approx(few["iwae"][run].numpy(), rel=1e-12)
        assert values["log_px"] == pytest.approx(many["iwae"][run].numpy(), rel=1e-12)
        gap = (few["iwae"] - many["iwae"])[run].numpy()
        assert values["minus_kl"] == pytest.approx(gap, rel=1e-9)
        variance = (1 / many["ess"] - 0.01)[run].numpy()
        assert values["log_px_variance"] == pytest.approx(variance, rel=1e-9)
        assert values["mu"] == pytest.approx(mu[run].numpy(), abs=1e-6)
        assert values["ssim"] == pytest.approx(ssim[run])


def test_a_summary_has_each_metric_with_its_errors():
    g = np.random.default_rng(0)
    names = ("iwae_64", "log_px", "minus_kl", "elbo", "ess", "ssim")
    values = {name: g.normal(size=10) for name in names}
    values["log_px_variance"] = np.full(10, 0.9)
    values["mu"] = 0.1 * g.normal(size=(10, 30))  # near the threshold of an active unit
    found = scores.summary(values, seed=7)
    assert set(found) == {*names, "active_units"}
    for name in names:
        sd = values[name].std(ddof=1)
        assert found[name]["value"] == pytest.approx(values[name].mean())
        assert found[name]["sd"] == pytest.approx(sd)
        assert found[name]["se"] == pytest.approx(sd / 10**0.5)
    assert found["log_px"]["monte_carlo_se"] == pytest.approx((10 * 0.9) ** 0.5 / 10)
    assert found["active_units"] == scores.active_units(values["mu"], 7)
    assert found["active_units"] != scores.active_units(values["mu"], 8)


@pytest.fixture
def asked(monkeypatch):
    """For which seeds and purposes streams of random numbers were made."""
    heard = []

    class Heard(Streams):
        def __init__(self, seeds, purpose, device="cpu"):
            heard.append((tuple(seeds), purpose))
            super().__init__(seeds, purpose, device)

    monkeypatch.setattr(scores, "Streams", Heard)
    return heard


def test_ssim_is_the_mean_over_images_of_the_streams_of_its_purpose(of_two_runs):
    model, images = of_two_runs
    found = scores.mean_ssim(model, images, [3, 4], "other")
    purposes = ("other: binarise", "other: reconstruct")
    binarise, noise = (Streams([3, 4], purpose) for purpose in purposes)
    x = binarise.binarise(images[None])
    expected = scores.ssim_of_reconstructions(model, x, noise.normal)
    assert found == [scores.over_images(values) for values in expected]
    assert found[0] != found[1]


def test_other_binarisations_have_streams_of_their_own_and_give_a_deviation(of_two_runs):
    model, images = of_two_runs
    found = scores.other_binarisations(model, images, [3, 4], 3)
    bounds = [scores.iwae_bound(model, images, [3, 4], f"binarisation {i}") for i in range(3)]
    means = np.array([bound.mean(1).numpy() for bound in bounds])
    ssim = []
    for i in range(3):
        x = Streams([3, 4], f"binarisation {i}: SSIM").binarise(images[None])
        noise = Streams([3, 4], f"binarisation {i}: reconstruct").normal
        ssim.append(scores.ssim_of_reconstructions(model, x, noise).mean(1))
    for run in range(2):
        assert found[run] == {
            "iwae_64": pytest.approx(means[:, run].std(ddof=1)),
            "ssim": pytest.approx(np.std(ssim, axis=0, ddof=1)[run]),
        }


def test_grids_show_the_same_images_to_every_run(of_two_runs):
    model, images = of_two_runs
    inputs, again = scores.reconstruction_grids(model, images, [3, 4], 5)
    assert inputs.shape == again.shape == (2, 5, 784)
    assert torch.equal(inputs[0], inputs[1])
    x = Streams([0, 0], "grid: binarise").binarise(images[:5][None])
    torch.testing.assert_close(inputs, x)
    with torch.no_grad():
        expected = model.reconstruct(x, Streams([3, 4], "grid: noise").normal)
    torch.testing.assert_close(again, expected)
    assert not again.requires_grad
    many, _ = scores.reconstruction_grids(model, few_digits(30, 80).test, [3, 4])
    assert many.shape[1] == 64


@pytest.mark.parametrize(
    ("measured", "purpose"),
    [
        (lambda *of: scores.log_px_and_ess(*of, 30)["iwae"][0].numpy(), "log_px of 30"),
        (lambda *of: scores.pareto_shapes(*of, 30), "log_px"),
        (lambda *of: scores.iwae_bound(*of, "evaluate", 30)[0].numpy(), "IWAE-30"),
    ],
)
def test_checks_of_proposals_take_the_images_of_log_px(asked, measured, purpose):
    """And streams of their own names, from which other seeds and purposes give other numbers."""
    model = Autoencoder(SMALL, seeds=[3])
    images = few_digits(30).test
    assert measured(model, images, [3]).shape == (20,)
    assert asked == [((3,), "evaluate: binarise"), ((3,), f"evaluate: {purpose}")]
