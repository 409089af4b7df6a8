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

from torch import Tensor

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

    ``beta`` is a number in [0, 1], or a tensor that broadcasts against the result.
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
        """The two bounds, each [..., batch]; beta receives a gradient from phi's bound alone."""
        fixed = beta.detach() if isinstance(beta, Tensor) else beta
        return _apply(self.theta, log_w_theta, fixed), _apply(self.phi, log_w_phi, beta)


@functools.cache
def _takes_beta(bound: Bound) -> bool:
    return "beta" in inspect.signature(bound).parameters


def _apply(bound: Bound, log_w: Tensor, beta: Tensor | float | None) -> Tensor:
    return bound(log_w, beta) if _takes_beta(bound) else bound(log_w)


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
