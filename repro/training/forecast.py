"""Choice of the engine, and an estimate of the time that training and evaluation will take."""

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from repro import ReproError, own, own_code, scores
from repro.bounds import METHODS
from repro.datasets import Dataset
from repro.training.costs import log_weights_to_evaluate
from repro.training.engines import first_cause, leave_side_streams, with_fallbacks
from repro.training.loop import alone, make
from repro.training.networks import new_model
from repro.training.program import Program
from repro.words.experiments import Experiment

WORTH_COMPILING = 8e9  # steps times parameters, about five minutes: then compile on the CPU


def engine_for(e: Experiment, dataset: Dataset, device: str) -> str:
    """The engine that ``auto`` stands for in runs like ``e``.

    On the CPU it depends on the length of the training alone, so that the same command takes the
    same engine however busy the machine is.
    """
    if own.is_own(e.model):
        return "eager"
    if device != "cpu":
        return "compiled-graph"
    steps = e.epochs * (len(dataset.train) // e.batch_size)
    worth = steps * e.architecture.parameters > WORTH_COMPILING
    return "compiled" if worth else "eager"


class Trial(NamedTuple):
    """An engine that works, and the seconds that it takes for a step of all runs.

    ``why`` gives the reason if it is not the one asked for; ``remark`` says what is not compiled.
    """

    engine: str
    seconds: float
    why: str = ""
    remark: str = ""


def try_engines(
    experiments: Sequence[Experiment],
    dataset: Dataset,
    device: str | torch.device = "cpu",
    engine: str = "eager",
    fallback: bool = True,
) -> Trial:
    """Try ``engine``, and after it the simpler ones, on a few steps that are thrown away.

    Without ``fallback``, an engine that is not available raises ReproError.
    """
    why = ""
    runs = experiments[:1] if alone(experiments, device) else experiments
    for candidate in with_fallbacks(engine):
        try:
            program = make(runs, dataset, device, candidate.name)
            seconds = seconds_of_step(program) * len(experiments) / len(runs)
        except Exception as error:
            if candidate.name == "eager":
                raise
            why = f"the {engine} engine is not available here ({first_cause(error)})"
            if not fallback:
                raise ReproError(why.splitlines()[0]) from None
            leave_side_streams(torch.device(device))
        else:
            return Trial(candidate.name, seconds, why, program.remark)
    raise AssertionError("the eager engine returns or raises")


@torch.no_grad()
def check_own_bounds(
    experiments: Sequence[Experiment], dataset: Dataset, device: str, decoder: dict | None
) -> None:
    """Raise ReproError if a user's own bound or model has no finite gradient on the first batch."""
    own_ones = [e for e in experiments if own.is_own(e.method) or own.is_own(e.model)]
    for e in {(e.method, e.M, e.K): e for e in own_ones}.values():
        called = own.without_hash(e.method if own.is_own(e.method) else e.model)
        with (
            own_code.shared_state_kept(called),
            own_code.hashed_modules(called),
            own_code.users_code(f"{called}, with images,"),
        ):
            program = make([e], dataset, device, "eager", decoder)
            found = program.gradients(program.draw_batch())
        parts = {"inference": found.encoder, "generative": found.decoder}
        if METHODS[e.method].phi is None:
            del parts["inference"]
        for network, gradient in parts.items():
            if gradient is None or not gradient.numel():
                continue
            what = "" if gradient.any() else "zero"
            if not gradient.isfinite().all():
                what = "not finite"
            if what:
                raise ReproError(
                    f"the gradient of the {network} network is {what} on the first images under "
                    f"{e.method}; are their log-weights far from 0, or is something detached?"
                )


def seconds_of_step(program: Program, count: int = 1, rounds: int = 6) -> float:
    """Median time of a step over ``rounds`` of ``count`` steps, after one round to warm up."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        program.index.zero_()  # a small dataset may have few batches
        program.take_steps(count)
        program.losses[0].tolist()  # waits for the device
        seconds.append((time.perf_counter() - begun) / count)
    return statistics.median_high(seconds[1:])


def seconds_left(
    runs: Sequence[Experiment],
    dataset: Dataset,
    device: str,
    trial: Trial,
    done: int = 0,
    at_milestones: bool = True,
) -> float:
    """Estimate the time of training and of all evaluations after ``done`` epochs.

    An evaluation is timed on a few images.
    """
    e = runs[0]
    model = new_model(runs[:1], dataset.train.mean(0)).to(device)
    few = dataset.test[: max(100, scores.CHUNK_IMAGES[device])]  # a GPU wants many
    for _ in range(2):  # the first time is a warm-up
        begun = time.monotonic()
        scores.iwae_bound(model, few, [0], "estimate")
    seconds_per_weight = (time.monotonic() - begun) / (len(few) * 64)
    log_weights = log_weights_to_evaluate(e, len(dataset.test), done, at_milestones) * len(runs)
    steps = (e.epochs - done) * (len(dataset.train) // e.batch_size)
    return seconds_per_weight * log_weights + trial.seconds * steps
