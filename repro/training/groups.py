"""Runs that share a pair of bounds, and the cotangents of all runs as one function of tensors.

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
from repro.estimators import Cotangents, cotangents
from repro.words.experiments import Experiment


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


@functools.cache
def cotangents_of(groups: tuple[Group, ...]) -> Callable[..., Cotangents]:
    """Every run's ``cotangents``, of log w [run, T, batch] and three vectors [run].

    These are b, whether beta is learned, and beta. A beta that is learned is sigmoid(b), and the
    derivative is then at b; else it is zero.
    """

    def of_stack(log_w: Tensor, b: Tensor, learns: Tensor, fixed: Tensor) -> Cotangents:
        beta = torch.where(learns, b.sigmoid(), fixed)
        whole = Cotangents(*map(torch.empty_like, (log_w, log_w, beta, beta)))
        for g in groups:
            found = cotangents(g.of(log_w), g.objective, g.M, g.K, g.estimator, g.of(beta))
            for of_all_runs, of_group in zip(whole, found, strict=True):
                g.of(of_all_runs).copy_(of_group)
        at_b = torch.where(learns, whole.beta * (1 - beta) * beta, 0.0)
        return Cotangents(whole.theta, whole.phi, at_b, whole.loss)

    return of_stack
