"""The signal-to-noise ratio of gradient estimates: in the linear Gaussian model of Rainforth et al., section 4, and in networks.

The linear Gaussian model: z ~ N(mu, I) and x ~ N(z, I) in D = 20 dimensions; q(z|x) = N(A x + b, 2/3 I). theta is mu; of phi the
gradient at b is looked at. The best parameters are mu*, A = I/2 and b = mu*/2; each is offset by Gaussian noise of standard
deviation ``offset``. In a network, theta and phi are all parameters of the decoder and of the encoder.

The ratio is one for all parameters of a network together: its square is the squared norm of E Delta over the trace of Cov Delta.
Measurements are rows with ``where``, ``method``, ``M``, ``K``, ``draw`` (of a problem, or of a batch of images), the squared signal
and the squared noise of both gradients, and the effective sample size of the M K weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.bounds import METHODS, Objective, T
from repro.data import Streams
from repro.models import Autoencoder

COUNTS = (1, 4, 16, 64, 256)  # K of IWAE
AT_T = (("iwae", 1, T), ("piwae", 8, 8), ("miwae", 8, 8), ("ciwae", 1, T), ("vae", T, 1))  # method, M, K
LAYOUTS = tuple(dict.fromkeys([*(("iwae", 1, K) for K in COUNTS), *AT_T]))
BETA = 0.5
D, SIGMA = 20, (2 / 3) ** 0.5  # of the linear Gaussian model, and of its q
LINEAR_GAUSSIAN = {"linear Gaussian, near the optimum": (0.01, 20_000), "linear Gaussian, further away": (0.1, 2000)}  # offset, replicates
NETWORKS = ("MNIST, untrained", "MNIST, the report's IWAE")
THEORY = {"theta": 0.5, "phi": -0.5}  # d log SNR / d log K for many samples
PLACES = (*LINEAR_GAUSSIAN, *NETWORKS)
PROBLEMS, AT_ONCE = 10, 100
BATCHES, BATCH_SIZE, REPLICATES = 5, 20, 60  # in networks


def problem(seed: int, offset: float) -> tuple[Tensor, Tensor, Tensor]:
    """An observation x, the generative parameter mu, and the mean A x + b of q, each [D]."""
    g = torch.Generator().manual_seed(seed)
    noise = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    best = noise(D)
    x = best + noise(D) * 2**0.5
    return x, best + offset * noise(D), (torch.eye(D, dtype=torch.float64) / 2 + offset * noise(D, D)) @ x + best / 2 + offset * noise(D)


def gradients(method: str, M: int, K: int, replicates: int, seed: int, offset: float) -> tuple[Tensor, Tensor, Tensor]:
    """Independent estimates of the gradient at mu (theta) and at b (phi), [replicates, D] both, and the weights' ESS [replicates].

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
        theta, phi = METHODS[method](log_w, log_w, BETA)
        at_both = torch.autograd.grad(theta.sum(), at_mu, retain_graph=True) + torch.autograd.grad(phi.sum(), at_b)
        found.append((*at_both, effective_sample_size(log_w)))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def network_gradients(model: Autoencoder, x: Tensor, objective: Objective, M: int, K: int, noise) -> tuple[Tensor, Tensor, Tensor]:
    """One estimate of the gradient of the mean bound of x [1, batch, pixels] at all of theta and at all of phi; the weights' mean ESS."""
    log_w = model.log_weights(x, M, K, noise)
    pairs = zip(objective(*log_w, BETA), (model.decoder, model.encoder), strict=True)
    found = (torch.autograd.grad(bound.mean(), [*net.parameters()], retain_graph=True) for bound, net in pairs)
    return *(torch.cat([g.flatten() for g in parts]) for parts in found), effective_sample_size(log_w[0]).mean()


def effective_sample_size(log_w: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over all samples: [..., M, K, batch] -> [..., batch]."""
    log_w = log_w.detach()
    return (2 * log_w.logsumexp((-3, -2)) - (2 * log_w).logsumexp((-3, -2))).exp()


def squares(estimates: Tensor) -> tuple[float, float]:
    """The squared norm of E Delta and the trace of Cov Delta, without bias, from estimates [n, D].

    The squared norm of a mean of n estimates exceeds that of the expectation by their variance / n, which is taken off.
    """
    variance, mean = torch.var_mean(estimates.double(), 0)
    return float(mean.square().sum() - variance.sum() / len(estimates)), float(variance.sum())


def row(where: str, layout: tuple[str, int, int], draw: int, theta: Tensor, phi: Tensor, ess: Tensor) -> dict:
    """A measurement, from estimates [n, parameters] of both gradients."""
    found = dict(zip(("theta_signal", "theta_noise", "phi_signal", "phi_noise"), squares(theta) + squares(phi), strict=True))
    return dict(zip(("where", "method", "M", "K", "draw"), (where, *layout, draw), strict=True)) | found | {"ess": float(ess.mean())}


def in_linear_gaussian(where: str, problems: int = PROBLEMS) -> Iterator[dict]:
    """Rows for every layout in so many problems, as ``LINEAR_GAUSSIAN[where]`` says."""
    offset, replicates = LINEAR_GAUSSIAN[where]
    for seed in range(problems):
        for layout in LAYOUTS:
            yield row(where, layout, seed, *gradients(*layout, replicates, seed, offset))


def in_network(
    where: str, model: Autoencoder, images: Tensor, batches: int = BATCHES, replicates: int = REPLICATES, batch_size: int = BATCH_SIZE
) -> Iterator[dict]:
    """Rows for every layout and so many batches of ``images`` [n, pixels], in a model of one run.

    A batch and its binarisation stay as they are; only the samples of z differ from one replicate to the next, and layouts
    with as many samples see the same.
    """
    for seed in range(batches):
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:batch_size]
        x = Streams([seed], "gradients: binarise", images.device).binarise(images[chosen][None])
        for method, M, K in LAYOUTS:
            noise = Streams([seed], "gradients: noise", images.device).normal
            found = zip(*(network_gradients(model, x, METHODS[method], M, K, noise) for _ in range(replicates)), strict=True)
            yield row(where, (method, M, K), seed, *(torch.stack(estimates) for estimates in found))


def select(rows, layout: tuple[str, int, int]):
    """The measurements of a layout, of a pandas DataFrame of rows from one place."""
    method, M, K = layout
    return rows[(rows.method == method) & (rows.M == M) & (rows.K == K)]


def ratio(rows, layout: tuple[str, int, int], net: str) -> float:
    """The SNR of a gradient, ``net`` theta or phi: the root of mean squared signal over mean squared noise, over the draws."""
    mine = select(rows, layout)
    return float(np.sqrt(max(mine[f"{net}_signal"].mean(), 0) / mine[f"{net}_noise"].mean()))


def exponent(rows, net: str, counts: Sequence[int]) -> float:
    """d log SNR / d log K of IWAE between the first and the last of ``counts``."""
    first, last = (ratio(rows, ("iwae", 1, K), net) for K in (counts[0], counts[-1]))
    return float(np.log(last / first) / np.log(counts[-1] / counts[0]))


def with_jackknife(rows, statistic: Callable[..., float]) -> tuple[float, float]:
    """A statistic of rows and its standard error, by leaving out one draw after the other."""
    draws = rows.draw.unique()
    return statistic(rows), float(np.sqrt((len(draws) - 1) * np.var([statistic(rows[rows.draw != d]) for d in draws])))
