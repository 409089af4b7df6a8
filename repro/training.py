"""The one training loop: all runs advance together, stacked into one program where that is fast.

The state on disk is replaced whole, so a run killed at any moment goes on from its
last state and ends where it would have ended: bit for bit on the CPU, and elsewhere
as far as the compiler chooses the same kernels.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from repro import ReproError, one_of
from repro.bounds import METHODS, Bound
from repro.data import Dataset
from repro.evaluation import iwae_bound
from repro.experiments import MILESTONES, PROFILES, Experiment, told_apart
from repro.program import ENGINES, Program, learning_rate
from repro.released import Released

SAVE_EVERY = 60.0  # seconds between two states within an epoch
CHECK_EVERY = 1.0  # seconds between two looks at the loss


@dataclass
class Fit:
    """What ``fit`` leaves: the trained runs with their curves, and how far training came."""

    experiments: list[Experiment]
    programs: list[Program]  # their runs, one after the other, are the experiments
    curves: list[list[dict]]  # for each run, a line for each epoch: what of records.CURVE was measured
    seconds: float = 0.0
    epoch: int = 0
    step: int = 0
    pending: list[dict] = field(default_factory=list)  # lines of the runs whose evaluation at this epoch's end is done
    commits: list[str] = field(default_factory=list)  # of the code that trained, in turn
    engines: list[str] = field(default_factory=list)  # that trained, in turn
    note: str = ""  # what is being done between two steps

    @property
    def finished(self) -> bool:
        """True after the last epoch."""
        return self.epoch == self.experiments[0].epochs

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, the same for every program."""
        return self.programs[0].steps_per_epoch

    @property
    def losses(self) -> Tensor:
        """Training loss of each step of this epoch and each run, [step, run]."""
        return torch.cat([p.losses[: self.step] for p in self.programs], 1)


def make(experiments: Sequence[Experiment], dataset: Dataset, *how) -> Program:
    """The program that trains these runs."""
    return (Released if experiments[0].protocol == "released" else Program)(experiments, dataset, *how)


def alone(experiments: Sequence[Experiment], device: str | torch.device) -> bool:
    """Whether each run is to be a program of its own."""
    return torch.device(device).type == "cpu" or experiments[0].protocol == "released"


def fit(
    experiments: Sequence[Experiment],
    dataset: Dataset,
    state_file: str | Path | None = None,
    device: str | torch.device = "cpu",
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Fit], None] = lambda fit: None,
    stack: int | None = None,
    commit: str = "unknown",
    engine: str = "eager",
    milestones: bool = True,
) -> Fit:
    """Train all ``experiments`` side by side; go on from ``state_file`` where it exists and keep it up to date.

    Stops with its state saved when ``stop()`` is true: at a step, or between two chunks of an evaluation. ``progress`` is
    called about once a second. ``stack`` runs make one program: all of them on an accelerator; one on the CPU, where a
    larger stack is no faster. ``commit`` names the code; ``engine`` is one of program.ENGINES. log p-hat is measured at the
    ``milestones`` before the end where they are wanted. Raises ReproError, with epoch and step, where a loss is not finite; the
    last good state is then kept.
    """
    begun, size = time.monotonic(), stack or (1 if alone(experiments, device) else len(experiments))
    if len({e.shared for e in experiments}) != 1:
        raise ReproError("runs trained together must share dataset, model, M*K, epochs, profile, init, batch size, protocol and precision")
    stacks = [experiments[i : i + size] for i in range(0, len(experiments), size)]
    run = Fit(list(experiments), [make(s, dataset, device, engine) for s in stacks], [[] for _ in experiments])
    _resume(run, state_file)
    for names, name in ((run.commits, commit), (run.engines, engine)):
        names += [] if names[-1:] == [name] or run.finished else [name]
    before, saved, looked = run.seconds, begun, begun

    def save(now: bool = True) -> None:
        nonlocal saved
        run.seconds = before + time.monotonic() - begun
        if now or time.monotonic() - saved > SAVE_EVERY:
            _check_finite(run, state_file)
            _save(run, state_file)
            saved = time.monotonic()

    try:
        while not run.finished:
            while run.step < run.steps_per_epoch:
                for program in run.programs:
                    program.step()
                run.step += 1
                if time.monotonic() - looked > CHECK_EVERY:
                    _check_finite(run, state_file)
                    progress(run)
                    looked = time.monotonic()
                save(now=False)
                if stop():
                    raise _Halt
            _check_finite(run, state_file)
            _end_epoch(run, dataset, save, stop, progress, milestones and run.epoch + 1 in MILESTONES)
            save(now=run.finished)
            progress(run)
    except _Halt:
        save()
    return run


class _Halt(Exception):  # noqa: N818
    """Training is to stop here, with its state saved."""


def _end_epoch(run: Fit, dataset: Dataset, save, stop, progress, milestone: bool) -> None:
    """Evaluate each program, add a line to every curve, and draw the next epoch's order.

    At a milestone before the last epoch log p-hat is measured too. That is long, so what is done is saved in between.
    """
    first, skip = run.experiments[0], len(run.pending)
    milestone = milestone and run.epoch + 1 < first.epochs
    samples, called = {"iwae_64": 64}, told_apart(run.experiments)
    samples |= {"log_px": PROFILES[first.profile].log_px_samples} if milestone else {}
    save(now=milestone)
    for program in run.programs:
        if skip > 0:
            skip -= len(program.experiments)
            continue

        def tell(done: float, of: str = ", ".join(called[e] for e in program.experiments)) -> None:
            run.note = f"evaluating {of}: {done:.0%}"
            progress(run)
            if stop():
                raise _Halt

        run.pending += _measure(program, run.epoch, dataset, samples, tell)
        save(now=milestone)
    for curve, line in zip(run.curves, run.pending, strict=True):
        curve.append(line)
    run.epoch, run.step, run.pending, run.note = run.epoch + 1, 0, [], ""
    for program in run.programs:
        program.start_epoch(run.epoch)


def _measure(program: Program, epoch: int, dataset: Dataset, samples: dict[str, int], tell: Callable[[float], None]) -> list[dict]:
    """A line for the curve of each of the program's runs."""
    loss, beta = program.losses.double().mean(0).tolist(), program.beta.tolist()
    lines = [{"epoch": epoch + 1, "learning_rate": learning_rate(epoch), "loss": value} for value in loss]
    seeds = [e.seed for e in program.experiments]
    for name, K in samples.items():
        values = iwae_bound(program.model, dataset.test, seeds, f"epoch {epoch}", K, tell)
        for line, mean, sd in zip(lines, values.mean(1).tolist(), values.std(1).tolist(), strict=True):
            line |= {name: mean, f"{name}_se": sd / values.shape[1] ** 0.5}
    for line, e, value in zip(lines, program.experiments, beta, strict=True):
        line["beta"] = value if e.beta is not None else None
    return lines


def _check_finite(run: Fit, state_file: str | Path | None) -> None:
    """Raise where a loss of this epoch or a weight is not finite."""
    kept = "the last good state is kept" if state_file and Path(state_file).exists() else "nothing had been saved yet"
    bad = (~run.losses.isfinite()).nonzero()
    if len(bad):
        step, which = bad[0].tolist()
        loss = f"the loss of {run.experiments[which].name} is {run.losses[step, which].item()}"
        raise ReproError(f"{loss} at epoch {run.epoch + 1}, step {step + 1}; {kept}: try another seed, init or bound")
    for program in run.programs:
        if not all(p.isfinite().all() for p in (*program.parameters, program.beta_logit)):
            names = ", ".join(e.name for e in program.experiments)
            raise ReproError(
                f"a weight of {names} is not finite after epoch {run.epoch + 1}, step {run.step}; {kept}: try another seed, init or bound"
            )


def fingerprint(experiments: Sequence[Experiment]) -> str:
    """A short name for a list of runs."""
    return hashlib.sha256(json.dumps([e.as_dict() for e in experiments]).encode()).hexdigest()[:16]


KEPT = ("epoch", "step", "seconds", "curves", "pending", "commits", "engines")  # what the state holds of a Fit, beside its programs


def _save(run: Fit, path: str | Path | None) -> None:
    if path is None:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: getattr(run, name) for name in KEPT} | {"programs": [p.get_state() for p in run.programs]}
    state |= {"experiments": [e.as_dict() for e in run.experiments], "layout": _layout(run), "bounds": _bounds(run.experiments)}
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # what torch makes of a full disk
        raise ReproError(f"{partial} could not be written ({str(error).splitlines()[0]}); is the disk full? The last state is kept") from None
    os.replace(partial, path)


def _layout(run: Fit) -> list:
    return [run.programs[0].device.type, [len(p.experiments) for p in run.programs]]


def _load(path: str | Path, device: str | torch.device = "cpu") -> dict:
    with _readable(path):
        if damaged := zipfile.ZipFile(path).testzip():  # torch.load does not compare checksums
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=device, weights_only=True)
        return {name: state[name] for name in (*KEPT, "programs", "experiments", "layout")} | {"bounds": state.get("bounds")}


@contextlib.contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong while a state is read is one line."""
    try:
        yield
    except Exception as error:
        raise ReproError(f"{path} cannot be read ({type(error).__name__}: {str(error)[:60]}); delete it to train from the start") from None


def unfinished(path: str | Path) -> tuple[list[Experiment], int, str]:
    """The runs whose unfinished training is kept in ``path``, how many epochs of it are done, and by which engine."""
    state = _load(path)
    with _readable(path):
        return [Experiment(**fields) for fields in state["experiments"]], state["epoch"], state["engines"][-1]


def _bounds(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Each method's bounds as they are written now."""

    def source(bound: Bound) -> str:
        try:
            return inspect.getsource(bound)
        except (OSError, TypeError):  # it was not read from a file
            return getattr(bound, "__qualname__", "")

    return {e.method: source(METHODS[e.method].theta) + source(METHODS[e.method].phi) for e in experiments}


def _resume(run: Fit, path: str | Path | None) -> None:
    if path is None or not Path(path).exists():
        return
    state = _load(path, run.programs[0].device)
    if state["experiments"] != [e.as_dict() for e in run.experiments]:
        raise ReproError(f"{path} is the state of other runs; name another folder for the results")
    if state["layout"] != _layout(run):
        device, stacks = state["layout"]
        raise ReproError(f"{path} was made on {device} in {len(stacks)} stacks; go on so, or delete it to train from the start")
    for method, bounds in _bounds(run.experiments).items():
        if state["bounds"] and state["bounds"].get(method) != bounds:
            raise ReproError(f"{path} was trained with another bound of '{method}'; put that back, or delete it to train from the start")
    with _readable(path):
        for name in KEPT:
            setattr(run, name, state[name])
        for program, saved in zip(run.programs, state["programs"], strict=True):
            program.set_state(saved)


def try_engines(
    experiments: Sequence[Experiment], dataset: Dataset, device: str | torch.device = "cpu", engine: str = "eager"
) -> tuple[str, float, str]:
    """``engine``, or the next simpler one that works here; the seconds that a step of all runs takes; and why, if not ``engine``.

    Measured on runs that are thrown away.
    """
    why, each = "", alone(experiments, device)
    for name in reversed(ENGINES[: ENGINES.index(one_of("engine", engine, ENGINES)) + 1]):
        try:
            program, durations = make(experiments[:1] if each else experiments, dataset, device, name), []
            for i in range(6):
                begun = time.monotonic()
                program.step()
                program.losses[i].tolist()  # waits for the device
                durations.append(time.monotonic() - begun)
            return name, sorted(durations[1:])[2] * (len(experiments) if each else 1), why
        except Exception as error:
            if name == "eager":
                raise
            while error.__context__:  # what went wrong first
                error = error.__context__
            said = (str(error).strip().splitlines() or [""])[0][:100]
            why = f"{engine} engine not to be had here ({type(error).__name__}{f': {said}' * bool(said)})"
    raise AssertionError
