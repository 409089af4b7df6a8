"""Time of a step with more runs side by side; on a GPU, its launches and kernels, too.

    python -m benchmarks.steps --runs 5,10,20 --precision tf32,fp16

The runs are Table 1's methods, with as many seeds as make up the number, in the reference network.
"""

import itertools

import click
import torch

from repro import datasets, one_of, plural
from repro.records.provenance import code_and_date, device_name
from repro.training import loop
from repro.training.engines import ENGINES
from repro.training.forecast import seconds_of_step
from repro.training.program import Program
from repro.training.run import has_precision, pick_device
from repro.words.experiments import TABLE_METHODS, plan

STEPS = 50
KERNELS = 15  # that are listed


def kernels_of(program: Program) -> list[tuple[str, float, float]]:
    """The kernels of a step: name, launches and microseconds, the slowest first."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        program.index.zero_()
        program.take_steps(STEPS)
        torch.cuda.synchronize()
    found = [(k.key, k.count / STEPS, k.device_time_total / STEPS) for k in profiler.key_averages()]
    return sorted(found, key=lambda kernel: -kernel[2])


@click.command()
@click.option("--runs", default="5,10,20", show_default=True, help="Runs side by side.")
@click.option("--precision", default="tf32,fp16", show_default=True)
@click.option("--engine", default="compiled-graph,fused-graph", show_default=True)
@click.option("--device", default="auto", show_default=True)
def main(runs: str, precision: str, engine: str, device: str) -> None:
    """Print microseconds a step, and on a GPU what it launches."""
    device = pick_device(device)
    for each in precision.split(","):
        if not has_precision(each, device):
            raise click.ClickException(f"precision '{each}' is not available on this {device}")
    names = [one_of("engine", name, ENGINES) for name in engine.split(",")]
    counts = [int(count) for count in runs.split(",")]
    if any(count % len(TABLE_METHODS) for count in counts):
        raise click.ClickException(f"runs are {runs}; give multiples of {len(TABLE_METHODS)}")
    print(f"{device_name(device)}, torch {torch.__version__}, {code_and_date()}")
    digits = datasets.load("digits")
    for each in precision.split(","):
        for name, count in itertools.product(names, counts):
            words = {"seed": [*range(count // len(TABLE_METHODS))], "precision": each}
            stack = plan(profile="smoke", dataset="digits", model="reference", **words)
            program = loop.make(stack, digits, device, name)
            seconds = seconds_of_step(program, STEPS if device == "cuda" else 1)
            said = f"{name}, {each}, {plural(count, 'run')}: {1e6 * seconds:,.0f} us a step"
            kernels = kernels_of(program) if device == "cuda" else []
            launches = sum(launched for _, launched, _ in kernels)
            print(f"{said}, {launches:.0f} launches" if kernels else said, flush=True)
            for kernel, launched, microseconds in kernels[:KERNELS]:
                print(f"    {launched:4.1f} times, {microseconds:6.1f} us: {kernel[:90]}")


if __name__ == "__main__":
    main()
