"""The derivatives of every run's pair of bounds, as one function of tensors that can be compiled.

Bounds see nothing but log-weights [run, T, batch], so their derivatives cost nothing beside a
decoder. What they do cost is calls: some two hundred small operations if automatic differentiation
takes them one by one, and about a dozen kernels if they are compiled together.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from repro.bounds import METHODS, Objective
from repro.experiments import Experiment

DIRECTIONS = 64  # at once, in which second derivatives are taken


class Weighed(NamedTuple):
    """What the bounds make of the log-weights of a step."""

    loss: Tensor  # the negative of theta's bound, [run]
    a: Tensor  # d(theta's loss)/d(log w), [run, T, batch]
    b: Tensor  # what phi's estimator multiplies each sample's gradient by, [run, T, batch]
    beta: Tensor  # d(phi's loss)/d(beta's parameter), [run]


class Group(NamedTuple):
    """``count`` runs, from ``first`` on, that share bounds, a layout and phi's estimator."""

    objective: Objective
    M: int
    K: int
    estimator: str
    first: int
    count: int

    def of(self, per_run: Tensor) -> Tensor:
        """The group's part of [run, ...]."""
        return per_run.narrow(0, self.first, self.count)

    def log_weights(self, log_w: Tensor) -> Tensor:
        """The group's log-weights: [run, T, batch] -> [run, M, K, batch]."""
        return self.of(log_w).unflatten(1, (self.M, self.K))


def _what_groups(e: Experiment) -> tuple:
    return METHODS[e.method], e.M, e.K, e.estimator


def side_by_side(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments in their order, except that those of one group follow its first."""
    firsts = [_what_groups(e) for e in experiments]
    return sorted(experiments, key=lambda e: firsts.index(_what_groups(e)))


def groups_of(experiments: Sequence[Experiment]) -> tuple[Group, ...]:
    """The groups of experiments that lie side by side."""
    groups = []
    first = 0
    for shared, runs in groupby(experiments, _what_groups):
        count = len(list(runs))
        groups.append(Group(*shared, first, count))
        first += count
    return tuple(groups)


Weigh = Callable[[Tensor, Tensor, Tensor, Tensor], Weighed]


@functools.cache
def derivatives_of(groups: tuple[Group, ...]) -> Weigh:
    """A function of log w [run, T, batch] and, each [run], b, whether beta is learned, and beta.

    A beta that is learned is sigmoid(b). A loss is the negative of a bound's mean over the batch.
    """

    def loss(log_w_theta, log_w_phi, parameter, learns, fixed):
        beta = torch.where(learns, parameter.sigmoid(), fixed)[:, None]
        pairs = []
        for group in groups:
            theta = group.log_weights(log_w_theta)
            phi = group.log_weights(log_w_phi)
            pairs.append(group.objective(theta, phi, group.of(beta)))
        of_theta, of_phi = (torch.cat(bounds) for bounds in zip(*pairs, strict=True))
        return -(of_theta + of_phi).mean(-1).sum(), -of_theta.mean(-1)

    differentiate = torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True)

    def weigh(log_w, parameter, learns, fixed):
        (a, b, of_parameter), of_theta = differentiate(log_w, log_w, parameter, learns, fixed)
        if any(group.estimator == "drep" for group in groups):
            beta = torch.where(learns, parameter.sigmoid(), fixed)[:, None]
            b = b - torch.cat([_curvature(group, log_w, beta) for group in groups])
        return Weighed(of_theta, a, b, of_parameter)

    return weigh


def _curvature(group: Group, log_w: Tensor, beta: Tensor) -> Tensor:
    """d^2(phi's loss)/d(log w)^2 of a group that needs it, else zero: [run, T, batch].

    These are T products of the Hessian with unit vectors. Images and runs do not meet in a bound,
    so that one vector serves all of them.
    """
    log_w = group.of(log_w)
    if group.estimator != "drep":
        return torch.zeros_like(log_w)

    def loss(log_w):
        layout = log_w.unflatten(1, (group.M, group.K))
        return -group.objective(layout, layout, group.of(beta))[1].mean(-1).sum()

    _, pull_back = torch.func.vjp(torch.func.grad(loss), log_w)

    def second_derivative(direction):
        along = direction[None, :, None].expand_as(log_w)
        (change,) = pull_back(along)
        return (change * along).sum(1)

    directions = torch.eye(group.M * group.K, dtype=log_w.dtype, device=log_w.device)
    return torch.func.vmap(second_derivative, out_dims=1, chunk_size=DIRECTIONS)(directions)
