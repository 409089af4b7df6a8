"""Bundles: stacked runs that share bounds, M, K and estimator; the cotangents of all runs at once.

Bounds see nothing but log-weights [run, T, batch], so their derivatives cost nothing beside a
decoder. They cost calls: some two hundred small operations if automatic differentiation takes them
one by one, and about a dozen kernels if they are compiled together.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from repro.bounds import METHODS, Objective
from repro.estimators import Cotangents, cotangents
from repro.words.experiments import Experiment


class Bundle(NamedTuple):
    """``count`` stacked runs, from number ``first`` on, that share bounds, M, K and estimator."""

    objective: Objective
    M: int
    K: int
    estimator: str
    first: int
    count: int

    def part_of(self, per_run: Tensor) -> Tensor:
        """The rows of this bundle's runs in a tensor [run, ...]."""
        return per_run.narrow(0, self.first, self.count)


def _shared(e: Experiment) -> tuple:
    return METHODS[e.method].with_alpha(e.alpha), e.M, e.K, e.estimator


def side_by_side(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Sort experiments so that those of one bundle are neighbours, otherwise in their order."""
    firsts = [_shared(e) for e in experiments]
    return sorted(experiments, key=lambda e: firsts.index(_shared(e)))


def bundles_of(experiments: Sequence[Experiment]) -> tuple[Bundle, ...]:
    """Group experiments that ``side_by_side`` has sorted into bundles."""
    of_each = [_shared(e) for e in experiments]
    firsts = dict.fromkeys(of_each)
    return tuple(Bundle(*s, of_each.index(s), of_each.count(s)) for s in firsts)


@functools.cache
def cotangents_of(bundles: tuple[Bundle, ...]) -> Callable[..., Cotangents]:
    """Make the function that gives every run's ``cotangents``, for the stacked runs in ``bundles``.

    It takes log w [run, T, batch] and three vectors [run]: beta's logit, whether beta is learned,
    and beta. A learned beta is the logit's sigmoid, and the result's ``beta`` is then the
    derivative at the logit; else it is zero.
    """

    def stacked(log_w: Tensor, logit: Tensor, learns: Tensor, fixed: Tensor) -> Cotangents:
        beta = torch.where(learns, logit.sigmoid(), fixed)
        whole = Cotangents(*map(torch.empty_like, (log_w, log_w, beta, beta)))
        for b in bundles:
            part = b.part_of
            found = cotangents(part(log_w), b.objective, b.M, b.K, b.estimator, part(beta))
            for every_run, of_bundle in zip(whole, found, strict=True):
                part(every_run).copy_(of_bundle)
        at_logit = torch.where(learns, whole.beta * (1 - beta) * beta, 0.0)
        return whole._replace(beta=at_logit)

    return stacked
