"""Every method is a pair of bounds on the same log-weights.

``log_w[..., M, K, batch]`` holds log p(x, z) - log q(z | x) in nats for the T = M K samples of each
image. A bound maps it to ``[..., batch]``. The generative network (theta) ascends one bound and the
inference network (phi) another; in VAE, IWAE, MIWAE and CIWAE the two are the same.

To add a bound of your own, write it at the end of this file and give it a line in ``METHODS``.
Nothing else changes. PyTorch is imported where a function needs more of it than tensors' methods:
who reads records or asks for help waits for no import. ::

    def renyi(log_w):
        return 2 * log_mean_exp(log_w / 2, (-3, -2))

    METHODS["renyi"] = both(renyi)
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy

from repro import ReproError, one_of

if TYPE_CHECKING:
    from torch import Tensor

Bound = Callable[..., "Tensor"]


class Layout(NamedTuple):
    """A method with M groups of K samples: the logarithm is of a group's mean weight."""

    method: str
    M: int
    K: int


USUAL_BETA = 0.5  # of CIWAE
T = 64  # samples per image, the same for every method that is compared


def log_mean_exp(log_w: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """log (1/n) sum exp(log_w) over ``dims``, in nats, without overflow."""
    dims = (dims,) if isinstance(dims, int) else dims
    count = math.prod([log_w.shape[d] for d in dims])
    return log_w.logsumexp(dims) - math.log(count)


def vae(log_w: Tensor) -> Tensor:
    """The ELBO, (1/MK) sum log w: [..., M, K, batch] -> [..., batch].

    Rainforth et al., eq. 1; the report, eq. 5.
    """
    return log_w.mean((-3, -2))


def iwae(log_w: Tensor) -> Tensor:
    """log (1/MK) sum w over all samples: [..., M, K, batch] -> [..., batch].

    Burda et al., eq. 8; the report, eq. 6.
    """
    return log_mean_exp(log_w, (-3, -2))


def miwae(log_w: Tensor) -> Tensor:
    """(1/M) sum_m log (1/K) sum_k w: [..., M, K, batch] -> [..., batch].

    Rainforth et al., section 5; the report, eq. 11.
    """
    return log_mean_exp(log_w, -2).mean(-2)


def ciwae(log_w: Tensor, beta: Tensor | float) -> Tensor:
    """beta VAE + (1 - beta) IWAE, on the same samples, with beta in [0, 1].

    [..., M, K, batch] -> [..., batch]. Rainforth et al., section 5; the report,
    eq. 12 and 13.
    """
    return beta * vae(log_w) + (1 - beta) * iwae(log_w)


def vr_iwae(log_w: Tensor, alpha: float = 0.5) -> Tensor:
    """The variational Renyi bound, log ((1/MK) sum w^(1 - alpha)) / (1 - alpha).

    [..., M, K, batch] -> [..., batch], alpha in [0, 1): IWAE at 0, towards the VAE at 1. Daudel et
    al. (2023).
    """
    return log_mean_exp((1 - alpha) * log_w, (-3, -2)) / (1 - alpha)


def u_miwae(log_w: Tensor) -> Tensor:
    """MIWAE averaged over several partitions of the same samples.

    [..., M, K, batch] -> [..., batch]. Its expectation is MIWAE's, its variance is lower: an
    incomplete U-statistic. Burroni et al. (2023).
    """
    import torch

    samples = log_w.flatten(-3, -2)  # [..., T, batch]
    partitions = torch.tensor(partitions_of(*log_w.shape[-3:-1]), device=log_w.device)
    chosen = partitions.flatten()[:, None].expand(*samples.shape[:-2], -1, samples.shape[-1])
    grouped = samples.gather(-2, chosen).unflatten(-2, partitions.shape)
    return miwae(grouped).mean(-2)  # over [..., partition, batch]


PARTITIONS = 9


def partitions_of(M: int, K: int) -> list:
    """Partitions of M K samples into M groups of K: [partition, M, K].

    For M = K = 8 they are the lines of the affine plane of order 8, in which every two samples
    share a group exactly once; otherwise they are nine random ones, the same at every call.
    """
    return _affine_plane() if M == K == 8 else _random_partitions(M, K)


@functools.cache
def _affine_plane() -> list:
    """The lines y = s x + c over GF(8), for each slope s, and the vertical ones: [9, 8, 8]."""
    field = range(8)
    partitions = [[list(range(8 * x, 8 * x + 8)) for x in field]]
    for slope in field:
        partitions.append([_line(slope, c) for c in field])
    return partitions


def _line(s: int, c: int) -> list[int]:
    """The points 8 x + y with y = s x + c."""
    return [8 * x + (_product(s, x) ^ c) for x in range(8)]


POWERS = (1, 2, 4, 3, 6, 7, 5)  # of x in GF(8), polynomials over GF(2) modulo x^3 + x + 1


def _product(a: int, b: int) -> int:
    """The product in GF(8)."""
    if 0 in (a, b):
        return 0
    return POWERS[(POWERS.index(a) + POWERS.index(b)) % 7]


@functools.cache
def _random_partitions(M: int, K: int) -> list:
    g = numpy.random.default_rng(0)
    return [g.permutation(M * K).reshape(M, K).tolist() for _ in range(PARTITIONS)]


@dataclass(frozen=True)
class Objective:
    """A method: the bound that each network ascends.

    ``M`` or ``K`` is given if the method fixes it (VAE: K = 1; IWAE and CIWAE: M = 1) and is None
    otherwise. Without ``phi``, theta alone is trained. With ``learns_beta``, beta = sigmoid(b) is
    trained on phi's bound together with the networks. With ``chooses_beta``,
    ``beta.BetaCriterion`` chooses it during training.

    >>> import torch
    >>> log_w = torch.tensor([[[0.0], [1.0]], [[2.0], [3.0]]])  # M, K, batch = 2, 2, 1
    >>> theta, phi = METHODS["piwae"](log_w, log_w)
    >>> [round(bound.item(), 2) for bound in (theta, phi)]  # IWAE's, and MIWAE's of the same
    [2.05, 1.62]
    """

    theta: Bound
    phi: Bound | None = None
    M: int | None = None
    K: int | None = None
    learns_beta: bool = False
    chooses_beta: bool = False

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Theta's bound, and phi's if there is one."""
        return (self.theta,) if self.phi is None else (self.theta, self.phi)

    @property
    def is_shared(self) -> bool:
        """True if both networks ascend the same bound."""
        return self.phi is self.theta

    @property
    def takes_beta(self) -> bool:
        """True if a bound has a parameter called beta."""
        return any(has_number(bound, "beta") for bound in self.bounds)

    @property
    def takes_alpha(self) -> bool:
        """True if a bound has a parameter called alpha."""
        return any(has_number(bound, "alpha") for bound in self.bounds)

    def with_alpha(self, alpha: float | None) -> Objective:
        """The objective with ``alpha`` fixed in the bounds that take one; unchanged if None."""
        return self if alpha is None else _with_alpha(self, alpha)

    def __call__(
        self, log_w_theta: Tensor, log_w_phi: Tensor, beta: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Theta's and phi's bound, each [..., batch].

        ``beta`` is a number, or one number for each run, [run, 1]. It receives a gradient from
        phi's bound alone.
        """
        fixed = beta.detach() if hasattr(beta, "detach") else beta
        theta = applied(self.theta, log_w_theta, fixed)
        if self.phi is None:
            return theta, 0 * theta.detach()
        return theta, applied(self.phi, log_w_phi, beta)


def objective_of(method: str | Objective) -> Objective:
    """The objective of a method's name, or ``method`` itself if it is one; else ReproError.

    >>> objective_of("vae").K
    1
    """
    if isinstance(method, str):
        return METHODS[one_of("method", method, METHODS)]
    if not isinstance(method, Objective):
        raise ReproError(
            f"method is {type(method).__name__}; give a name or an Objective, as both(bound) makes"
        )
    return method


def both(bound: Bound, M: int | None = None, **rest) -> Objective:
    """Make an objective with one bound for both networks; ``rest`` are its other fields."""
    return Objective(theta=bound, phi=bound, M=M, **rest)


def has_number(bound: Bound, name: str) -> bool:
    """True if ``bound`` has a parameter called ``name``: beta or alpha."""
    return name in _parameters_of(bound)


@functools.cache
def _parameters_of(bound: Bound) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(bound).parameters)
    except Exception:  # of a scripted or odd function, or of a partial one with wrong arguments
        return frozenset()


@functools.cache
def _with_alpha(objective: Objective, alpha: float) -> Objective:
    """The objective, and always the same one, so that what is compiled for it is found again."""

    def fixed(bound: Bound | None) -> Bound | None:
        takes_it = bound is not None and has_number(bound, "alpha")
        return functools.partial(bound, alpha=alpha) if takes_it else bound

    theta = fixed(objective.theta)
    phi = theta if objective.is_shared else fixed(objective.phi)
    return replace(objective, theta=theta, phi=phi)


def applied(bound: Bound, log_w: Tensor, beta: Tensor | float | None) -> Tensor:
    """Evaluate ``bound`` at log_w; of a beta [run, 1], it sees one number for each run."""
    import torch

    if not has_number(bound, "beta"):
        return bound(log_w)
    if not isinstance(beta, torch.Tensor) or beta.dim() == 0:
        return bound(log_w, beta)
    if len(beta) == 1:
        return bound(log_w, beta[0, 0])
    return torch.func.vmap(bound)(log_w, beta[:, 0])


METHODS = {
    "iwae": both(iwae, M=1),
    "piwae": Objective(theta=iwae, phi=miwae),  # the report, eq. 14 and 15
    "miwae": both(miwae),
    "ciwae": both(ciwae, M=1),
    "vae": both(vae, K=1),
    "ciwae-learned": both(ciwae, M=1, learns_beta=True),  # section 3.7
    "ciwae-chosen": Objective(theta=iwae, phi=ciwae, M=1, chooses_beta=True),
    "ciwae-chosen-both": Objective(theta=ciwae, phi=ciwae, M=1, chooses_beta=True),
    "vr-iwae": both(vr_iwae, M=1),
    "u-miwae": both(u_miwae),
}
USUAL_GROUPS = 8  # of a method that leaves the choice


def usual_layout(method: str) -> Layout:
    """The default M and K of ``method`` with M K = 64; M = 8 if the method fixes neither.

    >>> usual_layout("vae"), usual_layout("miwae")[1:]
    (Layout(method='vae', M=64, K=1), (8, 8))
    """
    fixed = METHODS.get(method, Objective(theta=iwae))
    M = fixed.M or (T // fixed.K if fixed.K else USUAL_GROUPS)
    return Layout(method, M, fixed.K or T // M)


def leaves_choice(method: str) -> bool:
    """True if ``method`` fixes neither M nor K."""
    fixed = METHODS.get(method, Objective(theta=iwae))
    return fixed.M is None and fixed.K is None


SHIPPED = dict(METHODS)  # the tests try these; one that is added below is tried before training
