"""Every method is a pair of bounds on the same log-weights.

``log_w[..., M, K, batch]`` holds log p(x, z) - log q(z | x) in nats for T = M K samples of each image. A bound maps it
to ``[..., batch]``. The generative network (theta) ascends one bound and the inference network (phi) another; in VAE,
IWAE, MIWAE and CIWAE the two are the same.

To add a bound of your own, write it here and give it a line in ``METHODS``; nothing else changes. ::

    def renyi(log_w):
        return 2 * log_mean_exp(log_w / 2, (-3, -2))

    METHODS["renyi"] = both(renyi)
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from repro import ReproError

Bound = Callable[..., Tensor]


def log_mean_exp(log_w: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """log (1/n) sum exp(log_w) over ``dims``, in nats, without overflow."""
    dims = (dims,) if isinstance(dims, int) else dims
    return log_w.logsumexp(dims) - math.log(math.prod(log_w.shape[d] for d in dims))


def vae(log_w: Tensor) -> Tensor:
    """ELBO, (1/MK) sum log w: [..., M, K, batch] -> [..., batch] (Rainforth et al., eq. 1; the report, eq. 5)."""
    return log_w.mean((-3, -2))


def iwae(log_w: Tensor) -> Tensor:
    """log (1/MK) sum w over all samples: [..., M, K, batch] -> [..., batch] (Burda et al., eq. 8; the report, eq. 6)."""
    return log_mean_exp(log_w, (-3, -2))


def miwae(log_w: Tensor) -> Tensor:
    """(1/M) sum_m log (1/K) sum_k w: [..., M, K, batch] -> [..., batch] (Rainforth et al., sec. 4; the report, eq. 11)."""
    return log_mean_exp(log_w, -2).mean(-2)


def ciwae(log_w: Tensor, beta: Tensor | float) -> Tensor:
    """beta VAE + (1 - beta) IWAE on the same samples: [..., M, K, batch] -> [..., batch] (the report, eq. 12, 13).

    ``beta`` is a number in [0, 1].
    """
    return beta * vae(log_w) + (1 - beta) * iwae(log_w)


@dataclass(frozen=True)
class Objective:
    """What each network ascends.

    ``M`` is given where the method leaves no choice (VAE: K = 1; IWAE and CIWAE: M = 1) and is None where it does.
    ``learns_beta``: beta = sigmoid(b) ascends phi's bound together with the networks.
    """

    theta: Bound
    phi: Bound
    M: int | None = None
    learns_beta: bool = False

    @property
    def takes_beta(self) -> bool:
        """True where a bound has a parameter called beta."""
        return _takes_beta(self.theta) or _takes_beta(self.phi)

    def __call__(self, log_w_theta: Tensor, log_w_phi: Tensor, beta: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """The two bounds, each [..., batch]; beta, a number or one for each run [run, 1], receives a gradient from phi's bound alone."""
        fixed = beta.detach() if isinstance(beta, Tensor) else beta
        return _apply(self.theta, log_w_theta, fixed), _apply(self.phi, log_w_phi, beta)


@functools.cache
def _takes_beta(bound: Bound) -> bool:
    return "beta" in inspect.signature(bound).parameters


def _apply(bound: Bound, log_w: Tensor, beta: Tensor | float | None) -> Tensor:
    if not _takes_beta(bound):
        return bound(log_w)
    if isinstance(beta, Tensor) and beta.dim():  # to the bound it is a number all the same
        return torch.func.vmap(bound)(log_w, beta[:, 0]) if len(beta) > 1 else bound(log_w, beta[0, 0])
    return bound(log_w, beta)


def check(name: str, objective: object) -> None:
    """Raise ReproError, one line, where an objective is not a pair of differentiable bounds [..., M, K, batch] -> [..., batch]."""
    if not isinstance(objective, Objective):
        raise ReproError(f"METHODS['{name}'] is no Objective; write METHODS['{name}'] = both(...) in repro/bounds.py")
    M = objective.M or 16
    log_w = torch.randn(2, M, T // M, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    beta, wanted = torch.tensor([[0.3], [0.7]], dtype=torch.float64), f"[..., M, K, batch] to [..., batch], here {[*log_w.shape]} to [2, 7]"
    try:
        together = objective(log_w, log_w, beta)
        apart = [objective(log_w[run : run + 1], log_w[run : run + 1], beta[run : run + 1]) for run in range(2)]
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        raise ReproError(f"a bound of '{name}' fails ({type(error).__name__}: {said[0]}); it must map {wanted}") from None
    for net, value, alone in zip(("generative", "inference"), together, zip(*apart, strict=True), strict=True):
        bound = f"the {net} network's bound of '{name}'"
        if not isinstance(value, Tensor) or value.shape != (2, 7):
            raise ReproError(f"{bound} gives {[*value.shape] if isinstance(value, Tensor) else type(value).__name__}; it must map {wanted}")
        if not value.requires_grad:
            raise ReproError(f"{bound} has no gradient; compute it from log_w with torch, and detach nothing")
        if not torch.allclose(value, torch.cat(alone)):
            raise ReproError(f"{bound} mixes runs that are trained together; reduce the dimensions -3 and -2 (M and K), no others")


def both(bound: Bound, M: int | None = None, learns_beta: bool = False) -> Objective:
    """The same bound for both networks."""
    return Objective(theta=bound, phi=bound, M=M, learns_beta=learns_beta)


T = 64  # samples per image, the same for every method that is compared

METHODS = {
    "iwae": both(iwae, M=1),
    "piwae": Objective(theta=iwae, phi=miwae),  # the report, eq. 14 and 15
    "miwae": both(miwae),
    "ciwae": both(ciwae, M=1),
    "vae": both(vae, M=T),
    "ciwae-learned": both(ciwae, M=1, learns_beta=True),  # the report, sec. 3.7
}
