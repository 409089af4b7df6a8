"""Engines of a training step: operation by operation, compiled, or as one CUDA graph."""

import contextlib
import ctypes
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from repro import one_of
from repro.bounds import has_number, partitions_of
from repro.models import Preparation, eager

MOST_VERSIONS = 64  # of one function, for as many sets of bounds, layouts and estimators


FUSED = {"combo_kernels": True}  # a GPU's kernels that do not wait for one another become one


@functools.cache
def compiled(function: Callable, fuses: bool = False) -> Callable:
    """Compile ``function`` by torch.compile, once for every shape that it meets."""
    return torch.compile(function, dynamic=False, options=FUSED if fuses else None)


@functools.cache
def compiled_whole(function: Callable, fuses: bool = False) -> Callable:
    """Compile ``function`` as one graph; its first call raises if a part cannot be compiled."""
    settings = torch._dynamo.config
    limit = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    setattr(settings, limit, MOST_VERSIONS)  # the second before PyTorch 2.6
    for constant in (has_number, partitions_of):
        torch.compiler.assume_constant_result(constant)
    return torch.compile(function, dynamic=False, fullgraph=True, options=FUSED if fuses else None)


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
    """A way to run a training step: compiled or not, and replayed as a CUDA graph or not."""

    name: str
    compiles: bool = False
    graph: bool = False
    fuses: bool = False  # to fewer kernels, as FusedProgram does

    @property
    def prepare(self) -> Preparation:
        """The wrapper for functions of tensors: ``compiled`` or ``eager``."""
        return functools.partial(compiled, fuses=self.fuses) if self.compiles else eager

    @property
    def compiles_small_operations(self) -> bool:
        """True if Adam and the choice of a batch are compiled, too: fewer kernels in the graph."""
        return self.compiles and self.graph

    def prepared_whole(self, function: Callable, example: Sequence) -> tuple[Callable, str]:
        """Compile ``function``, which may contain a user's code, as one graph; and a remark.

        If the compiler fails or gets other numbers on the arguments ``example``, the function is
        returned as it is, and the remark, else empty, says why.
        """
        if not self.compiles:
            return function, ""
        prepared = compiled_whole(function, self.fuses)
        try:
            found = prepared(*example)
        except Exception as error:
            cause = first_cause(error).splitlines()[0]
            return function, f"the bounds are not compiled ({cause})"
        if not all(map(_near, found, function(*example))):
            return function, "the bounds are not compiled (the compiler gets other numbers)"
        return prepared, ""


ENGINES = {  # from the simplest on; each falls back to the one before it, and "graph" is for that
    engine.name: engine
    for engine in (
        Engine("eager"),
        Engine("compiled", compiles=True),
        Engine("graph", graph=True),
        Engine("compiled-graph", compiles=True, graph=True),
        Engine("fused-graph", compiles=True, graph=True, fuses=True),
    )
}


class Beside:
    """A second CUDA stream: work ``with beside:`` overlaps with what follows, until ``join``.

    Without a device, there is no overlap. Tensors that are used there must be kept until ``join``,
    so that their memory is not reused.
    """

    def __init__(self, device: torch.device | None = None):
        self.stream = None if device is None else torch.cuda.Stream(device)

    def __enter__(self) -> None:
        if self.stream is not None:
            self.first = torch.cuda.current_stream()
            self.stream.wait_stream(self.first)
            torch.cuda.set_stream(self.stream)

    def __exit__(self, *error) -> None:
        if self.stream is not None:
            torch.cuda.set_stream(self.first)

    def join(self) -> None:
        """Make later work wait for the work of the second stream."""
        if self.stream is not None:
            self.first.wait_stream(self.stream)


def leave_side_streams(device: torch.device) -> None:
    """Make the default CUDA stream current again, after the capture of a graph has failed."""
    if device.type == "cuda":
        torch.cuda.set_stream(torch.cuda.default_stream(device))


def with_fallbacks(name: str) -> list[Engine]:
    """The engine called ``name``, and after it the simpler ones, in the order to try them."""
    engines = list(ENGINES.values())
    last = engines.index(ENGINES[one_of("engine", name, ENGINES)])
    return engines[last::-1]


M_TRIM_THRESHOLD = -1  # mallopt's numbers, from malloc.h
M_MMAP_THRESHOLD = -3
LARGEST_OF_HEAP = 32 * 2**20  # bytes; the largest that mallopt takes
KEPT_OF_HEAP = 2**30


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory that a step frees for the next one, if it can.

    By default glibc gives it back and gets it anew, page by page.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_OF_HEAP)
        mallopt(M_TRIM_THRESHOLD, KEPT_OF_HEAP)


@contextlib.contextmanager
def tiny_numbers_as_zero() -> Iterator[None]:
    """Let the CPU take numbers below 1e-38, the least that float32 holds in full, as zero.

    Normalised weights are such numbers early in training, when a few samples have all of the
    weight. Arithmetic with them is far slower, and they are too small to change a sum that a weight
    of one is in. Threads that PyTorch has started before do not take part.
    """
    are_zero = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(are_zero)


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    """True if two tensors differ by no more than the rounding of float32."""
    return bool((a - b).abs().max() <= 1e-3 * b.abs().max() + 1e-6)


def first_cause(error: BaseException) -> str:
    """Name and message of the first error in the chain of contexts that led to ``error``."""
    while error.__context__:
        error = error.__context__
    said = str(error).strip()
    name = type(error).__name__
    return f"{name}: {said}" if said else name
