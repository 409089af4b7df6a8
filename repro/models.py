"""The two networks, for many runs at once, and the log-weights that they give.

A run is one training, with weights of its own. Runs are stacked: every parameter has a leading run
axis, weights ``[run, out, in]`` and biases ``[run, out]``. Stacked runs share the architecture and
nothing else.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro import ReproError, likelihood
from repro.catalogue import Architecture
from repro.likelihood import affine, product
from repro.randomness import Streams, generator

Preparation = Callable[[Callable], Callable]  # a function of tensors -> the same, ready to run
Noise = Callable[[Sequence[int]], Tensor]  # shape -> standard normal [run, *shape]

# By ``init``: how sigma comes from the encoder's last layer, and the eps of Adam.
POSITIVE = {"default": F.softplus, "burda": torch.exp}
ADAM_EPS = {"default": 1e-8, "burda": 1e-4}


class StackedModel(Protocol):
    """The interface of stacked models for training and scores: tensors are [run, ...]."""

    binarises: bool  # False if it takes images as they are
    prepare: Preparation

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""

    def noise(self, streams: Streams):
        """Make the ``noise`` argument of the methods below from random streams."""

    def log_weights(self, x: Tensor, M: int, K: int, noise) -> tuple[Tensor, Tensor]:
        """Log w of M K fresh samples, for theta's and for phi's bound: [run, M, K, batch] each."""

    def means(self, x: Tensor) -> Tensor | None:
        """The mean of q(z|x), [run, n, latent]; None if it is not known."""

    def reconstruct(self, x: Tensor, noise) -> Tensor | None:
        """Reconstructions of x, of the same shape; None if the model makes none."""

    def run_state(self, run: int) -> dict[str, Tensor]:
        """The parameters and buffers of run number ``run`` of the stack, by name."""

    def load_run_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set one run's parameters and buffers; ReproError if not finite or another model's."""


def eager(function: Callable) -> Callable:
    """Return ``function`` as it is, uncompiled: PyTorch's eager mode."""
    return function


class Linear(nn.Module):
    """A layer with an affine map for each run: x [run, n, in] -> [run, n, out]."""

    def __init__(self, count: int, fan_in: int, fan_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(count, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """W x + b."""
        return affine(x, self.weight, self.bias)

    @torch.no_grad()
    def initialise(self, run: int, init: str, g: torch.Generator) -> None:
        """Draw the initial weights and biases of one run.

        ``default``: U(-1/sqrt(in), 1/sqrt(in)) for both, as torch.nn.Linear. ``burda``: Glorot
        uniform weights, zero biases.
        """
        _, fan_out, fan_in = self.weight.shape
        limit = math.sqrt(6 / (fan_in + fan_out)) if init == "burda" else 1 / math.sqrt(fan_in)
        self.weight[run].uniform_(-limit, limit, generator=g)
        self.bias[run].uniform_(-limit, limit, generator=g)
        if init == "burda":
            self.bias[run].zero_()


class Encoder(nn.Module):
    """q(z|x): x [run, batch, pixels] -> mu, sigma [run, batch, latent]."""

    def __init__(self, count: int, shape: Architecture, positive: Callable[[Tensor], Tensor]):
        super().__init__()
        self.hidden1 = Linear(count, shape.pixels, shape.hidden)
        self.hidden2 = Linear(count, shape.hidden, shape.hidden)
        self.mu = Linear(count, shape.hidden, shape.latent)
        self.sigma = Linear(count, shape.hidden, shape.latent)
        self.positive = positive

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and sigma at x."""
        _, _, mu, raw_sigma = encoder_layers(x, list(self.parameters()))
        return mu, self.positive(raw_sigma)


def encoder_layers(x, encoder) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both hidden layers [run, batch, hidden], mu, and sigma before it is made positive.

    x [run, batch, pixels]; ``encoder`` holds the weights and biases of its layers. Mu and sigma,
    [run, batch, latent], come from one product.
    """
    w1, b1, w2, b2, w_mu, b_mu, w_sigma, b_sigma = encoder
    h1 = torch.tanh(affine(x, w1, b1))
    h2 = torch.tanh(affine(h1, w2, b2))
    both = affine(h2, torch.cat([w_mu, w_sigma], 1), torch.cat([b_mu, b_sigma], 1))
    return h1, h2, *both.chunk(2, -1)


def draw_z(positive, mu, raw_sigma, eps, still=None) -> tuple[Tensor, Tensor]:
    """z = mu + sigma eps [run, T, batch, latent], and log p(z) - log q(z|x) [run, T, batch].

    In the runs for which ``still`` [run, 1, 1, 1] is true, mu and sigma are constants in the
    density q(z|x): the second is differentiated with respect to them through z alone.
    """
    mu = mu[:, None]
    sigma = positive(raw_sigma)[:, None]
    z = mu + sigma * eps
    if still is not None:
        mu = torch.where(still, mu.detach(), mu)
        sigma = torch.where(still, sigma.detach(), sigma)
        eps = (z - mu) / sigma
    return z, (0.5 * (eps * eps - z * z) + sigma.log()).sum(-1)


def sample(positive, x, eps, encoder) -> tuple[Tensor, Tensor]:
    """Draw z from q(z|x) at x [run, batch, pixels], as ``draw_z``, with its log-ratio."""
    _, _, mu, raw_sigma = encoder_layers(x, encoder)
    return draw_z(positive, mu, raw_sigma, eps)


def encoder_gradient(positive, cotangent, still, x, eps, encoder, layers, at_z) -> Tensor:
    """The gradient at all of the encoder's parameters, [run, parameters].

    The cotangent [run, T, batch] is phi's, ``at_z`` [run, n, latent] the gradient of each sample's
    log p(x|z) at z, ``layers`` come from ``encoder_layers``, and ``still`` is ``draw_z``'s.
    """
    _, _, w2, _, w_mu, _, w_sigma, _ = encoder
    h1, h2, mu, raw_sigma = layers
    _, pull_back = torch.func.vjp(
        lambda *moments: draw_z(positive, *moments, eps, still), mu, raw_sigma
    )
    scaled = at_z.view(*cotangent.shape, -1) * cotangent[..., None]
    both = torch.cat(pull_back((scaled, cotangent)), -1)
    d2 = product(both, torch.cat([w_mu, w_sigma], 1)) * (1 - h2**2)
    d1 = product(d2, w2) * (1 - h1**2)
    of_mu, of_sigma = product(both.mT, h2).chunk(2, 1)
    of_b_mu, of_b_sigma = both.sum(1).chunk(2, 1)
    of_first = product(d1.mT, x), d1.sum(1)
    of_second = product(d2.mT, h1), d2.sum(1)
    return _flat([*of_first, *of_second, of_mu, of_b_mu, of_sigma, of_b_sigma])


class Decoder(nn.Module):
    """p(x|z): z [run, n, latent] -> logits [run, n, pixels]."""

    def __init__(self, count: int, shape: Architecture):
        super().__init__()
        self.hidden1 = Linear(count, shape.latent, shape.hidden)
        self.hidden2 = Linear(count, shape.hidden, shape.hidden)
        self.logits = Linear(count, shape.hidden, shape.pixels)

    def forward(self, z: Tensor) -> Tensor:
        """Logits of the pixels at z."""
        return self.logits(torch.tanh(self.hidden2(torch.tanh(self.hidden1(z)))))


def _log_w(positive, x, eps, encoder, decoder) -> Tensor:
    """log w [run, T, batch]."""
    z, log_ratio = sample(positive, x, eps, encoder)
    return likelihood.log_px_z(x, z, decoder) + log_ratio


def _log_w_and_layers(positive, dtype, x, eps, encoder, decoder) -> tuple[Tensor, tuple, tuple]:
    """log w [run, T, batch], and the layers of encoder and decoder for the gradients."""
    of_encoder = encoder_layers(x, encoder)
    _, _, mu, raw_sigma = of_encoder
    z, log_ratio = draw_z(positive, mu, raw_sigma, eps)
    log_px_z, *of_decoder = likelihood.log_px_z_and_layers(dtype, x, z, decoder)
    return log_px_z + log_ratio, of_encoder, tuple(of_decoder)


def decoder_gradient(cotangent, layers, of_each, of_last=None) -> Tensor:
    """The gradient at all of the decoder's parameters, [run, parameters], from ``likelihood``'s."""
    of_last = of_last or likelihood.last_layer_gradients(cotangent, layers)
    return _flat([*likelihood.other_layers_gradients(cotangent, layers, of_each), *of_last])


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten(1) for g in gradients], 1)


class Pass(NamedTuple):
    """The log-weights of a forward pass, and the activations that the backward pass needs."""

    log_w: Tensor  # in nats, [run, T, batch]
    x: Tensor  # [run, batch, pixels]
    eps: Tensor  # [run, T, batch, latent]
    encoder: list[Tensor]  # its weights and biases
    of_encoder: tuple[Tensor, ...]  # its layers at x, from ``encoder_layers``
    of_decoder: tuple[Tensor, ...]  # its layers at z, from ``log_px_z_and_layers``


class Autoencoder(nn.Module):
    """Stacked VAEs, one for each of ``seeds``; equal seeds start from the same weights.

    An image may have any shape of ``shape.pixels`` numbers, and is taken as a row of them.
    ``mean_image`` [pixels] sets the decoder's output bias if ``init="burda"``. ``prepare`` wraps
    each function that runs without autograd: ``eager`` leaves it as it is, ``engines.compiled``
    compiles it.

    >>> model = Autoencoder(Architecture(hidden=20, latent=5), seeds=[0, 1])
    >>> x = torch.zeros(2, 3, 784)  # two runs, three images
    >>> of_theta, of_phi = model(x, eps=torch.zeros(2, 7, 3, 5))  # seven samples
    >>> of_theta.shape
    torch.Size([2, 7, 3])
    """

    def __init__(
        self,
        shape: Architecture,
        seeds: Sequence[int],
        init: str = "default",
        mean_image: Tensor | None = None,
    ):
        super().__init__()
        self.shape = shape
        self.prepare = eager
        self.encoder = Encoder(len(seeds), shape, POSITIVE[init])
        self.decoder = Decoder(len(seeds), shape)
        for run, seed in enumerate(seeds):
            g = generator(seed, "init")
            for layer in self.modules():
                if isinstance(layer, Linear):
                    layer.initialise(run, init, g)
        if init == "burda":
            with torch.no_grad():
                self.decoder.logits.bias.copy_(mean_image.clamp(0.001, 0.999).logit())

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        return self.decoder.logits.bias.device

    binarises = True  # it models pixels that are 0 or 1

    @staticmethod
    def noise(streams: Streams) -> Noise:
        """Make the ``noise`` argument of the methods below: shape -> normal ``[run, *shape]``."""
        return streams.normal

    def means(self, x: Tensor) -> Tensor:
        """Mu, the mean of q(z|x): x [run, n, ...] -> [run, n, latent]."""
        return self.encoder(x.flatten(2))[0]

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """log w = log p(x, z) - log q(z|x) in nats, twice, at z = mu + sigma eps.

        x [run, batch, pixels], eps [run, T, batch, latent] -> two [run, T, batch]. The numbers are
        equal; the first is differentiable in theta only, the second in phi only.
        """
        x = x.flatten(2)
        encoder = list(self.encoder.parameters())
        decoder = list(self.decoder.parameters())
        if not torch.is_grad_enabled():
            log_w = self.prepare(_log_w)(self.encoder.positive, x, eps, encoder, decoder)
            return log_w, log_w
        z, log_ratio = sample(self.encoder.positive, x, eps, encoder)
        for_theta = likelihood.log_px_z(x, z.detach(), decoder)
        for_phi = likelihood.log_px_z(x, z, [p.detach() for p in decoder])
        return for_theta + log_ratio.detach(), for_phi + log_ratio

    def forward_with_layers(self, x: Tensor, eps: Tensor, dtype: torch.dtype | None = None) -> Pass:
        """Compute ``forward`` without autograd, and keep the activations for ``pull_back``.

        Matrix products over samples take and return ``dtype``; by default that of x.
        """
        x = x.flatten(2)
        encoder = [p.detach() for p in self.encoder.parameters()]
        decoder = [p.detach() for p in self.decoder.parameters()]
        function = self.prepare(_log_w_and_layers)
        found = function(self.encoder.positive, dtype or x.dtype, x, eps, encoder, decoder)
        log_w, of_encoder, of_decoder = found
        return Pass(log_w, x, eps, encoder, of_encoder, of_decoder)

    def pull_back(
        self, forward: Pass, for_theta: Tensor, for_phi: Tensor, still: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The gradients at the encoder's and at the decoder's parameters, each [run, parameters].

        Both cotangents are [run, T, batch], from ``estimators.cotangents``. For phi, log w is
        differentiated through z alone in the runs for which ``still`` [run, 1, 1, 1] is true.
        ``Program.pull_back`` does the same on two streams.
        """
        of_each = self.sample_gradients(forward)
        of_last = self.last_layer_gradients(forward, for_theta)
        at_decoder = self.decoder_gradient(forward, for_theta, of_each, of_last)
        return self.encoder_gradient(forward, for_phi, of_each, still), at_decoder

    def sample_gradients(self, forward: Pass) -> tuple[Tensor, ...]:
        """The gradients of each sample's log p(x|z) at the decoder's hidden layers and at z."""
        return self.prepare(likelihood.gradients_of_each)(forward.of_decoder)

    def last_layer_gradients(self, forward: Pass, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients at the decoder's last weight and bias, from theta's cotangent."""
        return self.prepare(likelihood.last_layer_gradients)(cotangent, forward.of_decoder)

    def decoder_gradient(self, forward: Pass, cotangent: Tensor, of_each, of_last) -> Tensor:
        """The gradient at all of the decoder's parameters, from the results of the two above."""
        return self.prepare(decoder_gradient)(cotangent, forward.of_decoder, of_each, of_last)

    def encoder_gradient(
        self, forward: Pass, cotangent: Tensor, of_each, still: Tensor | None = None
    ) -> Tensor:
        """The gradient at all of the encoder's parameters, from phi's cotangent."""
        function = self.prepare(encoder_gradient)
        layers = (forward.x, forward.eps, forward.encoder, forward.of_encoder)
        return function(self.encoder.positive, cotangent, still, *layers, of_each[-1])

    def hold_decoder(self, state: dict[str, Tensor]) -> None:
        """Copy the decoder in ``state``, from ``run_state``, into every run."""
        for name, parameter in self.decoder.named_parameters():
            parameter.data[:] = state[f"decoder.{name}"]

    def log_weights(self, x: Tensor, M: int, K: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """``forward`` at M K fresh samples: x [run, batch, pixels] -> two [run, M, K, batch]."""
        theta, phi = self(x, noise((M * K, x.shape[1], self.shape.latent)))
        return theta.unflatten(1, (M, K)), phi.unflatten(1, (M, K))

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """sigmoid(logits) at one sample of q(z|x): x [run, batch, pixels] -> the same shape."""
        eps = noise((1, x.shape[1], self.shape.latent))
        z, _ = sample(self.encoder.positive, x.flatten(2), eps, list(self.encoder.parameters()))
        return self.decoder(z[:, 0]).sigmoid().view(x.shape)

    def run_state(self, run: int) -> dict[str, Tensor]:
        """The parameters of run number ``run`` of the stack, by name, without the run axis."""
        return {name: p[run].detach().cpu().contiguous() for name, p in self.named_parameters()}

    def load_run_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set the parameters of run number ``run`` to ``state``, from ``run_state``.

        Raises ReproError if it is of another architecture or not finite.
        """
        set_tensors({name: p.data[run] for name, p in self.named_parameters()}, state)


REAL = {torch.float32, torch.float64}  # weights of one may be set to those of the other


@torch.no_grad()
def set_tensors(
    mine: dict[str, Tensor], state: dict[str, Tensor], may_be_infinite: Collection[str] = ()
) -> None:
    """Copy ``state`` into the tensors of a model, ``mine``, both by name.

    Raises ReproError, and copies nothing, if they are of another model or not finite.
    """
    if state.keys() != mine.keys():
        wrong = sorted(state.keys() ^ mine.keys())[0]
        raise ReproError(f"the weights are not of this model ('{wrong[:40]}')")
    for name, tensor in mine.items():
        value = state[name]
        alike = value.dtype == tensor.dtype or {value.dtype, tensor.dtype} <= REAL
        if value.shape != tensor.shape or not alike:
            found = f"{[*value.shape]} of {value.dtype}"
            wanted = f"{[*tensor.shape]} of {tensor.dtype}"
            raise ReproError(f"the weights' {name} is {found}; this model has {wanted}")
        if name not in may_be_infinite and not value.isfinite().all():
            raise ReproError(f"the weights' {name} is not finite")
    for name, tensor in mine.items():
        tensor.copy_(state[name])
