"""How a training step runs: operation by operation, compiled, or as one CUDA graph."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from repro import one_of

Preparation = Callable[[Callable], Callable]  # a function of tensors -> the same, ready to run


def eager(function: Callable) -> Callable:
    """The function itself."""
    return function


@functools.cache
def compiled(function: Callable) -> Callable:
    """The function compiled by torch.compile, once for every shape that it meets."""
    return torch.compile(function, dynamic=False)


@functools.cache
def fastest() -> Preparation:
    """``compiled`` if there is a compiler, else ``eager``."""
    try:
        compiled(torch.exp)(torch.zeros(1))
    except Exception:
        return eager
    return compiled


@dataclass(frozen=True)
class Engine:
    """What runs a step.

    ``compiles`` its functions of tensors; has a ``kernel`` of our own for the decoder's last layer;
    replays the whole step as one CUDA ``graph``.
    """

    name: str
    compiles: bool = False
    kernel: bool = False
    graph: bool = False

    @property
    def prepare(self) -> Preparation:
        """Make a function of tensors ready to run."""
        return compiled if self.compiles else eager


ENGINES = {  # from the simplest on; each falls back to the one before it
    engine.name: engine
    for engine in (
        Engine("eager"),
        Engine("compiled", compiles=True),
        Engine("graph", graph=True),
        Engine("compiled-graph", compiles=True, graph=True),
        Engine("triton-graph", compiles=True, kernel=True, graph=True),
    )
}
ENGINE_CHOICES = ("auto", *ENGINES)


def with_fallbacks(name: str) -> list[Engine]:
    """The engine called ``name``, and after it the simpler ones, in the order to try them."""
    engines = list(ENGINES.values())
    last = engines.index(ENGINES[one_of("engine", name, ENGINES)])
    return engines[last::-1]
