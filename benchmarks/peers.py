"""The same training step written by others, or as others would write it. Each function returns a ``step()`` to be timed.

All train the same architecture on batches of the same images, binarised afresh, with Adam; methods are named as ours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from repro.models import Architecture

Step = Callable[[], object]


class Batches:
    """Batches of freshly binarised images, as a data loader would give them but at no cost of its own."""

    def __init__(self, images: Tensor, size: int, device: str):
        self.images, self.size, self.device = images.to(device), size, device

    def __call__(self) -> Tensor:
        """One batch [size, pixels] of 0 and 1."""
        chosen = torch.randint(len(self.images), (self.size,), device=self.device)
        return torch.bernoulli(self.images[chosen])


class PlainNetworks(nn.Module):
    """Encoder and decoder from torch.nn and torch.distributions, as in the code that is saved with the report's weights."""

    def __init__(self, shape: Architecture):
        super().__init__()
        h, latent, pixels = shape.hidden, shape.latent, shape.pixels
        self.encoder = nn.ModuleList([nn.Linear(pixels, h), nn.Linear(h, h), nn.Linear(h, latent), nn.Linear(h, latent)])
        self.decoder = nn.Sequential(nn.Linear(latent, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, pixels))

    def log_weights(self, x: Tensor, M: int, K: int) -> Tensor:
        """log w [M, K, batch]."""
        first, second, mu, sigma = self.encoder
        h = torch.tanh(second(torch.tanh(first(x))))
        q = Normal(mu(h), F.softplus(sigma(h)))
        z = q.rsample(torch.Size([M, K]))
        log_px_z = Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)
        return log_px_z + Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


def plain_bound(log_w: Tensor) -> Tensor:
    """MIWAE's bound of log w [M, K, batch], averaged over the batch."""
    top = log_w.max(1, keepdim=True)[0]
    return ((log_w - top).exp().mean(1).log() + top.squeeze(1)).mean()


def plain(method: str, images: Tensor, shape: Architecture, batch: int, device: str) -> Step:
    """An eager loop in the style of the report's code: PIWAE in two passes with two optimisers."""
    net, batches = PlainNetworks(shape).to(device), Batches(images, batch, device)
    sizes = {"iwae": (1, 64), "miwae": (8, 8), "vae": (64, 1), "ciwae": (1, 64), "piwae": (8, 8)}[method]
    networks = [net.encoder, net.decoder] if method == "piwae" else [net]
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in networks]

    def step() -> float:
        x, loss = batches(), None
        for optimizer, (M, K) in zip(optimizers, [sizes, (1, 64)], strict=False):
            loss = -plain_bound(net.log_weights(x, M, K))
            if method == "ciwae":
                loss = 0.5 * loss - 0.5 * net.log_weights(x, 64, 1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return step


def plain_evaluation(images: Tensor, shape: Architecture, device: str) -> Callable[[int], object]:
    """log p-hat of 20 images with K samples at once, as in the report's code."""
    net, x = PlainNetworks(shape).to(device), torch.bernoulli(images[:20]).to(device)

    @torch.no_grad()
    def evaluate(K: int) -> float:
        return plain_bound(net.log_weights(x, 1, K)).item()

    return evaluate


def pythae(method: str, images: Tensor, shape: Architecture, batch: int, device: str) -> Step:
    """Pythae's models, with networks of this architecture (its CIWAE and PIWAE as they are)."""
    from pythae import models
    from pythae.data.datasets import DatasetOutput
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.parts = PlainNetworks(shape).encoder

        def forward(self, x):
            first, second, mu, log_var = self.parts
            h = torch.tanh(second(torch.tanh(first(x.flatten(1)))))
            return ModelOutput(embedding=mu(h), log_covariance=log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = PlainNetworks(shape).decoder

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))

    name, options = {
        "iwae": ("IWAE", {"number_samples": 64}),
        "miwae": ("MIWAE", {"number_samples": 8, "number_gradient_estimates": 8}),
        "ciwae": ("CIWAE", {"number_samples": 64, "beta": 0.5}),
        "piwae": ("PIWAE", {"number_samples": 8, "number_gradient_estimates": 8}),
    }[method]
    config = getattr(models, f"{name}Config")(input_dim=(1, 28, 28), latent_dim=shape.latent, reconstruction_loss="bce", **options)
    model, batches = getattr(models, name)(config, Encoder(), Decoder()).to(device), Batches(images, batch, device)
    networks = [model.encoder, model.decoder] if method == "piwae" else [model]
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in networks]

    def step() -> float:
        output = model(DatasetOutput(data=batches().view(-1, 1, 28, 28)))
        losses = [output.encoder_loss, output.decoder_loss] if method == "piwae" else [output.loss]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for i, loss in enumerate(losses):
            loss.backward(retain_graph=i + 1 < len(losses))
        for optimizer in optimizers:
            optimizer.step()
        return output.loss.item()

    return step


def jax(methods: list[str], images: Tensor, shape: Architecture, batch: int, steps: int) -> Step:
    """JAX: one jitted call of ``steps`` steps, scanned, of all runs, vmapped. Each run has its own data order and noise.

    PIWAE is one forward pass and a backward pass for each network.
    """
    import jax as j
    import jax.numpy as np

    pixels = np.asarray(images.numpy())
    sizes = [(shape.pixels, shape.hidden), (shape.hidden, shape.hidden), (shape.hidden, shape.latent), (shape.hidden, shape.latent)]
    sizes += [(shape.latent, shape.hidden), (shape.hidden, shape.hidden), (shape.hidden, shape.pixels)]

    def initial(key):
        keys = j.random.split(key, len(sizes))
        return [(j.random.uniform(k, (a, b), minval=-(a**-0.5), maxval=a**-0.5), np.zeros(b)) for k, (a, b) in zip(keys, sizes, strict=True)]

    def affine(x, layer):
        return x @ layer[0] + layer[1]

    def log_weights(parameters, x, eps):
        a, b, mu, sigma, c, d, e = parameters
        h = np.tanh(affine(np.tanh(affine(x, a)), b))
        mu, sigma = affine(h, mu), j.nn.softplus(affine(h, sigma))
        z = mu + sigma * eps
        logits = affine(np.tanh(affine(np.tanh(affine(z, c)), d)), e)
        log_px_z = (x * logits - j.nn.softplus(logits)).sum(-1)
        return log_px_z + (0.5 * (eps**2 - z**2) + np.log(sigma)).sum(-1)

    def bounds(log_w):  # [64, batch]
        iwae = j.nn.logsumexp(log_w, 0).mean()
        miwae = j.nn.logsumexp(log_w.reshape(8, 8, -1), 1).mean()
        vae = log_w.mean()
        return np.stack([iwae, miwae, vae, 0.5 * (vae + iwae)])

    columns = {"iwae": (0, 0), "piwae": (0, 1), "miwae": (1, 1), "vae": (2, 2), "ciwae": (3, 3)}
    theta, phi = (np.asarray(c) for c in zip(*(columns[m] for m in methods), strict=True))
    two_passes = any(a != b for a, b in (columns[m] for m in methods))

    def one(parameters, moments, t, key, theta, phi):
        k1, k2, k3 = j.random.split(key, 3)
        p = pixels[j.random.randint(k1, (batch,), 0, len(pixels))]
        x = (j.random.uniform(k2, p.shape) < p).astype(np.float32)
        eps = j.random.normal(k3, (64, batch, shape.latent))
        if two_passes:
            values, pull = j.vjp(lambda q: bounds(log_weights(q, x, eps)), parameters)
            one_hot = np.eye(4)
            (g_theta,), (g_phi,) = pull(-one_hot[theta]), pull(-one_hot[phi])
            gradient, loss = [*g_phi[:4], *g_theta[4:]], -values[theta]
        else:
            loss, gradient = j.value_and_grad(lambda q: -bounds(log_weights(q, x, eps))[theta])(parameters)
        tree = j.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradient)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradient)
        parameters = tree(lambda q, m, v: q - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), parameters, m, v)
        return parameters, (m, v), loss

    def body(carry, _):
        parameters, moments, t, keys = carry
        keys, now = j.numpy.moveaxis(j.vmap(j.random.split)(keys), 1, 0)
        parameters, moments, loss = j.vmap(one, (0, 0, None, 0, 0, 0))(parameters, moments, t, now, theta, phi)
        return (parameters, moments, t + 1, keys), loss

    scan = j.jit(lambda carry: j.lax.scan(body, carry, None, length=steps), donate_argnums=0)
    parameters = j.vmap(initial)(j.random.split(j.random.PRNGKey(0), len(methods)))
    zeros = j.tree_util.tree_map(np.zeros_like, parameters)
    keys = j.random.split(j.random.PRNGKey(1), len(methods))
    carry = [(parameters, (zeros, j.tree_util.tree_map(np.zeros_like, parameters)), np.float32(1), keys)]

    def step():
        carry[0], loss = scan(carry[0])
        return loss.block_until_ready()

    return step
