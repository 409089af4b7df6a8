"""The two networks, for many runs at once, and the log-weights they give.

Every parameter carries a leading run axis: weights ``[run, out, in]``, biases ``[run, out]``. All runs of one program
share the architecture and nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.data import generator

Noise = Callable[[Sequence[int]], Tensor]  # shape -> standard normal [run, *shape]
How = Callable[[Callable], Callable]  # a function of tensors -> the same, made ready to run


def eager(function: Callable) -> Callable:
    """The function itself."""
    return function


@functools.cache
def compiled(function: Callable) -> Callable:
    """The function compiled by torch.compile, once for every shape that it meets."""
    return torch.compile(function, dynamic=False)


PIXELS = 784


@dataclass(frozen=True)
class Architecture:
    """Two tanh layers each way, diagonal Gaussian q(z|x), N(0, I) prior, Bernoulli p(x|z)."""

    hidden: int
    latent: int
    pixels: int = PIXELS


MODELS = {"reference": Architecture(hidden=200, latent=50), "larger": Architecture(hidden=400, latent=20)}

# How to start and how sigma comes from the encoder's last layer: PyTorch's defaults as in the report's code, or Burda's.
SIGMA = {"default": F.softplus, "burda": torch.exp}
ADAM_EPS = {"default": 1e-8, "burda": 1e-4}


def product(a: Tensor, b: Tensor) -> Tensor:
    """One matrix product for each run: [run, n, k], [run, k, m] -> [run, n, m]."""
    if len(a) == 1:  # a stack of one: the plain product is up to twice as fast on the CPU
        return torch.mm(a[0], b[0])[None]
    return torch.bmm(a, b)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b for each run: [run, n, in], [run, out, in], [run, out] -> [run, n, out]."""
    return product(x, weight.mT) + bias[:, None]


class Linear(nn.Module):
    """x [run, n, in] -> [run, n, out], one affine map for each run."""

    def __init__(self, runs: int, fan_in: int, fan_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(runs, fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(runs, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """W x + b."""
        return affine(x, self.weight, self.bias)

    @torch.no_grad()
    def initialise(self, run: int, init: str, g: torch.Generator) -> None:
        """``default``: U(-1/sqrt(in), 1/sqrt(in)) for both, as torch.nn.Linear. ``burda``: Glorot uniform, bias 0."""
        _, fan_out, fan_in = self.weight.shape
        limit = math.sqrt(6 / (fan_in + fan_out)) if init == "burda" else 1 / math.sqrt(fan_in)
        self.weight[run].uniform_(-limit, limit, generator=g)
        self.bias[run].uniform_(-limit, limit, generator=g)
        if init == "burda":
            self.bias[run].zero_()


class Encoder(nn.Module):
    """q(z|x): x [run, batch, pixels] -> mu, sigma [run, batch, latent]."""

    def __init__(self, runs: int, shape: Architecture, sigma: Callable[[Tensor], Tensor]):
        super().__init__()
        self.hidden1 = Linear(runs, shape.pixels, shape.hidden)
        self.hidden2 = Linear(runs, shape.hidden, shape.hidden)
        self.mu = Linear(runs, shape.hidden, shape.latent)
        self.sigma = Linear(runs, shape.hidden, shape.latent)
        self.positive = sigma

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and sigma at x."""
        return encode(self.positive, x, *self.parameters())


def encode(positive, x, w1, b1, w2, b2, w_mu, b_mu, w_sigma, b_sigma) -> tuple[Tensor, Tensor]:
    """Mu and sigma [run, batch, latent] of q(z|x) at x [run, batch, pixels]."""
    h = torch.tanh(affine(torch.tanh(affine(x, w1, b1)), w2, b2))
    return affine(h, w_mu, b_mu), positive(affine(h, w_sigma, b_sigma))


def sample(positive, x, eps, *encoder) -> tuple[Tensor, Tensor]:
    """z = mu + sigma eps [run, T, batch, latent], and log p(z) - log q(z|x) [run, T, batch]."""
    mu, sigma = (s[:, None] for s in encode(positive, x, *encoder))
    z = mu + sigma * eps
    return z, (0.5 * (eps * eps - z * z) + sigma.log()).sum(-1)


class Decoder(nn.Module):
    """p(x|z): z [run, n, latent] -> logits [run, n, pixels]."""

    def __init__(self, runs: int, shape: Architecture):
        super().__init__()
        self.hidden1 = Linear(runs, shape.latent, shape.hidden)
        self.hidden2 = Linear(runs, shape.hidden, shape.hidden)
        self.logits = Linear(runs, shape.hidden, shape.pixels)

    def forward(self, z: Tensor) -> Tensor:
        """Logits of the pixels at z."""
        return self.logits(torch.tanh(self.hidden2(torch.tanh(self.hidden1(z)))))

    def log_px_z(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x|z) in nats, twice: x [run, batch, pixels], z [run, T, batch, latent] -> two [run, T, batch].

        The numbers are equal. The first is differentiable in the decoder's parameters only, the second in z only, so
        that two bounds can share one backward pass.
        """
        return _LogLikelihood.apply(x, z, *self.parameters())


class _LogLikelihood(torch.autograd.Function):
    """log p(x|z) with separate incoming gradients for theta and phi."""

    @staticmethod
    def forward(ctx, x, z, *parameters):
        log_px_z, *saved = _forward(z.dtype, x, z, *parameters)
        ctx.save_for_backward(*saved)
        return log_px_z, log_px_z.clone()

    @staticmethod
    def backward(ctx, a, b):
        return None, *_backward(a, b, *ctx.saved_tensors)


def _forward(dtype, x, z, *parameters) -> tuple[Tensor, ...]:
    """log p(x|z) [run, T, batch] and what ``_backward`` needs."""
    weights, inputs, logits, x_logits = _activations(dtype, x, z, *parameters)
    log_partition, sigmoid = _log_partition_and_sigmoid(logits)
    return x_logits - log_partition, *weights, *inputs, (x[:, None] - sigmoid).to(dtype).flatten(1, 2)


def _backward(a, b, w1, w2, w3, rows, h1, h2, residual) -> tuple[Tensor, ...]:
    """The gradients at z and at each parameter, from a = d(theta's bound)/d(log p) and b = d(phi's bound)/d(log p).

    Both are [run, T, batch]. The gradient of each sample's log p is carried back unscaled; its rows are weighed by a
    where a parameter's gradient is summed, by b where it reaches z. No ratio of weights is formed.
    """
    shape, dtype, a, b = b.shape, rows.dtype, a.flatten(1)[..., None], b.flatten(1)[..., None]
    d2 = (product(residual, w3) * (1 - h2.to(a.dtype) ** 2)).to(dtype)
    d1 = (product(d2, w2) * (1 - h1.to(a.dtype) ** 2)).to(dtype)
    gradients = [(product(d1, w1) * b).view(*shape, -1)]
    for delta, inputs in ((d1, rows), (d2, h1), (residual, h2)):
        gradients += [product(delta.mT, (a * inputs).to(dtype)).to(a.dtype), product(delta.mT, a.to(dtype))[..., 0].to(a.dtype)]
    return tuple(gradients)


def _log_w(positive, x, eps, encoder, decoder) -> Tensor:
    """log w [run, T, batch]."""
    z, log_ratio = sample(positive, x, eps, *encoder)
    *_, logits, x_logits = _activations(x.dtype, x, z, *decoder)
    return x_logits - _log_partition(logits) + log_ratio


def _values(positive, dtype, x, eps, encoder, decoder) -> tuple[Tensor, ...]:
    """log w [run, T, batch] and what ``_gradients`` needs."""
    z, log_ratio = sample(positive, x, eps, *encoder)
    log_px_z, *saved = _forward(dtype, x, z, *decoder)
    return log_px_z + log_ratio, *saved


def _gradients(positive, a, b, x, eps, encoder, saved) -> Tensor:
    """The gradient [run, parameters] at the encoder's parameters, then the decoder's, each flattened."""
    dz, *decoder = _backward(a, b, *saved)
    _, pull_back = torch.func.vjp(lambda *encoder: sample(positive, x, eps, *encoder), *encoder)
    return torch.cat([g.flatten(1) for g in (*pull_back((dz, b)), *decoder)], 1)


def _activations(dtype, x, z, w1, b1, w2, b2, w3, b3) -> tuple:
    """The decoder's weights and its layers at z, one row a sample, the logits [run, T, batch, pixels], and sum_d x_d logits_d [run, T, batch].

    That sum is h2 . (x W3) + x . b3, which needs no pass over the pixels of every sample.
    """
    w1, w2, w3, rows = (tensor.to(dtype) for tensor in (w1, w2, w3, z.flatten(1, 2)))
    h1 = _tanh(affine(rows, w1, b1)).to(dtype)
    h2 = _tanh(affine(h1, w2, b2)).to(dtype)
    logits = product(h2, w3.mT).view(*z.shape[:3], -1) + b3[:, None, None]
    x_logits = (product(x.to(dtype), w3)[:, None] * h2.view(*z.shape[:3], -1)).sum(-1, dtype=x.dtype) + (x * b3[:, None]).sum(-1)[:, None]
    return (w1, w2, w3), (rows, h1, h2), logits, x_logits


# Compiled, a chain of element-wise operations costs what its exponentials and logarithms cost, so the compiled forms
# spend one exp a value and share it. Eager ones spend the fewest passes over memory.


def _tanh(x: Tensor) -> Tensor:
    return 1 - 2 / (torch.exp(2 * x) + 1) if torch.compiler.is_compiling() else torch.tanh(x)


def _log_partition(logits: Tensor) -> Tensor:
    """sum_d log(1 + exp(logits_d)) [run, n]; overwrites the logits where not compiled."""
    if torch.compiler.is_compiling():
        return _log_partition_and_sigmoid(logits)[0]
    return torch.ops.aten.softplus.out(logits, out=logits).sum(-1)


LANES, FACTORS = 16, 120  # a product of so many factors in (1, 2] is below the largest float32


def _log_partition_and_sigmoid(logits: Tensor) -> tuple[Tensor, Tensor]:
    """sum_d log(1 + exp(logits_d)) [run, n] and sigmoid(logits) [run, n, pixels]; overwrites the logits where not compiled.

    log(1 + exp(l)) = max(l, 0) + log(1 + e), e = exp(-|l|); the sum of logarithms is taken as that of products.
    """
    if not torch.compiler.is_compiling():
        return F.softplus(logits).sum(-1), logits.sigmoid_()
    e, pixels = torch.exp(-logits.abs()), logits.shape[-1]
    factors = 1 + e
    products = factors.unflatten(-1, (-1, LANES)).prod(-2) if pixels % LANES == 0 and pixels <= LANES * FACTORS else factors
    return logits.clamp(min=0).sum(-1) + products.log().sum(-1), torch.where(logits >= 0, 1, e) / factors


class Autoencoder(nn.Module):
    """One encoder and one decoder for each seed in ``seeds``; runs with the same seed start from the same weights.

    ``mean_image`` [pixels] sets the decoder's output bias where ``init="burda"``. ``how`` makes a function of tensors ready
    to run, for all that needs no autograd: ``eager`` or ``compiled``.
    """

    def __init__(self, shape: Architecture, seeds: Sequence[int], init: str = "default", mean_image: Tensor | None = None):
        super().__init__()
        self.shape = shape
        self.how: How = eager
        self.encoder = Encoder(len(seeds), shape, SIGMA[init])
        self.decoder = Decoder(len(seeds), shape)
        for run, seed in enumerate(seeds):
            g = generator(seed, "init")
            for layer in self.modules():
                if isinstance(layer, Linear):
                    layer.initialise(run, init, g)
        if init == "burda":
            with torch.no_grad():
                self.decoder.logits.bias.copy_(mean_image.clamp(0.001, 0.999).logit())

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """log w = log p(x, z) - log q(z|x) in nats, twice, at z = mu + sigma eps.

        x [run, batch, pixels], eps [run, T, batch, latent] -> two [run, T, batch]. The numbers are equal; the first is
        differentiable in theta only, the second in phi only.
        """
        if not torch.is_grad_enabled():
            log_w = self.how(_log_w)(self.encoder.positive, x, eps, [*self.encoder.parameters()], [*self.decoder.parameters()])
            return log_w, log_w
        z, log_ratio = sample(self.encoder.positive, x, eps, *self.encoder.parameters())
        log_px_z_theta, log_px_z_phi = self.decoder.log_px_z(x, z)
        return log_px_z_theta + log_ratio.detach(), log_px_z_phi + log_ratio

    def gradients(self, x: Tensor, eps: Tensor, weigh: Callable[[Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype | None = None) -> Tensor:
        """The gradient at all parameters, in their order, [run, parameters]: ``forward`` and a backward pass without autograd.

        ``weigh`` maps log w [run, T, batch] to a and b of the same shape, the derivatives of what theta and phi ascend.
        The matrix products over samples take and give ``dtype``; by default that of the parameters.
        """
        encoder = [p.detach() for p in self.encoder.parameters()]
        decoder = [p.detach() for p in self.decoder.parameters()]
        log_w, *saved = self.how(_values)(self.encoder.positive, dtype or x.dtype, x, eps, encoder, decoder)
        a, b = weigh(log_w)
        return self.how(_gradients)(self.encoder.positive, a, b, x, eps, encoder, saved)

    def log_weights(self, x: Tensor, M: int, K: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """``forward`` at M K fresh samples of each image: x [run, batch, pixels] -> two [run, M, K, batch]."""
        log_w = self(x, noise((M * K, x.shape[1], self.shape.latent)))
        return tuple(w.unflatten(1, (M, K)) for w in log_w)

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """sigmoid(logits) at one sample of q(z|x): x [run, batch, pixels] -> [run, batch, pixels] in [0, 1]."""
        z, _ = sample(self.encoder.positive, x, noise((1, x.shape[1], self.shape.latent)), *self.encoder.parameters())
        return self.decoder(z[:, 0]).sigmoid()

    def run_state(self, run: int) -> dict[str, Tensor]:
        """One run's parameters, by name, without the run axis."""
        return {name: p[run].detach().cpu().contiguous() for name, p in self.named_parameters()}

    def load_run_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set one run's parameters from ``run_state``'s dictionary."""
        with torch.no_grad():
            for name, p in self.named_parameters():
                p[run].copy_(state[name])
