"""Seconds of training until a given IWAE-64, beside others.

    python -m benchmarks.race                # an hour on a machine that is otherwise idle
    python -m benchmarks.race --seed 99 --only plain    # a pilot: its curve alone

IWAE with 64 samples, the reference network, batches of 20, Adam at 1e-3: MNIST without its last
5,000 training images, which are scored. Each training is a process of its own, and hands its
weights over after 1, 2, 4, ... seconds; one evaluator scores them outside the clock, with the same
binarised images and the same noise for all. Making the loop and its first step, which compiles, are
timed apart. ``TARGETS`` were fixed from the pilot, before any other training. A line for each
training goes into the file; those that are there are not trained again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import numpy as np
import pandas as pd
import torch

from benchmarks import peers
from benchmarks.speed import fast
from repro import datasets
from repro.catalogue import MODELS
from repro.models import Autoencoder
from repro.records.provenance import code_and_date, device_name
from repro.scores import iwae_bound
from repro.studies import style
from repro.training.program import Program
from repro.training.run import pick_device
from repro.words.experiments import plan

FLUSHED = "plain, tiny numbers as zero"
OURS = {"ours, eager": "eager", "ours, compiled": ""}  # "": the fastest of the device
COMPETITORS = ("plain", FLUSHED, "plain, compiled", "pythae", "jax", *OURS)
SEEDS = (1, 2, 3)
TARGETS = (-165.0, -150.0, -140.0)
HELD_OUT = 5000
BATCH = 20
LIMIT = 600.0  # seconds of one training
CHUNK = {"cpu": 10, "cuda": 1000}  # steps of one call of JAX's


class Handed(NamedTuple):
    """Weights that a training hands over: seconds and steps so far, and its layers."""

    seconds: float
    steps: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]


def loop_of(name: str, seed: int, images: torch.Tensor, device: str) -> tuple[peers.Loop, int]:
    """The training loop of a competitor, and the number of steps in a call."""
    torch.manual_seed(seed)
    torch.set_flush_denormal(name == FLUSHED)  # our steps do it by themselves
    shape = MODELS["reference"]
    how = (images, shape, BATCH, device)
    if name == "jax":
        return peers.jax(["iwae"], images, shape, BATCH, CHUNK[device], seed), CHUNK[device]
    if name not in OURS:
        peer = peers.pythae if name == "pythae" else peers.plain
        more = {"compiles": True} if "compiled" in name else {}
        return peer("iwae", *how, **more), 1
    runs = plan("iwae", "mnist", profile="short", seed=seed, schedule="constant")
    dataset = datasets.Dataset("mnist", "MNIST", images, images[:0])
    program = Program(runs, dataset, device, OURS[name] or fast(device))
    return peers.Loop(_stepping(program), lambda: _layers(program)), 1


def _stepping(program: Program):
    def step() -> None:
        if int(program.index) == program.steps_per_epoch:
            program.start_epoch(0)
        program.step()

    return step


def _layers(program: Program) -> list[tuple[torch.Tensor, torch.Tensor]]:
    tensors = list(program.model.run_state(0).values())
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def handed_over(loop: peers.Loop, in_call: int, device: str) -> Iterator[Handed]:
    """Train, and yield the weights after 1, 2, 4, ... seconds; time stands still meanwhile."""
    seconds, steps, due = 0.0, 0, 1.0
    while due <= LIMIT:
        begun = time.perf_counter()
        while seconds + time.perf_counter() - begun < due:
            loop()
            steps += in_call
        if device == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - begun
        yield Handed(seconds, steps, loop.layers())
        due *= 2


def train(name: str, seed: int, device: str) -> dict:
    """Train a competitor until it has reached every target, or time is up; its curve."""
    mnist = datasets.load("mnist").holding_out(HELD_OUT)
    begun = time.perf_counter()
    loop, in_call = loop_of(name, seed, mnist.train, device)
    loop()
    started = time.perf_counter() - begun
    curve = []
    for handed in handed_over(loop, in_call, device):
        score = score_of(name, handed.layers, mnist.test, device)
        curve.append([handed.seconds, handed.steps, score])
        if score > max(TARGETS):
            break
    about = {"name": name, "seed": seed, "device": device_name(device), "starts_in": started}
    return about | {"curve": curve} | code_and_date()


def score_of(name: str, layers, images: torch.Tensor, device: str) -> float:
    """IWAE-64 of the held-out images, in nats."""
    model = Autoencoder(MODELS["reference"], [0])
    if name == "pythae":  # whose encoder gives the logarithm of the variance
        model.encoder.positive = _root_of_exp
    flat = [tensor.detach().cpu() for layer in layers for tensor in layer]
    model.load_run_state(0, dict(zip(dict(model.named_parameters()), flat, strict=True)))
    return iwae_bound(model.to(device), images, [0], "race", 64).mean().item()


def _root_of_exp(log_variance: torch.Tensor) -> torch.Tensor:
    return (log_variance / 2).exp()


def reached(curve: Sequence, target: float) -> tuple[float, float]:
    """Seconds and steps to ``target``, each linear in the score between two scores.

    It is infinite if the target was not reached.

    >>> reached([[1.0, 100, -120.0], [2.0, 200, -110.0]], -115.0)
    (1.5, 150.0)
    """
    seconds, steps, scores = np.array(curve).T
    highest = np.maximum.accumulate(scores)
    if highest[-1] < target:
        return np.inf, np.inf
    return tuple(float(np.interp(target, highest, values)) for values in (seconds, steps))


# The table


def said(values: Sequence[float]) -> str:
    """Median and range; "not reached" if a training did not."""
    if np.isinf(values).any():
        return "not reached"
    return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def table(trainings: Sequence[dict]) -> str:
    """What each competitor took to each target: seconds, steps, and milliseconds a step."""
    head = ["", "starts in, s", "ms a step"]
    for target in TARGETS:
        head += [f"s to −{-target:g}", "steps"]
    lines = [head, ["---"] * len(head)]
    for name in dict.fromkeys(t["name"] for t in trainings):
        mine = [t for t in trainings if t["name"] == name]
        lasts = [t["curve"][-1] for t in mine]
        of_step = median(1e3 * seconds / steps for seconds, steps, _ in lasts)
        row = [name, f"{median(t['starts_in'] for t in mine):.0f}", f"{of_step:.0f}"]
        for target in TARGETS:
            found = [reached(t["curve"], target) for t in mine]
            seconds, steps = zip(*found, strict=True)
            row += [said(seconds), f"{median(steps):.0f}"]
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


LOOKS = {  # of the lines of the figure
    name: {"color": colour, "marker": marker}
    for name, colour, marker in zip(COMPETITORS, style.COLOURS.values(), "osPv^XD", strict=False)
}


@style.styled()
def curves(trainings: Sequence[dict]):
    """IWAE-64 of held-out images against seconds; a line for each training."""
    rows = [
        {"trained by": t["name"], "seed": t["seed"], "seconds": seconds, "nats": score}
        for t in trainings
        for seconds, _, score in t["curve"]
    ]
    figure, ((ax,),) = style.subplots(1, 1, (8, 3.6))
    one_each = {"units": "seed", "estimator": None}
    looks = style.each_in_its("trained by", LOOKS)
    style.lines(pd.DataFrame(rows), "seconds", "nats", ax, **looks, **one_each)
    for target in TARGETS:
        ax.axhline(target, color=style.GREY, linestyle=":", linewidth=1)
    ax.set(xlabel="seconds of training", ylabel="IWAE-64, held-out images")
    style.counts_below(ax, [2**power for power in range(10)])
    ax.legend(handles=style.entries(LOOKS), fontsize=7)
    return figure


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, show_default=True)
@click.option("--only", "names", multiple=True, type=click.Choice(COMPETITORS), default=COMPETITORS)
@click.option("--one", is_flag=True, hidden=True, help="Train in this process, and print a line.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File of a line for each training; table and figure beside it.",
)
def main(device: str, seeds: tuple, names: tuple, one: bool, out: Path | None) -> None:
    """Train what is not in the file yet, and print the table."""
    device = pick_device(device)
    if one:
        print(json.dumps(train(names[0], seeds[0], device)))
        return
    lines = out.read_text(encoding="utf-8").splitlines() if out and out.exists() else []
    there = {(t["name"], t["seed"]) for t in map(json.loads, lines)}
    for seed in seeds:
        for name in names:
            if (name, seed) in there:
                continue
            options = ["--one", "--device", device, "--seed", str(seed), "--only", name]
            command = [sys.executable, "-m", "benchmarks.race", *options]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name}, seed {seed}: failed, and is left out", flush=True)
                continue
            lines.append(done.stdout.splitlines()[-1])
            curve = json.loads(lines[-1])["curve"]
            scores = ", ".join(f"{s:.0f} s {score:.1f}" for s, _, score in curve)
            print(f"{name}, seed {seed}: {scores}", flush=True)
            if out:
                out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    trainings = [json.loads(line) for line in lines]
    print(table(trainings))
    if out and trainings:
        out.with_suffix(".md").write_text(table(trainings) + "\n", encoding="utf-8")
        style.save(curves(trainings), out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
