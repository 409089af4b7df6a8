"""Every random number that training and evaluation see comes from here.

Each use has a stream of its own for each seed, so that no use of random numbers disturbs another,
and a run sees the same numbers whatever runs are stacked with it.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of random numbers that depends on ``seed`` and ``purpose`` alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Streams:
    """Random numbers for stacked runs, one for each of ``seeds``; equal seeds see equal numbers."""

    def __init__(self, seeds: Sequence[int], purpose: str, device: str | torch.device = "cpu"):
        distinct = list(dict.fromkeys(seeds))
        self.device = torch.device(device)
        self.generators = [generator(seed, purpose, device) for seed in distinct]
        self.index = torch.tensor([distinct.index(seed) for seed in seeds], device=device)

    def runs(self, per_seed: Tensor) -> Tensor:
        """Give each run its seed's row, [seed, ...] -> [run, ...]; a view if there is one seed."""
        if len(self.generators) == 1:
            return per_seed.expand(len(self.index), *per_seed.shape[1:])
        return per_seed[self.index]

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, ``[run, *shape]``."""
        draws = [torch.randn(1, *shape, generator=g, device=self.device) for g in self.generators]
        return self.runs(_joined(draws))

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Numbers from 0 to 1, without 1, ``[run, *shape]``."""
        draws = [torch.rand(1, *shape, generator=g, device=self.device) for g in self.generators]
        return self.runs(_joined(draws))

    def binarise(self, images: Tensor) -> Tensor:
        """A Bernoulli draw of each pixel: [seed or 1, n, pixels] -> 0 or 1, [run, n, pixels]."""
        images = images.expand(len(self.generators), *images.shape[1:])
        pairs = zip(images.split(1), self.generators, strict=True)
        return self.runs(_joined([torch.bernoulli(p, generator=g) for p, g in pairs]))

    def permutations(self, n: int) -> Tensor:
        """A fresh random order of n items for each distinct seed: [seed, n]."""
        orders = [torch.randperm(n, generator=g, device=self.device) for g in self.generators]
        return torch.stack(orders)

    @contextlib.contextmanager
    def as_ambient(self) -> Iterator[None]:
        """Set PyTorch's global generator to the first seed's stream within the context.

        A user's own model draws from it. On a GPU the global generator is seeded anew each time
        with the stream's next number.
        """
        mine = self.generators[0]
        if self.device.type == "cpu":
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(mine.get_state())
                yield
                mine.set_state(torch.get_rng_state())
            return
        with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=mine, device=self.device)))
            yield

    def get_state(self) -> list[Tensor]:
        """The state of each seed's generator."""
        return [g.get_state() for g in self.generators]

    def set_state(self, states: list[Tensor]) -> None:
        """Restore the generators' ``states``, from ``get_state``."""
        for g, state in zip(self.generators, states, strict=True):
            g.set_state(state.cpu())


def _joined(draws: list[Tensor]) -> Tensor:
    """[1, ...] of each seed -> [seed, ...], without a copy of one alone."""
    return draws[0] if len(draws) == 1 else torch.cat(draws)
