"""Samples, steps along a unit, and posteriors in the plane."""

import math

import pytest
import torch

from repro.catalogue import Architecture
from repro.models import Autoencoder
from repro.randomness import Streams
from repro.records import Archive
from repro.scores import log_weight_sums
from repro.studies import figures, planes
from repro.studies.designs import PLANE_IMAGES, PLANE_LAYOUTS, Layout
from repro.studies.planes import PRIOR_SAMPLES, TRAVERSAL
from tests.helpers import few_digits


@pytest.fixture
def plane():
    """An untrained model with two latent variables, whose decoder's last layer is not small."""
    model = Autoencoder(Architecture(7, 2), [0])
    with torch.no_grad():
        model.decoder.logits.weight.mul_(3)
    return model


def test_the_grids_log_px_and_kl_are_those_of_many_samples(plane):
    x = (few_digits(3).test[0] > 0.5).float()
    found = planes.posterior(plane, x)
    noise = Streams([0], "test").normal
    sums = log_weight_sums(plane, x[None, None], 100_000, noise)
    assert found.log_px == pytest.approx(sums["iwae"].item(), abs=0.01)
    assert found.kl == pytest.approx((sums["iwae"] - sums["elbo"]).item(), abs=0.1)


def test_where_the_decoder_does_not_look_at_z_the_posterior_is_the_prior(plane):
    """log p(x) = 784 log 1/2; KL of a diagonal Gaussian q to N(0, I) is in closed form."""
    with torch.no_grad():
        for p in plane.decoder.parameters():
            p.zero_()
    found = planes.posterior(plane, (few_digits(3).test[0] > 0.5).float())
    assert found.log_px == pytest.approx(-784 * math.log(2), abs=1e-4)
    closed = 0.5 * (found.mu**2 + found.sigma**2 - 1 - 2 * found.sigma.log()).sum()
    assert found.kl == pytest.approx(closed.item(), abs=1e-4)
    assert found.centre == pytest.approx(0, abs=1e-4)


def test_a_traversal_passes_through_the_image_s_own_value(plane):
    images = few_digits(50).test
    with torch.no_grad():
        mu, _ = plane.encoder(images[None])
        unit = mu[0].var(0).argmax()
        z = mu[:, :1].clone()
        z[..., unit] = TRAVERSAL[3]
        expected = plane.decoder(z).sigmoid()[0, 0]
    found = planes.traversal(plane, images)
    assert found.shape == (len(TRAVERSAL), 784)
    torch.testing.assert_close(found[3], expected)


def test_samples_are_means_of_pixels(plane):
    found = planes.samples_of_prior(plane)
    assert found.shape == (PRIOR_SAMPLES, 784)
    assert ((found > 0) & (found < 1)).all()


def test_training_in_the_plane_raises_the_bound_and_repeats_itself(monkeypatch):
    monkeypatch.setattr(planes, "PLANE_STEPS", 30)
    images = few_digits(100).train
    x = (few_digits(100).test > 0.5).float()[None]

    def score(model):
        return log_weight_sums(model, x, 64, Streams([0], "test").normal)["iwae"].mean().item()

    layout = Layout("miwae", 2, 3)
    trained = score(planes.in_the_plane(layout, images))
    assert trained > score(Autoencoder(Architecture(planes.PLANE_HIDDEN, 2), [0])) + 50
    assert score(planes.in_the_plane(layout, images)) == trained


def test_the_committed_pictures_are_whole():
    found, origin = Archive(None).arrays("pictures")
    assert found["samples"].shape == (10, PRIOR_SAMPLES, 784)
    assert found["traversals"].shape == (10, len(TRAVERSAL), 784)
    assert found["kl"].shape == (len(PLANE_LAYOUTS) * PLANE_IMAGES,)
    assert (found["kl"] > 0).all()
    assert set(origin["weights"]) == {"iwae", "piwae", "miwae", "ciwae", "vae"}


def test_each_figure_names_every_method():
    for draw in (figures.drawn_samples, figures.along_a_unit):
        figure = draw()
        for ax in figure.axes:
            names = [label.get_text() for label in ax.get_yticklabels()]
            assert names == ["IWAE", "PIWAE", "MIWAE", "CIWAE", "VAE"]
    kls = [ax.get_title() for ax in figures.posteriors().axes if ax.get_title()]
    assert len(kls) == len(PLANE_LAYOUTS) * PLANE_IMAGES
