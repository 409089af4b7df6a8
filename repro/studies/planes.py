"""Pictures of trained models: samples, steps along a latent unit, posteriors in the plane.

In two dimensions nothing has to be sampled: a grid gives log p(x), the posterior and its distance
from the proposal to many digits.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repro import datasets
from repro.bounds import METHODS
from repro.catalogue import OMNIGLOT, Architecture
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.randomness import Streams, generator
from repro.records import Archive
from repro.records.provenance import code_and_date, device_name
from repro.studies.designs import PLANE_IMAGES, PLANE_LAYOUTS, Layout, Weights
from repro.studies.gradient_runs import network
from repro.training.program import plain_step
from repro.training.progress import Progress
from repro.words.experiments import TABLE_METHODS

PRIOR_SAMPLES = 12  # of each method
TRAVERSAL = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)  # values of one latent unit
PLANE_HIDDEN = 100  # units of each hidden layer of a model with two latent variables
PLANE_STEPS = 4000
PLANE_BATCH = 20
ACROSS = 501  # points of the grid along each axis, from -REACH to REACH
REACH = 5.0
DRAWN_ACROSS = 81  # points of the window that is drawn
DRAWN_DEVIATIONS = 4.5  # of the posterior and of q, whichever reaches further


@torch.no_grad()
def samples_of_prior(model: Autoencoder) -> Tensor:
    """The decoder's means [n, pixels] at ``PRIOR_SAMPLES`` draws of the prior, of the first run."""
    z = torch.randn(1, PRIOR_SAMPLES, model.shape.latent, generator=generator(0, "pictures"))
    return model.decoder(z).sigmoid()[0]


@torch.no_grad()
def traversal(model: Autoencoder, images: Tensor) -> Tensor:
    """The decoder's means along one latent unit, from the first image's code: [step, pixels].

    The unit is the one whose mean varies most over the images [n, pixels]; it takes the values of
    ``TRAVERSAL``, and all others stay at the image's.
    """
    mu, _ = model.encoder(images[None])
    unit = mu[0].var(0).argmax()
    z = mu[:, :1].repeat(1, len(TRAVERSAL), 1)
    z[0, :, unit] = torch.tensor(TRAVERSAL)
    return model.decoder(z).sigmoid()[0]


def in_the_plane(layout: Layout, images: Tensor, seed: int = 0) -> Autoencoder:
    """Train a model with two latent variables on images [n, pixels], by ``plain_step``."""
    model = Autoencoder(Architecture(PLANE_HIDDEN, 2), [seed])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = generator(seed, "pictures: order")
    streams = {name: Streams([seed], f"pictures: {name}") for name in ("binarise", "noise")}
    samples = layout.M * layout.K
    for _ in range(PLANE_STEPS):
        batch = images[torch.randint(len(images), (PLANE_BATCH,), generator=order)]
        x = streams["binarise"].binarise(batch[None])
        eps = streams["noise"].normal((samples, PLANE_BATCH, 2))
        plain_step(model, METHODS[layout.method], optimizer, x, eps, layout.M, layout.K)
    return model


class Posterior(NamedTuple):
    """The posterior of one image in the plane, and the proposal q."""

    log_px: float
    kl: float  # KL(q || p(z|x)), in nats
    mu: Tensor  # of q, [2]
    sigma: Tensor  # of q, [2]
    centre: Tensor  # of the window that is drawn, [2]
    reach: float  # from its centre to its border
    density: Tensor  # of the posterior in the window, over its highest value [row, column]


@torch.no_grad()
def posterior(model: Autoencoder, x: Tensor) -> Posterior:
    """The posterior of a binary image [pixels] by a sum over a grid, for the model's first run."""
    axis = torch.linspace(-REACH, REACH, ACROSS)
    log_area = 2 * math.log(axis[1] - axis[0])
    z = _points(axis, axis)
    log_joint = _log_joint(model, x, z)
    log_px = (log_joint + log_area).logsumexp(0)
    weights = (log_joint + log_area - log_px).exp()
    mean = weights @ z
    spread = (weights @ (z - mean) ** 2).sqrt()
    mu, sigma = (moment[0, 0].double() for moment in model.encoder(x[None, None]))
    log_q = _log_normal(z, mu, sigma)
    q = (log_q + log_area).exp()
    kl = (q * (log_q - log_joint + log_px)).sum()
    far = torch.cat([(mu - mean).abs() + DRAWN_DEVIATIONS * sigma, DRAWN_DEVIATIONS * spread])
    reach = float(far.max())
    steps = torch.linspace(-reach, reach, DRAWN_ACROSS)
    drawn = _log_joint(model, x, _points(steps + mean[0], steps + mean[1]))
    density = (drawn - drawn.max()).exp().view(DRAWN_ACROSS, DRAWN_ACROSS)
    return Posterior(float(log_px), float(kl), mu, sigma, mean, reach, density)


def _points(first: Tensor, second: Tensor) -> Tensor:
    """All points with coordinates from two axes, the first varying fastest: [n, 2], float64."""
    return torch.cartesian_prod(second, first).flip(1).double()


def _log_joint(model: Autoencoder, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) of one image at points z [n, 2]: [n], float64."""
    parts = []
    for chunk in z.split(20_000):
        logits = model.decoder(chunk[None].float())[0].double()
        parts.append(-torch.nn.functional.softplus(torch.where(x > 0, -logits, logits)).sum(1))
    still = torch.zeros(2, dtype=torch.float64)
    return torch.cat(parts) + _log_normal(z, still, torch.ones_like(still))


def _log_normal(z: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """log N(z; mu, diag(sigma^2)) at points z [n, 2]: [n]."""
    return torch.distributions.Normal(mu, sigma).log_prob(z).sum(1)


def make_pictures(archive: Archive, data: str | Path | None) -> Path:
    """Make and write samples of the prior, traversals of a latent unit, and 2-D posteriors.

    The first two are of the report's models on MNIST and of ours on Omniglot.
    """
    begun = time.monotonic()
    provenance = code_and_date()
    found = {name: datasets.load(name, data) for name in ("mnist", OMNIGLOT)}
    models = []
    sources = {}
    for (name, dataset), whose in zip(found.items(), ("report", "ours"), strict=True):
        for m in TABLE_METHODS:
            model, sources[m] = network(Weights(name, whose, m), archive, data)
            models.append((model, dataset.test))
    arrays = {
        "samples": _as_bytes([samples_of_prior(model) for model, _ in models]),
        "traversals": _as_bytes([traversal(*of_model) for of_model in models]),
        **_posteriors(found["mnist"]),
    }
    provenance |= {
        "device": device_name("cpu"),
        "weights": {m: source["record"] for m, source in sources.items()},  # ours, the last
        "data": [dataset.provenance for dataset in found.values()],
        "seconds": {"evaluation": round(time.monotonic() - begun, 1)},
        "hidden": PLANE_HIDDEN,
        "steps": PLANE_STEPS,
        "batch_size": PLANE_BATCH,
    }
    return archive.write_arrays("pictures", arrays, provenance)


def _as_bytes(values: list[torch.Tensor]) -> np.ndarray:
    """Numbers from 0 to 1 as whole ones from 0 to 255."""
    return (torch.stack(values) * 255).round().to(torch.uint8).numpy()


def _posteriors(dataset: Dataset) -> dict[str, np.ndarray]:
    """Posteriors of the first test images in the plane, and q: [layout times image, ...]."""
    images = dataset.test[:PLANE_IMAGES]
    x = torch.bernoulli(images, generator=generator(0, "pictures: binarise"))
    found: list[Posterior] = []
    with Progress(1, "posteriors") as bar:
        for number, layout in enumerate(PLANE_LAYOUTS, 1):
            model = in_the_plane(layout, dataset.train)
            found += [posterior(model, image) for image in x]
            bar.fraction(number / len(PLANE_LAYOUTS))
    arrays = {
        "inputs": _as_bytes(list(x)),
        "density": _as_bytes([posterior.density for posterior in found]),
    }
    for name in ("log_px", "kl", "mu", "sigma", "centre", "reach"):
        arrays[name] = np.stack([np.asarray(getattr(posterior, name)) for posterior in found])
    return arrays
