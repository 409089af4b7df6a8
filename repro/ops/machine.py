"""Check of a machine: each engine at each precision against float64, and advice which to use.

Each is tried in a process of its own, so that one that fails leaves no trace in the next.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import torch

from repro import ReproError, datasets, plural
from repro.catalogue import DATASETS
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.records import Archive
from repro.records.provenance import device_name
from repro.records.schema import WEIGHTS
from repro.training import engines
from repro.training.bundles import bundles_of, cotangents_of
from repro.training.forecast import seconds_of_step
from repro.training.loop import alone, make
from repro.training.program import Program, matmul_precision
from repro.words.experiments import ENGINE_CHOICES, PRECISIONS, Experiment, plan

# Relative errors that pass: of gradients against float64, with initial weights and trained ones.
GRADIENT_ERROR = {"float32": 2e-5, "tf32": 3e-3, "fp16": 3e-3, "bf16": 3e-2}
TRAINED_ERROR = {"float32": 1e-4, "tf32": 6e-2, "fp16": 6e-2, "bf16": 0.5}
# And of the loss of 50 steps, against eager.
LOSS_ERROR = {"float32": 1e-3, "tf32": 5e-3, "fp16": 5e-3, "bf16": 1e-2}
STEPS = 50  # of an epoch
TRIAL_SECONDS = 240.0  # an engine that takes longer has failed


@dataclass(frozen=True)
class Finding:
    """The outcome of one check of the machine; ``ok`` is False for a fault."""

    part: str
    what: str
    found: str
    ok: bool = True

    def __str__(self) -> str:
        mark = "" if self.ok else "FAULT"
        return f"{self.part:23} {self.what:24} {mark:5} {self.found}"


@dataclass(frozen=True)
class Choice:
    """An engine and a precision that passed all checks, and the time of a training step."""

    engine: str
    precision: str
    milliseconds: float

    def __str__(self) -> str:
        """The options of ``python -m repro train`` that make this choice, and its time."""
        options = f"--engine {self.engine} --precision {self.precision}"
        return f"{options}: {self.milliseconds:.2f} ms a step"


# The machine


def findings_on_machine(device: str) -> Iterator[Finding]:
    """Yield the device's name and the versions that are installed."""
    yield Finding("machine", "device", device_name(device))
    yield Finding("machine", "torch", torch.__version__)
    if device == "cuda":
        yield Finding("machine", "CUDA of torch", str(torch.version.cuda))
    compiles = engines.fastest() is engines.compiled
    yield Finding("machine", "torch.compile", "works" if compiles else "no compiler: eager only")


def findings_on_data(data: str | Path | None) -> Iterator[Finding]:
    """Verify each dataset; one that is not available is no fault, except for the digits."""
    for name in DATASETS:
        try:
            found = datasets.load(name, data)
        except ReproError as error:
            yield Finding("data", name, f"not available: {error}", ok=name != "digits")
        else:
            yield Finding("data", name, f"verified, {len(found.train):,} training images")


# An engine at a precision, in a process of its own


def findings_on_engine(engine: str, precision: str, device: str) -> Iterator[Finding | Choice]:
    """Check an engine at a precision; the last result is a ``Choice`` if there was no fault."""
    part = f"{engine}, {precision}"
    runs = _runs(device, precision)
    digits = datasets.load("digits")
    dataset = replace(digits, train=digits.train[: STEPS * runs[0].batch_size])
    program = make(runs, dataset, device, engine)
    program.step()  # compiles and captures
    start = program.get_state()
    seconds = seconds_of_step(program, 1 if device == "cpu" else STEPS, rounds=12)
    program.set_state(start)
    right = True
    for what, text, ok in _outcomes(program, dataset):
        yield Finding(part, what, text, ok)
        right = right and ok
    yield Finding(part, f"step of {plural(len(runs), 'run')}", f"{1e3 * seconds:.3f} ms")
    if right:
        yield Choice(engine, precision, 1e3 * seconds)


Tried = tuple[str, str, bool]  # the trial, its outcome, and whether that is right


def _outcomes(program: Program, dataset: Dataset) -> Iterator[Tried]:
    if program.remark:
        yield "bounds", program.remark, False
    yield _noise(program)
    yield _gradient_error(program, "gradient against float64", GRADIENT_ERROR)
    if weights := _trained_weights():
        start = program.get_state()
        for run in range(len(program.seeds)):
            program.model.load_run_state(run, weights)
        yield _gradient_error(program, "with trained weights", TRAINED_ERROR)
        program.set_state(start)
    yield _steps_against_eager(program, dataset)
    yield from _going_on(program, dataset)


def _runs(device: str, precision: str = "float32") -> list[Experiment]:
    """Table 1's five methods, if they train as one program; else the one with two bounds."""
    runs = plan(profile="smoke", precision=precision)
    if alone(runs, device):
        return [e for e in runs if e.method == "piwae"]
    return runs


def _noise(program: Program) -> Tried:
    """Try that IWAE and PIWAE have the same first loss, and that a second step has another."""
    program.step()
    first, second = program.losses[:2]
    if bool((first == second).any()):
        return "noise", "the same in two steps", False
    loss_of = dict(zip([e.method for e in program.experiments], first.tolist(), strict=True))
    if "iwae" not in loss_of:
        return "noise", "new in each step", True
    shared = abs(loss_of["iwae"] - loss_of["piwae"]) < 1e-3
    said = "shared by a seed's runs"
    return "noise", said if shared else f"not {said}", shared


def _trained_weights() -> dict[str, torch.Tensor] | None:
    """Weights of an IWAE of 40 epochs on MNIST, if the archive holds some.

    With them the errors are largest: a weight of importance is the exponential of a sum of errors.
    """
    for e in plan("iwae", "mnist", profile="short", seed=[2, 3, 4, 5, 6]):
        if (Archive().path_of(e) / WEIGHTS).exists():
            return Archive().get(e).weights()
    return None


def _gradient_error(program: Program, what: str, most: dict[str, float]) -> Tried:
    """One gradient of every run, beside the same gradient in float64 on the CPU."""
    x = program.images[None, :20].expand(len(program.seeds), -1, -1).round().contiguous()
    before = program.streams["noise"].get_state()
    with matmul_precision(program.precision):
        found = program.gradients(x)
    program.streams["noise"].set_state(before)
    eps = program.streams["noise"].normal((program.T, 20, program.model.shape.latent))
    expected = _exact_gradients(program, x, eps)
    ours = torch.cat([found.encoder, found.decoder], 1).double().cpu()
    error = float(((ours - expected).norm(dim=1) / expected.norm(dim=1)).max())
    return what, f"{error:.1e}", error < most[program.precision]


def _exact_gradients(program: Program, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """[run, parameters] in float64."""
    model = Autoencoder(program.model.shape, program.seeds).double()
    for run in range(len(program.seeds)):
        model.load_run_state(run, program.model.run_state(run))
    forward = model.forward_with_layers(x.double().cpu(), eps.double().cpu())
    fixed = program.fixed_beta.double().cpu()
    of_all = cotangents_of(bundles_of(program.experiments))
    counts = of_all(forward.log_w, torch.zeros_like(fixed), program.learns.cpu(), fixed)
    return torch.cat(model.pull_back(forward, counts.theta, counts.phi), 1)


def _steps_against_eager(program: Program, dataset: Dataset) -> Tried:
    """Losses of an epoch beside those of the eager engine in float32, from the same start."""
    eager = make(_runs(program.device.type), dataset, program.device)
    other = make(program.experiments, dataset, program.device, program.engine.name)
    for each in (eager, other):
        each.take_steps(STEPS)
    error = float(((other.losses - eager.losses).abs() / eager.losses.abs()).mean())
    return "50 steps against eager", f"{error:.1e}", error < LOSS_ERROR[program.precision]


def _going_on(program: Program, dataset: Dataset) -> Iterator[Tried]:
    """Three steps from a state that is set back, or copied to a new program, give the same bits."""
    saved = program.get_state()
    losses = _three_losses(program)
    other = make(program.experiments, dataset, program.device, program.engine.name)
    other.step()
    for what, each in (("set back and replayed", program), ("saved and resumed", other)):
        each.set_state(saved)
        same = torch.equal(losses, _three_losses(each))
        yield what, "bit for bit" if same else "other numbers", same


def _three_losses(program: Program) -> torch.Tensor:
    at = int(program.index)
    program.take_steps(3)
    return program.losses[at : at + 3].clone()


def _in_own_process(device: str, trial: tuple[str, str]) -> Iterator[Finding | Choice]:
    """Run ``findings_on_engine`` in a process of its own; a bad end is a finding, too."""
    command = [sys.executable, "-m", "repro.ops.machine", *trial, device]
    part = ", ".join(trial)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        yield Finding(part, "trial", f"not done after {TRIAL_SECONDS:.0f} s", ok=False)
        return
    for line in done.stdout.splitlines():
        fields = json.loads(line)
        yield Choice(**fields) if "milliseconds" in fields else Finding(**fields)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        yield Finding(part, "trial", f"failed: {said[-1][:200]}", ok=False)


def trials(device: str) -> list[tuple[str, str]]:
    """Pairs of an engine and a precision to try on a device.

    A CPU has no TensorFloat-32, and a graph adds nothing to an engine there.
    """
    named = [engines.ENGINES[name] for name in ENGINE_CHOICES if name != "auto"]
    found = [(engine.name, "float32") for engine in named]
    if device == "cpu":
        return [*found, ("compiled", "bf16")]
    rounded = [p for p in PRECISIONS if p != "float32"]
    return [*found, *product([e.name for e in named if e.compiles and e.graph], rounded)]


# The command as a user gives it


def findings_on_command(device: str) -> Iterator[Finding]:
    """Check that a training that is terminated goes on to a record when its command is repeated."""
    with tempfile.TemporaryDirectory() as folder:
        words = "train --profile smoke --method iwae --epochs 2 --engine eager"
        command = [sys.executable, "-m", "repro", *words.split(), "--device", device]
        command += ["--results", folder]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in first.stdout:
            if "should take about" in line:
                break
        time.sleep(1)
        first.send_signal(signal.SIGTERM)
        first.stdout.read()
        stopped = first.wait()
        yield Finding("command", "SIGTERM", f"exit status {stopped}", ok=stopped == 3)
        again = subprocess.run(command, capture_output=True, text=True)
        ok = again.returncode == 0 and len(Archive(folder).records("smoke")) == 1
        text = "a whole record" if ok else (again.stderr.strip() or again.stdout.strip())[-200:]
        yield Finding("command", "resumed", text, ok)


def tried(device: str, data: str | Path | None) -> Iterator[Finding | Choice]:
    """Run all checks on this machine, in order, and yield their outcomes."""
    yield from findings_on_machine(device)
    yield from findings_on_data(data)
    for trial in trials(device):
        yield from _in_own_process(device, trial)
    yield from findings_on_command(device)


def advice(choices: list[Choice]) -> list[str]:
    """Lines that recommend the fastest choice in float32, and the fastest at any precision.

    >>> advice([Choice("eager", "float32", 2.0), Choice("compiled", "bf16", 1.0)])[0]
    'use --engine eager --precision float32: 2.00 ms a step'
    """
    exact = [c for c in choices if c.precision == "float32"]
    if not exact:
        return ["no engine passed in float32"]
    lines = [f"use {_fastest(exact)}"]
    fastest = _fastest(choices)
    if fastest.precision != "float32":
        lines.append(f"or, faster, {fastest}")
    return lines


def _fastest(choices: list[Choice]) -> Choice:
    """The first, and so the simplest, of those that are within 5 % of the fastest."""
    least = min(c.milliseconds for c in choices)
    return next(c for c in choices if c.milliseconds <= 1.05 * least)


if __name__ == "__main__":
    for found in findings_on_engine(*sys.argv[1:]):
        print(json.dumps(asdict(found)), flush=True)
