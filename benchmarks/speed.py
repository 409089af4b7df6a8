"""Speed of a training step and of an evaluation, beside others and the machine's limits.

    python -m benchmarks.speed            # a few minutes
    python -m benchmarks.speed --grid     # runs 1, 5, 20, batch 20, 100, reference and larger

Everything is timed in one process, in blocks that take turns, so that other load of the machine
falls on all alike. Times are medians over the blocks; a ratio is the median of the ratios of blocks
beside one another. Peers that are not installed (``pip install -e .[bench]``) are left out, with
a line that says so.
"""

from __future__ import annotations

import importlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import click
import torch

from benchmarks import peers
from repro import datasets, plural
from repro.bounds import T
from repro.catalogue import MODELS, Architecture
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.randomness import Streams
from repro.records.provenance import code_and_date, device_name
from repro.scores import log_weight_sums
from repro.training.engines import compiled, eager
from repro.training.program import Program
from repro.training.run import pick_device
from repro.words.experiments import TABLE_METHODS, plan

Calls = dict[str, Callable[[], object]]  # timed calls, by name

FACTOR = "faster than plain"
LOG_PX_SAMPLES = 5000
EVALUATED = 20  # images
TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Clock:
    """Timing of calls in ``rounds`` blocks of ``block`` seconds each."""

    device: str
    rounds: int
    block: float

    def seconds(self, call: Callable[[], object]) -> float:
        """Mean seconds a call over calls that fill a block."""
        begun = time.perf_counter()
        calls = 0
        while calls == 0 or time.perf_counter() - begun < self.block:
            call()
            calls += 1
        if self.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / calls

    def in_turns(self, candidates: Calls) -> dict[str, list[float]]:
        """Seconds a call of each candidate in each round, after one block to warm up."""
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for i in range(self.rounds + 1):
            for name, call in candidates.items():
                once = self.seconds(call)
                if i > 0:
                    times[name].append(once)
        return times


def times_faster(than: Sequence[float], times: Sequence[float]) -> float:
    """The median ratio of the times of neighbouring blocks."""
    return median(other / mine for other, mine in zip(than, times, strict=True))


def fast(device: str) -> str:
    """The fastest engine on a device."""
    return "compiled" if device == "cpu" else "compiled-graph"


# The limits of the machine


def floor(shape: Architecture, batch: int, dtype: torch.dtype, clock: Clock) -> dict[str, float]:
    """The least time of a step of one run: that of its operations, or of its bytes.

    Both are timed on large arrays.
    """
    side = 2048
    a, b = (torch.randn(side, side, device=clock.device).to(dtype) for _ in range(2))
    large = torch.randn(2**24, device=clock.device)
    copy = torch.empty_like(large)
    times = replace(clock, block=0.3).in_turns(
        {"product": lambda: a @ b, "copy": lambda: copy.copy_(large)}
    )
    operations_a_second = 2 * side**3 / median(times["product"])
    bytes_a_second = 2 * large.nbytes / median(times["copy"])
    operations, traffic = _operations_and_bytes(shape, batch)
    return {
        "operations": operations,
        "bytes": traffic,
        "GFLOP/s": operations_a_second / 1e9,
        "GB/s": bytes_a_second / 1e9,
        "seconds": max(operations / operations_a_second, traffic / bytes_a_second),
    }


def _operations_and_bytes(shape: Architecture, batch: int) -> tuple[int, int]:
    """Count those of a step: the decoder sees T samples of an image, the encoder one image."""
    h, latent, pixels = shape.hidden, shape.latent, shape.pixels
    encoder = pixels * h + h * h + 2 * h * latent
    decoder = latent * h + h * h + h * pixels
    products = 3 * 2 * (batch * encoder + batch * T * decoder)
    at_pixels = 2 * batch * pixels * h  # no gradient goes to the images
    of_adam = 7 * (encoder + decoder)  # it reads four arrays and writes three
    return products - at_pixels, 4 * (of_adam + batch * pixels)


# Training steps


@dataclass(frozen=True)
class Case:
    """A training: every method, with as many seeds as make up the number of runs."""

    model: str
    batch: int
    methods: tuple[str, ...]
    runs: int

    @property
    def seeds(self) -> int:
        """Runs of each method."""
        return self.runs // len(self.methods)


IWAE = Case("reference", 20, ("iwae",), 1)
CASES = [IWAE, replace(IWAE, methods=("piwae",)), replace(IWAE, methods=TABLE_METHODS, runs=5)]


def grid_of_cases() -> list[Case]:
    """Every combination of model, batch and number of runs that is not in ``CASES``."""
    grid = []
    for methods, runs in ((("iwae",), (1,)), (TABLE_METHODS, (5, 20))):
        for model, batch, count in itertools.product(("reference", "larger"), (20, 100), runs):
            grid.append(Case(model, batch, methods, count))
    return [case for case in grid if case not in CASES]


def ours(
    case: Case,
    dataset: Dataset,
    device: str,
    engine: str,
    precision: str = "float32",
    one_stack: bool = False,
) -> Callable[[], None]:
    """A step of all runs, as ``training.fit`` takes it.

    The runs are one stack on an accelerator, and go one after the other on the CPU unless
    ``one_stack`` says otherwise.
    """
    runs = plan(
        case.methods, dataset="digits", profile="smoke", model=case.model, seed=[*range(case.seeds)]
    )
    runs = [replace(e, batch_size=case.batch, precision=precision) for e in runs]
    stacks = [[e] for e in runs] if device == "cpu" and not one_stack else [runs]
    programs = [Program(stack, dataset, device, engine) for stack in stacks]
    steps = 0

    def step() -> None:
        nonlocal steps
        for program in programs:
            if steps % program.steps_per_epoch == 0:
                program.start_epoch(0)
            program.step()
        steps += 1

    return step


def _ours_with_every_engine(case: Case, dataset: Dataset, device: str) -> Calls:
    kinds = [("eager", "float32"), (fast(device), "float32"), (fast(device), "bf16")]
    if device == "cuda":
        kinds.append((fast(device), "tf32"))
    calls: Calls = {}
    for engine, precision in kinds:
        calls[f"ours, {engine}, {precision}"] = ours(case, dataset, device, engine, precision)
    if device == "cpu" and case.runs > 1:
        calls["ours, compiled, float32, one stack"] = ours(
            case, dataset, device, "compiled", one_stack=True
        )
    return calls


def _peers(
    case: Case, dataset: Dataset, device: str, skip: set[str]
) -> tuple[Calls, dict[str, float]]:
    """The steps of others, and the factors of their times for a step of all runs."""
    shape = MODELS[case.model]
    calls: Calls = {}
    scale: dict[str, float] = {}
    known = {"plain": peers.LAYOUTS, "pythae": peers.PYTHAE}
    for name, methods in known.items():
        if name in skip or not set(case.methods) <= set(methods):
            continue
        peer = getattr(peers, name)
        steps = [peer(m, dataset.train, shape, case.batch, device) for m in case.methods]
        calls[name] = lambda steps=steps: [step() for step in steps]
        scale[name] = case.seeds  # one run at a time: further seeds cost the same again
    if "jax" not in skip:
        chunk = 10 if device == "cpu" else 1000
        methods = [*case.methods] * case.seeds
        calls["jax"] = peers.jax(methods, dataset.train, shape, case.batch, chunk)
        scale["jax"] = 1 / chunk
    return calls, scale


def time_case(case: Case, dataset: Dataset, clock: Clock, skip: set[str]) -> list[dict]:
    """Time a step of all runs in milliseconds, of ours and of every peer, beside the plain loop."""
    others, scale = _peers(case, dataset, clock.device, skip)
    calls = _ours_with_every_engine(case, dataset, clock.device) | others
    times = {}
    for name, blocks in clock.in_turns(calls).items():
        times[name] = [seconds * scale.get(name, 1) for seconds in blocks]
    rows = []
    for name, blocks in times.items():
        row = {
            "model": case.model,
            "batch": case.batch,
            "methods": ",".join(case.methods),
            "runs": case.runs,
            "what": name,
            "ms": 1e3 * median(blocks),
            "blocks": blocks,
        }
        if "plain" in times:
            row[FACTOR] = times_faster(times["plain"], blocks)
        rows.append(row)
    return rows


# Evaluation


def evaluation_of(what: str, dataset: Dataset, device: str) -> Callable[[], object]:
    """log p-hat of ``EVALUATED`` images: ``plain``, or ours with an engine as its last word."""
    if what == "plain":
        evaluate = peers.plain_evaluation(dataset.test, MODELS["reference"], device)
        return lambda: evaluate(LOG_PX_SAMPLES)
    x = torch.bernoulli(dataset.test[None, :EVALUATED]).to(device)
    net = Autoencoder(MODELS["reference"], [0]).to(device)
    net.prepare = eager if what.endswith("eager") else compiled

    def evaluate_ours() -> torch.Tensor:
        noise = Streams([0], "benchmark", device).normal
        return log_weight_sums(net, x, LOG_PX_SAMPLES, noise)["iwae"].cpu()

    return evaluate_ours


def time_evaluation(dataset: Dataset, clock: Clock) -> list[dict]:
    """Time log p-hat of ``TEST_IMAGES`` images, by ``EVALUATED`` of them."""
    names = ("plain", "ours, eager", f"ours, {fast(clock.device)}")
    calls = {name: evaluation_of(name, dataset, clock.device) for name in names}
    times = replace(clock, rounds=max(3, clock.rounds // 2), block=0.0).in_turns(calls)
    rows = []
    for name, blocks in times.items():
        row = {
            "model": "reference",
            "what": name,
            "seconds": TEST_IMAGES / EVALUATED * median(blocks),
            FACTOR: times_faster(times["plain"], blocks),
        }
        rows.append(row)
    return rows


# Printing


def print_floor(name: str, f: dict[str, float]) -> None:
    """Print the least time of a step, and its operations."""
    print(
        f"least time of an IWAE step, {name}: {1e3 * f['seconds']:.2f} ms = "
        f"{f['operations'] / 1e9:.2f} GFLOP at {f['GFLOP/s']:.0f} GFLOP/s"
    )


def print_step(row: dict) -> None:
    """Print one line of a case."""
    line = f"  {row['what']:34}{row['ms']:10.3f} ms a step"
    line += f"{1e3 * row['runs'] / row['ms']:10.1f} steps/s in all"
    if FACTOR in row:
        line += f"   {row[FACTOR]:6.2f}x plain"
    print(line, flush=True)


def print_evaluation(row: dict) -> None:
    """Print one line of the evaluation's table."""
    line = f"  {row['what']:34}{row['seconds']:10.1f} s   {row[FACTOR]:6.2f}x plain"
    print(line, flush=True)


def left_out(without: str) -> set[str]:
    """Peers that the user does not want, and those that are not installed."""
    skip = set(without.split(","))
    for peer in ("pythae", "jax"):
        try:
            importlib.import_module(peer)
        except ImportError:
            skip.add(peer)
            print(f"{peer} is not installed and left out")
    return skip


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--rounds", default=9, show_default=True, help="Blocks of each candidate.")
@click.option("--block", default=0.5, show_default=True, help="Seconds in a block.")
@click.option("--grid", is_flag=True, help="Every combination of runs, batch and model.")
@click.option("--without", default="", help="Peers to leave out: plain, pythae, jax.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for speed.json.")
def main(
    device: str, rounds: int, block: float, grid: bool, without: str, out: Path | None
) -> None:
    """Time everything and print the tables."""
    torch._dynamo.config.recompile_limit = 64  # a grid meets many shapes in one process
    clock = Clock(pick_device(device), rounds, block)
    dataset = datasets.load("digits")
    skip = left_out(without)
    result: dict = {"provenance": code_and_date() | {"device": device_name(clock.device)}}

    result["floor"] = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        result["floor"][name] = floor(MODELS["reference"], 20, dtype, clock)
        print_floor(name, result["floor"][name])

    result["steps"] = []
    for case in CASES + grid_of_cases() if grid else CASES:
        methods = ", ".join(case.methods)
        print(f"\n{plural(case.runs, 'run')} of {methods}; {case.model}, batch {case.batch}")
        for row in time_case(case, dataset, clock, skip):
            result["steps"].append(row)
            print_step(row)

    print(f"\nlog p-hat, K = {LOG_PX_SAMPLES}, {TEST_IMAGES:,} images, reference")
    result["evaluation"] = time_evaluation(dataset, clock)
    for row in result["evaluation"]:
        print_evaluation(row)

    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "speed.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
