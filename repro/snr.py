"""The signal-to-noise ratio of gradient estimates: in the linear Gaussian model of Rainforth et al., section 4, and in networks.

The linear Gaussian model: z ~ N(mu, I) and x ~ N(z, I) in D = 20 dimensions; q(z|x) = N(A x + b, 2/3 I). theta is mu; of phi the
gradient at b is looked at. The best parameters are mu*, A = I/2 and b = mu*/2; each is offset by Gaussian noise of standard
deviation ``OFFSET``. In a network, theta and phi are all parameters of the decoder and of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from repro.bounds import METHODS, Objective, T
from repro.data import Streams
from repro.models import Autoencoder

D, OFFSET, AT_ONCE = 20, 0.01, 100
SIGMA = (2 / 3) ** 0.5  # of q


def problem(seed: int = 0, offset: float = OFFSET) -> tuple[Tensor, Tensor, Tensor]:
    """An observation x, the generative parameter mu, and the inference network's A x without b; b is ``mu*/2`` and its offset."""
    g = torch.Generator().manual_seed(seed)
    noise = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    best = noise(D)
    x = best + noise(D) * 2**0.5
    return x, best + offset * noise(D), (torch.eye(D, dtype=torch.float64) / 2 + offset * noise(D, D)) @ x + best / 2 + offset * noise(D)


def gradients(objective: Objective, M: int, K: int, replicates: int, beta: float | None = None, seed: int = 0, offset: float = OFFSET):
    """Independent estimates of the gradient at mu (theta) and at b (phi): [replicates, D] both.

    log w = log p(x, z) - log q(z|x) up to a constant, ``[M, K, replicates]``; theta ascends its bound and phi its own.
    """
    x, mu, mean = problem(seed, offset)
    g, found = torch.Generator().manual_seed(seed + 1), []
    for first in range(0, replicates, AT_ONCE):
        n = min(AT_ONCE, replicates - first)
        at_mu, at_b = (start.expand(n, D).clone().requires_grad_() for start in (mu, mean))  # mean = A x + b: d/db is d/dmean
        eps = torch.randn(M, K, n, D, generator=g, dtype=torch.float64)
        z = at_b + SIGMA * eps
        log_w = (eps.square() - (z - at_mu).square() - (x - z).square()).sum(-1) / 2
        theta, phi = objective(log_w, log_w, beta)
        found.append((*torch.autograd.grad(theta.sum(), at_mu, retain_graph=True), *torch.autograd.grad(phi.sum(), at_b)))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def ratio(estimates: Tensor) -> float:
    """SNR = |E Delta| / sigma(Delta) over the D parameters together, from estimates [n, D].

    The squared norm of a mean of n estimates exceeds that of the expectation by their variance / n, which is taken off.
    """
    variance, mean = torch.var_mean(estimates, 0)
    return float((mean.square().sum() / variance.sum() - 1 / len(estimates)).clamp(min=0).sqrt())


def jackknife(estimates: Tensor, blocks: int = 20) -> float:
    """The standard error of ``ratio``, from estimates [n, D]."""
    every = torch.arange(len(estimates)) % blocks
    return float(np.sqrt((blocks - 1) * np.var([ratio(estimates[every != i]) for i in range(blocks)])))


@cache
def measure(method: str, M: int, K: int, replicates: int = 10_000, seed: int = 0, offset: float = OFFSET) -> dict[str, tuple[float, float]]:
    """SNR with its standard error of the two networks' gradients, for a method of ``bounds.METHODS`` (beta = 0.5)."""
    found = gradients(METHODS[method], M, K, replicates, _beta(method), seed, offset)
    return {name: (ratio(d), jackknife(d)) for name, d in zip(("theta", "phi"), found, strict=True)}


def _beta(method: str) -> float | None:
    return 0.5 if METHODS[method].takes_beta else None


def slope(counts: Sequence[int], ratios: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope of log SNR against the logarithm of the number of samples, with its standard error; weighted least squares."""
    x, y = np.log(counts), np.log([r for r, _ in ratios])
    weights = np.array([r / error for r, error in ratios]) ** 2
    centred = x - np.average(x, weights=weights)
    spread = (weights * centred**2).sum()
    return float((weights * centred * y).sum() / spread), float(spread**-0.5)


LARGE = (16, 64, 256)  # K from which on the theory's rates are looked for
RATES = {  # what varies, in which method: its counts as (M, K), and the theory's exponents for theta and phi
    "K, IWAE": ("iwae", [(1, K) for K in LARGE], 0.5, -0.5),
    "M, MIWAE with K = 8": ("miwae", [(M, 8) for M in (1, 4, 16)], 0.5, 0.5),
    "K, PIWAE with M = 64 / K": ("piwae", [(64, 1), (8, 8), (2, 32), (1, 64)], 0.0, -1.0),
}


def rates() -> dict[str, dict[str, tuple[float, float, float]]]:
    """For each of ``RATES`` and each network: the measured exponent, its standard error, the theory's."""
    found = {}
    for name, (method, counts, *theory) in RATES.items():
        varied = [K if name.startswith("K") else M for M, K in counts]
        ratios = [measure(method, M, K) for M, K in counts]
        found[name] = {net: (*slope(varied, [r[net] for r in ratios]), t) for net, t in zip(("theta", "phi"), theory, strict=True)}
    return found


COUNTS = (1, 4, 16, 64, 256)  # K of IWAE
AT_T = [("iwae", 1, T), ("piwae", 8, 8), ("miwae", 8, 8), ("ciwae", 1, T), ("vae", T, 1)]  # method, M, K
LAYOUTS = [*(("iwae", 1, K) for K in COUNTS if K < T), *AT_T]  # measured in networks
BATCHES, REPLICATES = 10, 100


def linear_gaussian() -> dict[tuple[str, int, int], dict[str, tuple[float, float]]]:
    """``measure`` for IWAE as K grows and for the five methods at the same T = 64."""
    return {layout: measure(*layout) for layout in [*(("iwae", 1, K) for K in COUNTS), *AT_T]}


def network(model: Autoencoder, images: Tensor, batches: int = BATCHES, replicates: int = REPLICATES, batch_size: int = 20) -> Iterator[dict]:
    """SNR of the gradients of the mean bound of a batch, in a model of one run: rows of method, M, K, batch, theta and phi.

    A batch of ``images`` [n, pixels] and its binarisation stay as they are; only the samples of z differ from one of the
    ``replicates`` to the next, and layouts with as many samples see the same.
    """
    for batch in range(batches):
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(batch))[:batch_size]
        x = Streams([batch], "gradients: binarise", images.device).binarise(images[chosen][None])
        for method, M, K in LAYOUTS:
            noise = Streams([batch], "gradients: noise", images.device).normal
            found = zip(*(network_gradients(model, x, METHODS[method], M, K, _beta(method), noise) for _ in range(replicates)), strict=True)
            theta, phi = (ratio(torch.stack(estimates).double()) for estimates in found)
            yield {"method": method, "M": M, "K": K, "batch": batch, "theta": theta, "phi": phi}


def network_gradients(model: Autoencoder, x: Tensor, objective: Objective, M: int, K: int, beta: float | None, noise) -> tuple[Tensor, Tensor]:
    """One estimate of the gradient of the mean bound of x [1, batch, pixels] at the decoder's (theta) and encoder's (phi) parameters."""
    theta, phi = objective(*model.log_weights(x, M, K, noise), beta)
    pairs = (theta, model.decoder), (phi, model.encoder)
    found = (torch.autograd.grad(bound.mean(), [*net.parameters()], retain_graph=True) for bound, net in pairs)
    return tuple(torch.cat([g.flatten() for g in parts]) for parts in found)
