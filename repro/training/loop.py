"""The one training loop: all runs advance together, stacked into one program where that is fast.

The state on disk is replaced whole. So a run that is killed at any moment goes on from its last
state and ends where it would have ended: bit for bit on the CPU, and elsewhere as far as the
compiler chooses the same kernels.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import json
import math
import os
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from repro import ReproError, first_line, signal
from repro.bounds import METHODS, Bound, Layout
from repro.datasets import Dataset
from repro.records.provenance import device_name
from repro.scores import iwae_bound
from repro.training.as_released import ReleasedProgram
from repro.training.engines import first_cause, leave_side_streams, with_fallbacks
from repro.training.program import Program, learning_rate, model_of
from repro.words.experiments import (
    MILESTONES,
    PROFILES,
    Experiment,
    told_apart,
    unbiased_estimators,
)

SAVE_EVERY = 60.0  # seconds between two states within an epoch
REPLICATES_IN_TRAINING = 20  # of a run's own gradients, at its milestones
CHECK_EVERY = 1.0  # seconds between two looks at the loss

# What a state on disk holds of a Fit, beside its programs.
KEPT = ("epoch", "step", "seconds", "curves", "pending", "commits", "engines", "devices")


@dataclass
class Fit:
    """What ``fit`` leaves: the trained runs with their curves, and how far training came.

    A curve has a line for each epoch with what of ``records.CURVE`` was measured.
    """

    experiments: list[Experiment]
    programs: list[Program]  # their runs, one after the other, are the experiments
    curves: list[list[dict]]  # one for each run
    seconds: float = 0.0
    epoch: int = 0
    step: int = 0
    pending: list[dict] = field(default_factory=list)  # lines of runs evaluated in this epoch
    commits: list[str] = field(default_factory=list)  # of the code that trained, first to last
    engines: list[str] = field(default_factory=list)  # that trained, first to last
    devices: list[str] = field(default_factory=list)  # that trained, first to last
    note: str = ""  # what is being done between two steps

    @classmethod
    def of(cls, programs: list[Program]) -> Fit:
        """The untrained runs of programs."""
        experiments = [e for program in programs for e in program.experiments]
        return cls(experiments, programs, curves=[[] for _ in experiments])

    def goes_on(self, commit: str, engine: str, device: str | torch.device) -> None:
        """Note what trains from here on."""
        _append_if_new(self.commits, commit)
        _append_if_new(self.engines, engine)
        _append_if_new(self.devices, device_name(device))

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
    kind = ReleasedProgram if experiments[0].protocol == "released" else Program
    return kind(experiments, dataset, *how)


def alone(experiments: Sequence[Experiment], device: str | torch.device) -> bool:
    """Whether each run is to be a program of its own."""
    return torch.device(device).type == "cpu" or experiments[0].protocol == "released"


def fit(  # noqa: PLR0913  (what to train, and every way to watch it)
    experiments: Sequence[Experiment],
    dataset: Dataset,
    state_file: str | Path | None = None,
    device: str | torch.device = "cpu",
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Fit], None] = lambda fit: None,
    stack: int | None = None,
    commit: str = "unknown",
    engine: str = "eager",
    milestones: tuple[str, ...] = ("log-px",),
    decoder: dict[str, Tensor] | None = None,
) -> Fit:
    """Train all ``experiments`` side by side.

    If ``state_file`` exists, training goes on from it; it is kept up to date. Training stops with
    its state saved if ``stop()`` is true, at a step or between two chunks of an evaluation.
    ``progress`` is called about once a second. ``stack`` runs make one program: all of them on an
    accelerator; one on the CPU, where a larger stack is no faster. ``commit`` names the code;
    ``engine`` is a name in ``engines.ENGINES``. ``milestones`` says what is also measured where
    stages of the learning rate end: "log-px", and "gradients", which are put into the curve's line
    under this name. ``decoder`` is the state of the one that the runs hold on to, if they train
    encoders alone. Raises ReproError, with epoch and step, if a loss is not finite; the last good
    state is then kept.
    """
    begun = time.monotonic()
    _check_together(experiments, milestones)
    state = _StateFile(state_file)
    stack = stack or (1 if alone(experiments, device) else len(experiments))
    count = len(experiments)
    sizes = state.sizes_if_finished(count) or [stack] * math.ceil(count / stack)
    left = iter(experiments)
    programs = [make(list(islice(left, size)), dataset, device, engine, decoder) for size in sizes]
    run = Fit.of(programs)
    state.load_into(run)
    if not run.finished:
        run.goes_on(commit, engine, device)
    _Loop(run, dataset, state, stop, progress, milestones, begun).go_on()
    return run


def _check_together(experiments: Sequence[Experiment], milestones: tuple[str, ...]) -> None:
    """Raise if the runs cannot be trained together, or not with what is to be measured."""
    if len({e.shared for e in experiments}) != 1:
        raise ReproError(
            "runs trained together must share dataset, model, M*K, epochs, profile, init, "
            "batch size, protocol, precision and decoder"
        )
    if "gradients" in milestones and experiments[0].protocol == "released":
        raise ReproError(
            "gradients are measured of the paper's bounds, which the released code does not train; "
            "leave out the protocol or the gradients"
        )


def _append_if_new(names: list[str], name: str) -> None:
    if names[-1:] != [name]:
        names.append(name)


class _Halt(Exception):  # noqa: N818
    """Training is to stop here, with its state saved."""


class _Loop:
    """Advances a Fit to its end, saving and reporting at intervals."""

    def __init__(
        self, run: Fit, dataset: Dataset, state: _StateFile, stop, progress, milestones, begun
    ):
        self.run = run
        self.dataset = dataset
        self.state = state
        self.stop = stop
        self.progress = progress
        self.milestones = milestones
        self.seconds_before = run.seconds
        self.begun = self.saved = self.looked = begun

    def go_on(self) -> None:
        """Train until the last epoch's end, or until ``stop`` says so."""
        run = self.run
        try:
            while not run.finished:
                self._steps_of_epoch()
                self._check_finite()
                self._end_epoch()
                self._save(now=run.finished)
                self.progress(run)
        except _Halt:
            self._save()

    def _steps_of_epoch(self) -> None:
        run = self.run
        while run.step < run.steps_per_epoch:
            left = run.steps_per_epoch - run.step
            for program in run.programs:
                taken = program.advance(left)
            run.step += taken
            if time.monotonic() - self.looked > CHECK_EVERY:
                self._check_finite()
                self.progress(run)
                self.looked = time.monotonic()
            self._save(now=False)
            if self.stop():
                raise _Halt

    def _not_evaluated(self) -> list[Program]:
        """The programs whose runs have no lines of this epoch yet."""
        found = []
        first = 0  # the program's first run
        for program in self.run.programs:
            if first >= len(self.run.pending):
                found.append(program)
            first += len(program.experiments)
        return found

    def _end_epoch(self) -> None:
        """Evaluate each program, add a line to every curve, and draw the next epoch's order.

        At a milestone more is measured, log p-hat before the last epoch alone. That is long, so
        what is done is saved in between.
        """
        run = self.run
        wanted = self.milestones if run.epoch + 1 in MILESTONES else ()
        samples = {"iwae_64": 64}
        last = run.epoch + 1 == run.experiments[0].epochs
        is_long = "log-px" in wanted and not last
        if is_long:
            samples["log_px"] = PROFILES[run.experiments[0].profile].log_px_samples
        self._save(now=is_long)
        for program in self._not_evaluated():
            lines = measure_epoch(program, run.epoch, self.dataset, samples, self._tell(program))
            if "gradients" in wanted:
                _add_gradients(lines, program, self.dataset)
            run.pending += lines
            self._save(now=is_long)
        for curve, line in zip(run.curves, run.pending, strict=True):
            curve.append(line)
        run.epoch += 1
        run.step = 0
        run.pending = []
        run.note = ""
        for program in run.programs:
            program.start_epoch(run.epoch)

    def _tell(self, program: Program) -> Callable[[float], None]:
        """A function that reports a fraction of a program's evaluation, and stops it if asked."""
        called = told_apart(self.run.experiments)
        names = ", ".join(called[e] for e in program.experiments)

        def tell(done: float) -> None:
            self.run.note = f"evaluating {names}: {done:.0%}"
            self.progress(self.run)
            if self.stop():
                raise _Halt

        return tell

    def _save(self, now: bool = True) -> None:
        self.run.seconds = self.seconds_before + time.monotonic() - self.begun
        if now or time.monotonic() - self.saved > SAVE_EVERY:
            self._check_finite()
            self.state.save(self.run)
            self.saved = time.monotonic()

    def _check_finite(self) -> None:
        """Raise if a loss of this epoch or a weight is not finite."""
        run = self.run
        advice = f"{self.state.what_is_kept}: try another seed, init or bound"
        bad = (~run.losses.isfinite()).nonzero()
        if len(bad):
            step, which = bad[0].tolist()
            raise ReproError(
                f"the loss of {run.experiments[which].name} is {run.losses[step, which].item()} "
                f"at epoch {run.epoch + 1}, step {step + 1}; {advice}"
            )
        for program in run.programs:
            tensors = (*program.parameters, program.beta_parameter)
            if not all(p.isfinite().all() for p in tensors):
                names = ", ".join(e.name for e in program.experiments)
                raise ReproError(
                    f"a weight of {names} is not finite after epoch {run.epoch + 1}, "
                    f"step {run.step}; {advice}"
                )


def measure_epoch(
    program: Program,
    epoch: int,
    dataset: Dataset,
    samples: dict[str, int],
    tell: Callable[[float], None],
) -> list[dict]:
    """A line for the curve of each run; ``samples`` is how many each of its metrics takes."""
    losses = program.losses.double().mean(0).tolist()
    betas = program.beta.tolist()
    rate = learning_rate(epoch)
    lines = [{"epoch": epoch + 1, "learning_rate": rate, "loss": loss} for loss in losses]
    for name, K in samples.items():
        purpose = f"epoch {epoch}"
        values = iwae_bound(program.model, dataset.test, program.seeds, purpose, K, tell)
        means = values.mean(1).tolist()
        errors = (values.std(1) / values.shape[1] ** 0.5).tolist()
        for line, mean, error in zip(lines, means, errors, strict=True):
            line |= {name: mean, f"{name}_se": error}
    for line, e, beta in zip(lines, program.experiments, betas, strict=True):
        line["beta"] = None if e.beta is None else beta
    return lines


def _add_gradients(lines: list[dict], program: Program, dataset: Dataset) -> None:
    """Add to each run's line the rows of ``snr`` for its own bound, in its model as it is now."""
    betas = program.beta.tolist()
    images = dataset.train.to(program.device)
    for run, (line, e) in enumerate(zip(lines, program.experiments, strict=True)):
        model = model_of(e, program.model.run_state(run)).to(program.device)
        rows = signal.in_network(
            f"epoch {line['epoch']}",
            model,
            images,
            layouts=(Layout(e.method, e.M, e.K),),
            estimators=unbiased_estimators(e.method),
            replicates=REPLICATES_IN_TRAINING,
            beta=betas[run],
        )
        line["gradients"] = list(rows)


def fingerprint(experiments: Sequence[Experiment]) -> str:
    """A short name for a list of runs."""
    content = json.dumps([e.as_dict() for e in experiments])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class _StateFile:
    """A Fit's state on disk. Without a path, it saves and loads nothing."""

    def __init__(self, path: str | Path | None):
        self.path = None if path is None else Path(path)

    @property
    def what_is_kept(self) -> str:
        """What remains after training has failed."""
        if self.path is not None and self.path.exists():
            return "the last good state is kept"
        return "nothing had been saved yet"

    def save(self, run: Fit) -> None:
        """Write the state under another name and rename it when it is whole."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: getattr(run, name) for name in KEPT}
        state["programs"] = [p.get_state() for p in run.programs]
        state["experiments"] = [e.as_dict() for e in run.experiments]
        state["layout"] = _stacking(run)
        state["bounds"] = _sources_of_bounds(run.experiments)
        partial = self.path.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch makes the second of a full disk
            partial.unlink(missing_ok=True)
            raise ReproError(
                f"{partial} could not be written ({first_line(error)}); {self.what_is_kept}; "
                "is the disk full?"
            ) from None
        os.replace(partial, self.path)

    def sizes_if_finished(self, count: int) -> list[int] | None:
        """The sizes of the stacks of ``count`` runs, if only their evaluation is left.

        That can be done on any device.
        """
        if self.path is None or not self.path.exists():
            return None
        state = _load(self.path)
        with _readable(self.path):
            sizes = state["layout"][1]
            return sizes if _is_finished(state) and sum(sizes) == count else None

    def load_into(self, run: Fit) -> None:
        """Let a Fit go on from the state, if there is one of the same runs."""
        if self.path is None or not self.path.exists():
            return
        state = _load(self.path, run.programs[0].device)
        self._check_is_of(run, state)
        with _readable(self.path):
            for name in KEPT:
                setattr(run, name, state[name])
            for program, saved in zip(run.programs, state["programs"], strict=True):
                program.set_state(saved, streams=not _is_finished(state))

    def _check_is_of(self, run: Fit, state: dict) -> None:
        """Raise if the state is of other runs, another layout or other bounds."""
        if state["experiments"] != [e.as_dict() for e in run.experiments]:
            raise ReproError(
                f"{self.path} is the state of other runs; name another folder for the results"
            )
        if not _is_possible(state, run):
            raise ReproError(
                f"{self.path} is damaged (its epoch, step or curves cannot be); "
                "delete it to train from the start"
            )
        if state["layout"] != _stacking(run) and not _is_finished(state):
            device, stacks = state["layout"]
            raise ReproError(
                f"{self.path} was made on {device} in {len(stacks)} stacks; "
                "go on so, or delete it to train from the start"
            )
        for method, source in _sources_of_bounds(run.experiments).items():
            before = (state["bounds"] or {}).get(method, source)
            if _without_docstrings(before) != _without_docstrings(source):
                raise ReproError(
                    f"{self.path} was trained with another bound of '{method}'; "
                    "put that back, or delete it to train from the start"
                )


def _stacking(run: Fit) -> list:
    """The kind of device, and the number of runs in each stack."""
    return [run.programs[0].device.type, [len(p.experiments) for p in run.programs]]


def _is_possible(state: dict, run: Fit) -> bool:
    """Whether a state's epoch, step and curves can be those of a training."""
    epoch, step, curves = (state[name] for name in ("epoch", "step", "curves"))
    if type(epoch) is not int or type(step) is not int:
        return False
    whole = 0 <= epoch <= run.experiments[0].epochs and 0 <= step <= run.steps_per_epoch
    if not whole or not isinstance(curves, list) or len(curves) != len(run.experiments):
        return False
    expected = list(range(1, epoch + 1))
    return all(_epochs_of(curve) == expected for curve in curves)


def _epochs_of(curve: list[dict]) -> list:
    return [line.get("epoch") for line in curve]


def _is_finished(state: dict) -> bool:
    return state["epoch"] == state["experiments"][0]["epochs"]


def _load(path: str | Path, device: str | torch.device = "cpu") -> dict:
    names = (*KEPT, "programs", "experiments", "layout")
    with _readable(path):
        if damaged := zipfile.ZipFile(path).testzip():  # torch.load does not compare checksums
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=device, weights_only=True)
        return {name: state[name] for name in names} | {"bounds": state.get("bounds")}


@contextlib.contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn whatever goes wrong while a state is read into one line."""
    try:
        yield
    except Exception as error:
        raise ReproError(
            f"{path} cannot be read ({type(error).__name__}: {str(error)[:60]}); "
            "delete it to train from the start"
        ) from None


class Unfinished(NamedTuple):
    """A training whose state is kept: its runs, the epochs that are done, and the last engine."""

    experiments: list[Experiment]
    epochs: int
    engine: str


def unfinished(path: str | Path) -> Unfinished:
    """The training whose state is kept in ``path``."""
    state = _load(path)
    with _readable(path):
        runs = [Experiment(**fields) for fields in state["experiments"]]
        return Unfinished(runs, state["epoch"], state["engines"][-1])


def _sources_of_bounds(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Each method's bounds as they are written now."""
    pairs = {e.method: METHODS[e.method] for e in experiments}
    return {name: _source(pair.theta) + _source(pair.phi) for name, pair in pairs.items()}


def _source(bound: Bound) -> str:
    try:
        return inspect.getsource(bound)
    except (OSError, TypeError):  # it was not read from a file
        return getattr(bound, "__qualname__", "")


def _without_docstrings(source: str) -> str:
    """What a piece of code does, however it is described; itself if it cannot be parsed."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.dump(tree)


class Trial(NamedTuple):
    """An engine that works, and the seconds that it takes for a step of all runs.

    ``why`` it is not the one asked for, and a ``remark`` on what of it is not available.
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
    """Try ``engine``, and after it the simpler ones, on runs that are thrown away.

    Without ``fallback``, an engine that is not available raises ReproError.
    """
    why = ""
    each_alone = alone(experiments, device)
    for candidate in with_fallbacks(engine):
        try:
            runs = experiments[:1] if each_alone else experiments
            program = make(runs, dataset, device, candidate.name)
            seconds = _seconds_of_step(program)
        except Exception as error:
            if candidate.name == "eager":
                raise
            why = f"the {engine} engine is not available here ({first_cause(error)})"
            if not fallback:
                raise ReproError(why.splitlines()[0]) from None
            leave_side_streams(torch.device(device))
        else:
            seconds *= len(experiments) / len(runs)
            return Trial(candidate.name, seconds, why, program.remark)
    raise AssertionError("the eager engine returns or raises")


def _seconds_of_step(program: Program) -> float:
    """The median of five steps, after one to warm up."""
    durations = []
    for _ in range(6):
        begun = time.monotonic()
        program.index.zero_()  # a small dataset may have no six batches
        program.step()
        program.losses[0].tolist()  # waits for the device
        durations.append(time.monotonic() - begun)
    return sorted(durations[1:])[2]
