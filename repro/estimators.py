"""Cotangents: the derivatives of a method's two losses at each sample's log w.

An optimiser needs nothing else of a method. With ``log_w`` [T, batch] of your own model, drawn with
reparameterised samples, ::

    counts = cotangents(log_w, "piwae", M=8, K=8)
    of_theta = torch.autograd.grad(log_w, theta, counts.theta, retain_graph=True)
    of_phi = torch.autograd.grad(log_w, phi, counts.phi)

are the gradients of both losses at the lists of parameters ``theta`` and ``phi``.
"""

from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from repro import ReproError, one_of
from repro.bounds import USUAL_BETA, Bound, Objective, applied, objective_of
from repro.catalogue import ESTIMATORS, SECOND_ORDER

DIRECTIONS = 64  # Hessian-vector products at once


class Cotangents(NamedTuple):
    """Derivatives of two losses, each the negative of a bound's mean over the batch."""

    theta: Tensor  # d(theta's loss)/d(log w), [..., T, batch]
    phi: Tensor  # the factor of each sample's gradient under phi's estimator, [..., T, batch]
    beta: Tensor  # d(phi's loss)/d(beta), as beta; 0 where phi's bound has none
    loss: Tensor  # theta's, in nats, [...]


def cotangents(
    log_w: Tensor,
    method: str | Objective,
    M: int,
    K: int,
    estimator: str = "rep",
    beta: Tensor | float | None = None,
) -> Cotangents:
    """Differentiate both networks' losses at the log w of each of M K samples.

    ``log_w`` [..., T, batch] holds log p(x, z) - log q(z|x) in nats, T = M K, with the K samples of
    a group side by side; a leading axis may hold runs. With the loss L = -(1/batch) sum bound, the
    result is, for theta and under phi's estimators ``rep`` and ``stl``, dL/d(log w). Under
    ``drep``, phi's is dL/d(log w) - d^2 L/d(log w)^2: for IWAE the square of a normalised weight
    over -batch (Tucker et al. 2019). Under ``rws`` it is d^2 L/d(log w)^2 alone, which ``stl`` adds
    to ``drep``: for IWAE the wake phase of reweighted wake-sleep (Bornschein and Bengio 2015), in
    which phi descends KL(p(z|x) || q). Under ``stl`` (Roeder et al. 2017), ``drep`` and ``rws`` it
    multiplies the gradient of a log w in which q's own parameters are held still
    (``holds_q_still``).
    ``beta`` is a number, or one for each run of ``log_w`` [run, T, batch]. The result is detached
    from the graph.

    Raises ReproError for an unknown method or estimator, another number of samples, a missing beta,
    and ``rws`` of a bound that is linear in log w.

    >>> log_w = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # four samples of one image
    >>> counts = cotangents(log_w, "piwae", M=2, K=2)
    >>> counts.theta.T  # of IWAE: the normalised weights of all four
    tensor([[-0.0321, -0.0871, -0.2369, -0.6439]])
    >>> counts.phi.T  # of MIWAE: those within each pair, halved
    tensor([[-0.1345, -0.3655, -0.1345, -0.3655]])
    >>> cotangents(log_w, "piwae", M=2, K=2, estimator="drep").phi.T  # squared, then halved
    tensor([[-0.0362, -0.2672, -0.0362, -0.2672]])
    """
    objective = objective_of(method)
    one_of("estimator", estimator, ESTIMATORS)
    _check_samples(log_w, M, K)
    _check_beta(objective, beta)
    log_w = log_w.detach().unflatten(-2, (M, K))
    beta = USUAL_BETA if beta is None else beta
    number = float(beta) if isinstance(beta, int | float) else USUAL_BETA
    beta = torch.as_tensor(beta, dtype=log_w.dtype, device=log_w.device).detach()
    of_runs = beta[:, None] if beta.dim() else beta
    theta, pull_back = torch.func.vjp(partial(applied, objective.theta), log_w, of_runs)
    of_mean = torch.full_like(theta, -1 / theta.shape[-1])  # d(loss)/d(bound)
    for_theta, for_beta = pull_back(of_mean)
    for_phi = for_theta
    if not objective.is_shared:
        for_phi, for_beta = _of_phi(objective.phi, log_w, of_runs, of_mean)
    if estimator in SECOND_ORDER and objective.phi is not None:
        if estimator == "rws" and not torch.compiler.is_compiling():
            check_bent(objective.phi, M, K, number)
        for_phi = _of_second_order(estimator, for_phi, objective.phi, log_w, of_runs)
    by_sample = (cotangent.flatten(-3, -2) for cotangent in (for_theta, for_phi))
    return Cotangents(*by_sample, for_beta.view_as(beta), -theta.mean(-1))


def _check_beta(objective: Objective, beta: Tensor | float | None) -> None:
    if beta is None and objective.takes_beta:
        raise ReproError("the method has a beta, the weight of the VAE's bound; give it a number")
    if isinstance(beta, int | float) and not 0 <= beta <= 1:
        raise ReproError(f"beta is {beta}; it is a weight from 0 to 1")


def _check_samples(log_w: Tensor, M: int, K: int) -> None:
    check_layout(M, K)
    if log_w.dim() < 2 or log_w.shape[-2] != M * K:
        raise ReproError(f"log_w is {[*log_w.shape]}; it must be [..., M K, batch], M K = {M * K}")


def check_layout(M: int, K: int) -> None:
    """Raise ReproError if there can be no M groups of K samples."""
    if M < 1 or K < 1:
        raise ReproError(f"M = {M} and K = {K}; both are at least 1")


def _of_phi(
    bound: Bound | None, log_w: Tensor, beta: Tensor, of_mean: Tensor
) -> tuple[Tensor, Tensor]:
    """The derivatives of phi's loss at log_w and at beta; zero without a bound."""
    if bound is None:
        return torch.zeros_like(log_w), torch.zeros_like(beta)
    _, pull_back = torch.func.vjp(partial(applied, bound), log_w, beta)
    return pull_back(of_mean)


def parameters_behind(value: Tensor) -> list[Tensor]:
    """Return the leaf tensors on which ``value`` depends, from its graph."""
    seen = {value.grad_fn}
    left = [value.grad_fn] if value.grad_fn else []
    while left:
        following = {after for after, _ in left.pop().next_functions if after} - seen
        seen |= following
        left += following
    return [node.variable for node in seen if hasattr(node, "variable")]


def holds_q_still(estimator: str) -> bool:
    """True if ``estimator`` differentiates log w through z alone, with phi fixed in log q(z|x)."""
    return estimator != "rep"


def _of_second_order(
    estimator: str, slope: Tensor, bound: Bound, log_w: Tensor, beta: Tensor
) -> Tensor:
    """The factors under ``drep`` or ``rws``, of d(loss)/d(log w), [..., M, K, batch]."""
    bend = _curvature(bound, log_w, beta)
    return slope - bend if estimator == "drep" else bend


@cache
def check_bent(bound: Bound, M: int, K: int, beta: float = USUAL_BETA) -> None:
    """Raise ReproError if ``bound`` is linear in log w: its gradient under ``rws`` would be 0."""
    log_w = torch.randn(M, K, 1, generator=torch.Generator().manual_seed(0)).double()
    if _curvature(bound, log_w, torch.tensor(beta)).abs().max() < 1e-12:
        raise ReproError(
            f"the inference network's bound is linear in log w for M = {M}, K = {K}, as the VAE's "
            "is, so its gradient under rws is zero; take another bound or estimator"
        )


def _curvature(bound: Bound, log_w: Tensor, beta: Tensor) -> Tensor:
    """d^2(loss)/d(log w)^2, [..., M, K, batch].

    These are T products of the Hessian with unit vectors. Images and runs do not meet in a bound,
    so that one vector serves all of them.
    """

    def loss(log_w: Tensor) -> Tensor:
        return -applied(bound, log_w, beta).mean(-1).sum()

    _, pull_back = torch.func.vjp(torch.func.grad(loss), log_w)

    def second_derivative(direction: Tensor) -> Tensor:
        along = direction[..., None].expand_as(log_w)
        (change,) = pull_back(along)
        return (change * along).sum((-3, -2))

    M, K = log_w.shape[-3:-1]
    directions = torch.eye(M * K, dtype=log_w.dtype, device=log_w.device).unflatten(1, (M, K))
    found = torch.func.vmap(second_derivative, out_dims=-2, chunk_size=DIRECTIONS)(directions)
    return found.unflatten(-2, (M, K))
