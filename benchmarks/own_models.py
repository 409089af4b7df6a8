"""Time of ``repro.backward`` beside plain automatic differentiation of one bound.

    python -m benchmarks.own_models

The model has the sizes of the reference model, made of ``torch.distributions``; a batch has 20
images and 64 samples of each. Calls take turns in one process, and a ratio is the median of the
ratios of blocks beside one another.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import repro
from benchmarks.speed import Clock, times_faster
from repro.bounds import METHODS
from repro.own_models import DistributionModel

CASES = (  # method, M, K, estimator, and the most that it may take
    ("iwae", 1, 64, "rep", 1.1),
    ("vae", 64, 1, "rep", 1.1),
    ("piwae", 8, 8, "rep", 1.45),
    ("iwae", 1, 64, "drep", 1.45),
    ("iwae", 1, 64, "rws", 1.45),
)


def reference() -> DistributionModel:
    """A model of the reference model's sizes."""

    class Code(nn.Sequential):
        def forward(self, x: Tensor) -> Normal:
            mean, log_sigma = super().forward(x).chunk(2, -1)
            return Normal(mean, log_sigma.exp())

    class Pixels(nn.Sequential):
        def forward(self, z: Tensor) -> Bernoulli:
            return Bernoulli(logits=super().forward(z), validate_args=False)

    def layers(*sizes: int) -> list[nn.Module]:
        hidden = [(nn.Linear(a, b), nn.Tanh()) for a, b in itertools.pairwise(sizes[:-1])]
        return [*sum(hidden, ()), nn.Linear(*sizes[-2:])]

    encoder, decoder = Code(*layers(784, 200, 200, 100)), Pixels(*layers(50, 200, 200, 784))
    return repro.from_distributions(encoder, decoder)


def plain(model: DistributionModel, x: Tensor, method: str, M: int, K: int) -> Callable[[], None]:
    """A step of automatic differentiation of theta's bound alone, for both networks."""

    def step() -> None:
        model.zero_grad()
        log_w = model.log_weights(x, M * K).unflatten(0, (M, K))
        (-METHODS[method].theta(log_w).mean()).backward()

    return step


def main() -> None:
    """Print a line for each case; exit with status 1 if one takes longer than it may."""
    model = reference()
    x = torch.rand(20, 784).round()
    clock = Clock("cpu", rounds=9, block=0.5)
    slow = False
    for method, M, K, estimator, most in CASES:
        calls = {
            "plain": plain(model, x, method, M, K),
            "ours": lambda how=(method, M, K, estimator): repro.backward(model, x, *how),
        }
        times = clock.in_turns(calls)
        ratio = times_faster(times["ours"], times["plain"])
        slow |= ratio > most
        print(f"{method:6} {estimator:5} {ratio:.2f} times as long as plain; at most {most}")
    raise SystemExit(slow)


if __name__ == "__main__":
    main()
