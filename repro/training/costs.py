"""Time and memory that stacked runs will take on a device, from measured costs.

A cluster's scheduler needs to know them before a job begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from repro import own
from repro.bounds import T
from repro.catalogue import MODELS, OMNIGLOT
from repro.words.experiments import (
    IMAGES_AT_MILESTONES,
    MILESTONES,
    PROFILES,
    WORDS,
    Experiment,
    is_evaluated,
)

SIZES = {  # dataset -> training and test images; of somebody's own dataset, MNIST's
    "digits": (1500, 297),
    "mnist": (60_000, 10_000),
    "omniglot": (24_345, 8070),
    OMNIGLOT: (24_345, 8115),
}


USUAL_BATCH = WORDS["batch_size"].usual


def _size(e: Experiment) -> float:
    """A model's parameters, as a multiple of the reference model's."""
    reference = MODELS["reference"].parameters
    if own.is_own(e.model):
        return _own_parameters(e.model) / reference
    return e.architecture.parameters / reference


@cache
def _own_parameters(model: str) -> int:
    return sum(p.numel() for p in own.made(model).parameters())


def log_weights_to_evaluate(
    e: Experiment, image_count: int, done: int = 0, at_milestones: bool = True
) -> int:
    """Count the log-weights of test images that are still to be evaluated after ``done`` epochs.

    T of each image in each evaluated epoch and at the end; those of log p-hat at the end, and of
    some images at each milestone, where a stage of the learning rate ends.
    """
    samples = PROFILES[e.profile].log_px_samples
    evaluated = [n for n in range(done + 1, e.epochs + 1) if is_evaluated(n)]
    at_end = T + samples
    log_weights = image_count * (T * len(evaluated) + at_end)
    if at_milestones:
        times = len([m for m in MILESTONES if done < m < e.epochs])
        log_weights += times * at_end * min(image_count, IMAGES_AT_MILESTONES)
    return log_weights


@dataclass(frozen=True)
class DeviceCosts:
    """Costs of a stack, runs that are trained side by side, on a kind of device.

    ``seconds_of_step`` is that of a stack of n runs of the reference model at 64 samples of 20
    images: a fixed part, and a part for each run. ``seconds_of_sample`` is that of one log-weight
    of one image in an evaluation. Memory is in GB.
    """

    seconds_to_start: float
    seconds_of_step: tuple[float, float]
    seconds_of_sample: float
    memory: tuple[float, float]
    watts: float
    in_stacks: bool  # runs are trained side by side, which saves time

    def training(self, runs: Sequence[Experiment]) -> float:
        """Seconds that the training steps of stacked ``runs`` take, without evaluations."""
        first = runs[0]
        train, _ = SIZES.get(first.dataset, SIZES["mnist"])
        steps = first.epochs * (train // first.batch_size)
        of_stack, of_run = self.seconds_of_step
        samples = first.M * first.K * first.batch_size / (T * USUAL_BATCH)
        return steps * (of_stack + of_run * len(runs) * samples) * _size(first)

    def cost(self, runs: Sequence[Experiment]) -> "Cost":
        """Time and memory of a job that trains and evaluates stacked ``runs``."""
        first = runs[0]
        _, test = SIZES.get(first.dataset, SIZES["mnist"])
        size = _size(first)
        log_weights = log_weights_to_evaluate(first, test)
        evaluation = log_weights * self.seconds_of_sample * len(runs) * size
        base, more = self.memory
        memory = base + more * len(runs) * size
        return Cost(self.seconds_to_start + self.training(runs) + evaluation, memory)


DEVICE_COSTS = {  # measured; the chapter on clusters compares them with records
    # one H200, compiled graphs in TensorFloat-32; the card's limit of power
    "cuda": DeviceCosts(30, (170e-6, 31e-6), 4e-8, (2.0, 0.7), 700, in_stacks=True),
    # one core of a server's processor, in single precision; a generous guess of power, with memory
    "cpu": DeviceCosts(10, (0.0, 22e-3), 5e-6, (1.0, 0.1), 20, in_stacks=False),
}


class Cost(NamedTuple):
    """Time and memory that a job takes."""

    seconds: float
    memory: float  # GB
