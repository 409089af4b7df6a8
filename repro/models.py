"""The two networks, for many runs at once, and the log-weights they give.

Every parameter carries a leading run axis: weights ``[run, out, in]``, biases ``[run, out]``. All runs of one program
share the architecture and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.data import generator

Noise = Callable[[Sequence[int]], Tensor]  # shape -> standard normal [run, *shape]

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


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """One matrix product for each run, plus a bias [run, m]: [run, n, k], [run, k, m] -> [run, n, m]."""
    if len(a) == 1:  # a stack of one: the plain product is up to twice as fast on the CPU
        return (torch.mm(a[0], b[0]) if bias is None else torch.addmm(bias[0], a[0], b[0]))[None]
    return torch.bmm(a, b) if bias is None else torch.baddbmm(bias[:, None], a, b)


class Linear(nn.Module):
    """x [run, n, in] -> [run, n, out], one affine map for each run."""

    def __init__(self, runs: int, fan_in: int, fan_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(runs, fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(runs, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """W x + b."""
        return product(x, self.weight.mT, self.bias)

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
        h = torch.tanh(self.hidden2(torch.tanh(self.hidden1(x))))
        return self.mu(h), self.positive(self.sigma(h))


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
        parameters = [p for layer in (self.hidden1, self.hidden2, self.logits) for p in (layer.weight, layer.bias)]
        if torch.is_grad_enabled():
            return _LogLikelihood.apply(x, z, *parameters)
        *_, logits, inner = _activations(x, z, *parameters)
        log_px_z = inner - _softplus_sum(logits, z.shape[:3], out=logits)
        return log_px_z, log_px_z


def _activations(x, z, w1, b1, w2, b2, w3, b3) -> tuple[Tensor, ...]:
    """The decoder's layers at z, one row a sample, and sum_d x_d logits_d [run, T, batch].

    That sum is h2 . (x W3) + x . b3, which needs no pass over the pixels of every sample.
    """
    rows = z.flatten(1, 2)
    h1 = product(rows, w1.mT, b1).tanh_()
    h2 = product(h1, w2.mT, b2).tanh_()
    inner = (product(x, w3)[:, None] * h2.view(*z.shape[:3], -1)).sum(-1) + product(x, b3[:, :, None]).mT
    return rows, h1, h2, product(h2, w3.mT, b3), inner


def _softplus_sum(logits: Tensor, shape: torch.Size, out: Tensor | None = None) -> Tensor:
    """sum_d log(1 + exp(logits_d)), [run, T, batch]."""
    values = F.softplus(logits) if out is None else torch.ops.aten.softplus.out(logits, out=out)
    return values.sum(-1).view(shape)


class _LogLikelihood(torch.autograd.Function):
    """log p(x|z) with separate incoming gradients for theta and phi.

    Backward receives d(theta's bound)/d(log p) = a and d(phi's bound)/d(log p) = b, both [run, T, batch]. It carries
    the gradient of each sample's log p back unscaled, weighs the rows by a where a parameter's gradient is summed and
    by b where it reaches z. No ratio of weights is formed.
    """

    @staticmethod
    def forward(ctx, x, z, w1, b1, w2, b2, w3, b3):
        rows, h1, h2, logits, inner = _activations(x, z, w1, b1, w2, b2, w3, b3)
        log_px_z = inner - _softplus_sum(logits, z.shape[:3])
        residual = (x[:, None] - logits.sigmoid_().view(*z.shape[:3], -1)).flatten(1, 2)
        ctx.save_for_backward(rows, h1, h2, residual, w1, w2, w3)
        return log_px_z, log_px_z.clone()

    @staticmethod
    def backward(ctx, a, b):
        rows, h1, h2, residual, w1, w2, w3 = ctx.saved_tensors
        shape, a, b = b.shape, a.flatten(1)[..., None], b.flatten(1)[..., None]
        d2 = product(residual, w3) * (1 - h2 * h2)
        d1 = product(d2, w2) * (1 - h1 * h1)
        dz = (product(d1, w1) * b).view(*shape, -1)
        grads = []
        for delta, inputs in ((d1, rows), (d2, h1), (residual, h2)):
            grads += [product(delta.mT, a * inputs), product(delta.mT, a)[..., 0]]
        return None, dz, *grads


class Autoencoder(nn.Module):
    """One encoder and one decoder for each seed in ``seeds``; runs with the same seed start from the same weights.

    ``mean_image`` [pixels] sets the decoder's output bias where ``init="burda"``.
    """

    def __init__(self, shape: Architecture, seeds: Sequence[int], init: str = "default", mean_image: Tensor | None = None):
        super().__init__()
        self.shape = shape
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

    def sample(self, x: Tensor, T: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """z = mu + sigma eps, and log p(z) - log q(z|x): x [run, batch, pixels] -> [run, T, batch, latent], [run, T, batch]."""
        mu, sigma = (s[:, None] for s in self.encoder(x))
        eps = noise((T, x.shape[1], self.shape.latent))
        z = mu + sigma * eps
        return z, (0.5 * (eps * eps - z * z) + sigma.log()).sum(-1)

    def log_weights(self, x: Tensor, M: int, K: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """log w = log p(x, z) - log q(z|x) in nats, twice: x [run, batch, pixels] -> two [run, M, K, batch].

        The numbers are equal; the first is differentiable in theta only, the second in phi only.
        """
        z, log_ratio = self.sample(x, M * K, noise)
        log_px_z_theta, log_px_z_phi = self.decoder.log_px_z(x, z)
        log_w_theta, log_w_phi = log_px_z_theta + log_ratio.detach(), log_px_z_phi + log_ratio
        return log_w_theta.unflatten(1, (M, K)), log_w_phi.unflatten(1, (M, K))

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """sigmoid(logits) at one sample of q(z|x): x [run, batch, pixels] -> [run, batch, pixels] in [0, 1]."""
        z, _ = self.sample(x, 1, noise)
        return self.decoder(z[:, 0]).sigmoid()

    def run_state(self, run: int) -> dict[str, Tensor]:
        """One run's parameters, by name, without the run axis."""
        return {name: p[run].detach().cpu().contiguous() for name, p in self.named_parameters()}

    def load_run_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set one run's parameters from ``run_state``'s dictionary."""
        with torch.no_grad():
            for name, p in self.named_parameters():
                p[run].copy_(state[name])
