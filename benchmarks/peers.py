"""The same training step written by others, or as others would write it.

Each function returns a ``Loop``, to be called for a step. All train the same architecture on
batches of the same images, binarised afresh, with Adam. Methods are named as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from repro.catalogue import Architecture


@dataclass
class Loop:
    """A training loop: each call takes a step, or several.

    ``layers`` gives the weights [out, in] and biases as they are, in the order of the parameters of
    ``repro.models.Autoencoder``.
    """

    step: Callable[[], object]
    layers: Callable[[], list[tuple[Tensor, Tensor]]]

    def __call__(self) -> object:
        """Take a step, or several; the last loss."""
        return self.step()


class Batches:
    """Batches of freshly binarised images, as from a data loader but at no cost of its own."""

    def __init__(self, images: Tensor, size: int, device: str):
        self.images = images.to(device)
        self.size = size
        self.device = device

    def __call__(self) -> Tensor:
        """One batch [size, pixels] of 0 and 1."""
        chosen = torch.randint(len(self.images), (self.size,), device=self.device)
        return torch.bernoulli(self.images[chosen])


class PlainNetworks(nn.Module):
    """Encoder and decoder from torch.nn and torch.distributions, as in the report's code."""

    def __init__(self, shape: Architecture):
        super().__init__()
        h, latent, pixels = shape.hidden, shape.latent, shape.pixels
        self.encoder = nn.ModuleList(
            [nn.Linear(pixels, h), nn.Linear(h, h), nn.Linear(h, latent), nn.Linear(h, latent)]
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, pixels)
        )

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """The weight and the bias of each layer."""
        return layers_in(self.encoder, self.decoder)

    def log_weights(self, x: Tensor, M: int, K: int) -> Tensor:
        """log w [M, K, batch]."""
        first, second, mu, sigma = self.encoder
        h = torch.tanh(second(torch.tanh(first(x))))
        q = Normal(mu(h), F.softplus(sigma(h)))
        z = q.rsample(torch.Size([M, K]))
        log_px_z = Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)
        return log_px_z + Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


def layers_in(*networks: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The weight and the bias of each linear layer of some networks."""
    parts = (module for network in networks for module in network.modules())
    return [(part.weight, part.bias) for part in parts if isinstance(part, nn.Linear)]


def plain_bound(log_w: Tensor) -> Tensor:
    """MIWAE's bound of log w [M, K, batch], averaged over the batch."""
    top = log_w.max(1, keepdim=True)[0]
    return ((log_w - top).exp().mean(1).log() + top.squeeze(1)).mean()


# (M, K) of each optimiser's step; PIWAE has one for the encoder and one for the decoder.
LAYOUTS = {
    "iwae": [(1, 64)],
    "miwae": [(8, 8)],
    "vae": [(64, 1)],
    "ciwae": [(1, 64)],
    "piwae": [(8, 8), (1, 64)],
}


def plain(
    method: str,
    images: Tensor,
    shape: Architecture,
    batch: int,
    device: str,
    compiles: bool = False,
) -> Loop:
    """A loop in the style of the report's code, where PIWAE takes two passes.

    If it ``compiles``, log w is a function compiled by ``torch.compile``.
    """
    net = PlainNetworks(shape).to(device)
    batches = Batches(images, batch, device)
    networks = [net.encoder, net.decoder] if method == "piwae" else [net]
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in networks]
    log_weights = torch.compile(net.log_weights) if compiles else net.log_weights

    def step() -> float:
        x = batches()
        for optimizer, (M, K) in zip(optimizers, LAYOUTS[method], strict=True):
            loss = -plain_bound(log_weights(x, M, K))
            if method == "ciwae":
                loss = 0.5 * loss - 0.5 * log_weights(x, 64, 1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return Loop(step, net.layers)


def plain_evaluation(images: Tensor, shape: Architecture, device: str) -> Callable[[int], object]:
    """log p-hat of 20 images with K samples at once, as in the report's code."""
    net = PlainNetworks(shape).to(device)
    x = torch.bernoulli(images[:20]).to(device)

    @torch.no_grad()
    def evaluate(K: int) -> float:
        return plain_bound(net.log_weights(x, 1, K)).item()

    return evaluate


PYTHAE = {  # method -> the name of Pythae's model, and its options
    "iwae": ("IWAE", {"number_samples": 64}),
    "miwae": ("MIWAE", {"number_samples": 8, "number_gradient_estimates": 8}),
    "ciwae": ("CIWAE", {"number_samples": 64, "beta": 0.5}),
    "piwae": ("PIWAE", {"number_samples": 8, "number_gradient_estimates": 8}),
}


def pythae(method: str, images: Tensor, shape: Architecture, batch: int, device: str) -> Loop:
    """Pythae's models with networks of this architecture; its CIWAE and PIWAE are as they are."""
    from pythae.data.datasets import DatasetOutput

    model = _pythae_model(method, shape).to(device)
    batches = Batches(images, batch, device)
    two_losses = method == "piwae"
    networks = [model.encoder, model.decoder] if two_losses else [model]
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in networks]

    def step() -> float:
        output = model(DatasetOutput(data=batches().view(-1, 1, 28, 28)))
        losses = [output.encoder_loss, output.decoder_loss] if two_losses else [output.loss]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for loss in losses:
            loss.backward(retain_graph=loss is not losses[-1])
        for optimizer in optimizers:
            optimizer.step()
        return output.loss.item()

    return Loop(step, lambda: layers_in(model.encoder, model.decoder))


def _pythae_model(method: str, shape: Architecture) -> nn.Module:
    from pythae import models
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

    name, options = PYTHAE[method]
    config = getattr(models, f"{name}Config")(
        input_dim=(1, 28, 28), latent_dim=shape.latent, reconstruction_loss="bce", **options
    )
    return getattr(models, name)(config, Encoder(), Decoder())


def jax(
    methods: list[str], images: Tensor, shape: Architecture, batch: int, steps: int, seed: int = 0
) -> Loop:
    """JAX: one jitted call of ``steps`` steps, scanned, of all runs, vmapped.

    ``layers`` are those of the first run. Each run has its own data order and noise. PIWAE is one
    forward pass and a backward pass for each network.
    """
    from benchmarks.with_jax import jitted

    step, layers = jitted(methods, images.numpy(), shape, batch, steps, seed)
    return Loop(step, lambda: [tuple(map(torch.from_numpy, layer)) for layer in layers()])
