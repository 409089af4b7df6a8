"""The training loop: all runs advance together, stacked into one program where that is fast.

The state on disk is replaced whole. So a training that is killed at any moment goes on from its
last state to the same end: bit for bit on the CPU, and elsewhere as far as the compiler chooses the
same kernels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from repro import ReproError, own, signal
from repro.bounds import Layout
from repro.datasets import Dataset
from repro.records.archive import CURVE, write_csv
from repro.records.provenance import device_name
from repro.scores import iwae_bound, some_of
from repro.training import states
from repro.training.as_released import ProgramAsReleased
from repro.training.engines import ENGINES
from repro.training.fused_program import FusedProgram
from repro.training.networks import model_of
from repro.training.own_program import OwnProgram
from repro.training.program import Program, learning_rate, matmul_precision
from repro.words.experiments import (
    IMAGES_AT_MILESTONES,
    MILESTONES,
    PROFILES,
    Experiment,
    is_evaluated,
    told_apart,
    unbiased_estimators,
)

SAVE_EVERY = 60.0  # seconds between two states within an epoch
REPLICATES_IN_TRAINING = 20  # of a run's own gradients, at its milestones
CHECK_EVERY = 1.0  # seconds between two looks at the loss


@dataclass
class Fit:
    """A training of several runs: its programs, each run's learning curve, and its progress.

    A curve has a line for each epoch, with those columns of ``records.CURVE`` that were measured.
    """

    programs: list[Program]
    curves: list[list[dict]]  # one for each run
    seconds: float = 0.0
    epoch: int = 0
    step: int = 0
    commits: list[str] = field(default_factory=list)  # of the code that trained, first to last
    engines: list[str] = field(default_factory=list)  # that trained, first to last
    devices: list[str] = field(default_factory=list)  # that trained, first to last
    hashes: dict[str, str] = field(default_factory=dict)  # of each method's bounds, as they began
    note: str = ""  # on the evaluation in progress, if any

    @property
    def experiments(self) -> list[Experiment]:
        """The experiments of all programs, in the order of ``curves``."""
        return [e for program in self.programs for e in program.experiments]

    def goes_on(self, commit: str, engine: str, device: str) -> None:
        """Record the commit, engine and device that train from here on, if they have changed."""
        now = (self.commits, commit), (self.engines, engine), (self.devices, device)
        for names, name in now:
            if names[-1:] != [name]:
                names.append(name)

    @property
    def finished(self) -> bool:
        """True after the last epoch."""
        return self.epoch == self.programs[0].experiments[0].epochs

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, the same for every program."""
        return self.programs[0].steps_per_epoch

    @property
    def losses(self) -> Tensor:
        """Training losses of this epoch's steps so far, [step, run]."""
        return torch.cat([p.losses[: self.step] for p in self.programs], 1)


def make(experiments: Sequence[Experiment], dataset: Dataset, device="cpu", engine="eager", *how):
    """Make the program that trains ``experiments`` side by side; ``how`` is as of ``Program``."""
    first = experiments[0]
    kind = FusedProgram if ENGINES[engine].fuses else Program
    if first.protocol == "released":
        kind = ProgramAsReleased
    if own.is_own(first.model):
        kind = OwnProgram
    return kind(experiments, dataset, device, engine, *how)


def alone(experiments: Sequence[Experiment], device: str | torch.device) -> bool:
    """True if each of ``experiments`` needs a program of its own, as on the CPU."""
    first = experiments[0]
    needs_it = first.protocol == "released" or own.is_own(first.model)
    return needs_it or torch.device(device).type == "cpu"


def fit(  # noqa: PLR0913  (what to train, and every way to watch it)
    experiments: Sequence[Experiment],
    dataset: Dataset,
    state_file: str | Path | None = None,
    device: str | torch.device = "cpu",
    stop: Callable[[], bool] = lambda: False,
    late: Callable[[], bool] = lambda: False,
    progress: Callable[[Fit], None] = lambda fit: None,
    commit: str = "unknown",
    engine: str = "eager",
    milestones: tuple[str, ...] = ("log-px",),
    decoder: dict[str, Tensor] | None = None,
    kept: states.Unfinished | None = None,
    on_epoch: Callable[[dict], object] = lambda line: None,
) -> Fit:
    """Train all ``experiments`` side by side.

    All of them make one program on an accelerator; on the CPU, where a stack is no faster, each is
    its own. Training goes on from the ``kept`` state, else from the one in ``state_file`` if that
    exists; the file is kept up to date. Training stops with its state saved if ``stop()`` is true,
    at a step or between two chunks of an evaluation; if ``late()`` is, it first finishes an
    evaluation with which it began, so that a short limit gets on, too. ``progress`` is called about
    once a second. ``commit`` names the code; ``engine`` is a name in ``engines.ENGINES``.
    ``milestones`` names what is measured at the end of each stage of the learning rate: "log-px",
    and "gradients", whose signal and noise go into the curve's line under this name. ``decoder``
    holds the fixed decoder's parameters if encoders alone are trained. ``on_epoch`` gets a
    dictionary of each run's epoch, and a file beside the state its line. Raises ReproError, with
    epoch and step, if a loss is not finite; the last good state is then kept.
    """
    begun = time.monotonic()
    _check_together(experiments, milestones)
    path = None if state_file is None else Path(state_file)
    sizes = [1] * len(experiments) if alone(experiments, device) else [len(experiments)]
    kept = kept or states.unfinished(path, experiments[0].epochs)
    if kept:
        kept.check_is_of(experiments, device)
        experiments, sizes = kept.experiments, kept.sizes
    fitted = _beginning(kept, experiments, sizes, dataset, device, engine, decoder)
    if not fitted.finished:
        fitted.goes_on(commit, engine, device_name(device))
    how = (stop, late, progress, on_epoch, milestones, begun - fitted.seconds)
    _Loop(fitted, dataset, path, *how).go_on()
    return fitted


def _beginning(
    kept: states.Unfinished | None, experiments: Sequence[Experiment], sizes: Sequence[int], *how
) -> Fit:
    """A Fit before its first step, or as it was kept, of programs that train so many runs each."""
    left = iter(experiments)
    programs = [make(list(islice(left, size)), *how) for size in sizes]
    hashes = states.hashes_of_bounds(experiments)
    fitted = Fit(programs, curves=[[] for _ in experiments], hashes=hashes)
    if kept:
        kept.load_into(fitted)
    return fitted


def _check_together(experiments: Sequence[Experiment], milestones: tuple[str, ...]) -> None:
    """Raise if the runs cannot be trained together, or with these measurements."""
    if len({e.shared for e in experiments}) != 1:
        raise ReproError(
            "runs trained together must share dataset, model, M*K, epochs, profile, init, "
            "batch size, protocol, precision and decoder"
        )
    if "gradients" not in milestones:
        return
    if experiments[0].protocol == "released":
        raise ReproError(
            "gradients are measured of the paper's bounds, which the released code does not train; "
            "leave out the protocol or the gradients"
        )
    if own.is_own(experiments[0].model) or any(e.alpha is not None for e in experiments):
        raise ReproError(
            "gradients are measured in the project's networks and without an alpha; leave them out "
            "of the milestones, and see repro.snr"
        )


class Halt(Exception):  # noqa: N818
    """Training, or an evaluation, is to stop here; a training's state is saved."""


@dataclass
class _Loop:
    """The loop of a Fit, which saves and reports at intervals."""

    fit: Fit
    dataset: Dataset
    state_file: Path | None
    stop: Callable[[], bool]
    late: Callable[[], bool]
    progress: Callable[[Fit], None]
    on_epoch: Callable[[dict], object]
    milestones: tuple[str, ...]
    begun: float  # as if training had never been interrupted
    got_on: bool = False  # a step or an evaluation was done
    saved: float = field(default_factory=time.monotonic)  # when its state was
    looked: float = field(default_factory=time.monotonic)  # when its losses were looked at

    def go_on(self) -> None:
        """Train until the last epoch's end, or until ``stop`` says so."""
        fit = self.fit
        try:
            self._measure_milestone()
            self._write_curves("w")
            while not fit.finished:
                self._steps_of_epoch()
                self._check_finite()
                self._end_epoch()
                self.progress(fit)
                self._measure_milestone()
                self._write_curves("w" if fit.epoch in MILESTONES else "a")
                self._save(now=fit.finished)
        except Halt:
            self._save()

    def _steps_of_epoch(self) -> None:
        fit = self.fit
        while fit.step < fit.steps_per_epoch:
            left = fit.steps_per_epoch - fit.step
            for program in fit.programs:
                taken = self._advance(program, left)
            fit.step += taken
            if time.monotonic() - self.looked > CHECK_EVERY:
                self._check_finite()
                self.progress(fit)
                self.looked = time.monotonic()
            self._save(now=False)
            self.got_on = True
            if self.stop() or self.late():
                raise Halt

    def _advance(self, program: Program, most: int) -> int:
        """``Program.advance``; an error of somebody's own model gets its place in training."""
        try:
            return program.advance(most)
        except ReproError as error:
            place = f"epoch {self.fit.epoch + 1}, step {self.fit.step + 1}"
            kept = states.what_is_kept(self.state_file)
            raise ReproError(f"{error} ({place}; {kept})") from None

    def _end_epoch(self) -> None:
        """Add a line to every curve, and draw the next epoch's order."""
        fit = self.fit
        self._save(now=False)
        lines = []
        for program in fit.programs:
            lines += measure_epoch(program, fit.epoch, self.dataset, self._tell(program))
        for e, line in zip(fit.experiments, lines, strict=True):
            if not math.isfinite(line.get("iwae_64", 0.0)):
                raise ReproError(
                    f"IWAE-64 of {e.name} is {line['iwae_64']} after epoch {fit.epoch + 1}; "
                    f"{self._advice}"
                )
        for e, curve, line in zip(fit.experiments, fit.curves, lines, strict=True):
            curve.append(line)
            self.on_epoch({"run": e.folder} | {k: v for k, v in line.items() if v is not None})
        fit.epoch += 1
        fit.step = 0
        fit.note = ""
        for program in fit.programs:
            program.start_epoch(fit.epoch)

    def _measure_milestone(self) -> None:
        """Take the measurements that are missing where a stage of the learning rate has ended.

        Log p-hat after the last epoch is the record's, until training goes on from there. The state
        is saved in between.
        """
        fit = self.fit
        last_lines = (curve[-1] for curve in fit.curves)
        for program in fit.programs if fit.epoch in MILESTONES else ():
            lines = list(islice(last_lines, len(program.experiments)))
            lacking = [name for name in self.milestones if name.replace("-", "_") not in lines[0]]
            if fit.finished and "log-px" in lacking:
                lacking.remove("log-px")
            if lacking:
                self._save()
            if "log-px" in lacking:
                _add_log_px(lines, program, self.dataset, self._tell(program))
                self.got_on = True
                self._save()
            if "gradients" in lacking:
                _add_gradients(lines, program, self.dataset)
                self._save()
        fit.note = ""

    def _write_curves(self, mode: str) -> None:
        """Write every curve to the file beside the state, or with mode "a" add the last epoch."""
        first = self.fit.epoch - 1 if mode == "a" else 0
        lines = []
        for e, curve in zip(self.fit.experiments, self.fit.curves, strict=True):
            lines += [{"run": e.folder} | line for line in curve[first:]]
        if self.state_file:
            self.state_file.parent.mkdir(parents=True, exist_ok=True)
            write_csv(self.state_file.with_suffix(".csv"), ("run", *CURVE), lines, mode)

    def _tell(self, program: Program) -> Callable[[float], None]:
        """A function that reports the progress of an evaluation, and stops it if asked."""
        called = told_apart(self.fit.experiments)
        names = ", ".join(called[e] for e in program.experiments)

        def tell(done: float) -> None:
            self.fit.note = f"evaluating {names}: {done:.0%}"
            self.progress(self.fit)
            if self.stop() or (self.got_on and self.late()):
                raise Halt

        return tell

    def _save(self, now: bool = True) -> None:
        self.fit.seconds = time.monotonic() - self.begun
        if now or time.monotonic() - self.saved > SAVE_EVERY:
            self._check_finite()
            if self.state_file:
                states.save_state(self.fit, self.state_file)
            self.saved = time.monotonic()

    @property
    def _advice(self) -> str:
        kept = states.what_is_kept(self.state_file)
        return f"{kept}: try another learning rate, seed, init or bound"

    def _check_finite(self) -> None:
        """Raise if a loss of this epoch or a weight is not finite."""
        fit = self.fit
        bad = (~fit.losses.isfinite()).nonzero()
        if len(bad):
            step, which = bad[0].tolist()
            raise ReproError(
                f"the loss of {fit.experiments[which].name} is {fit.losses[step, which].item()} "
                f"at epoch {fit.epoch + 1}, step {step + 1}; {self._advice}"
            )
        for program in fit.programs:
            tensors = (*program.parameters, program.beta_parameter)
            if not all(p.isfinite().all() for p in tensors):
                names = ", ".join(e.name for e in program.experiments)
                raise ReproError(
                    f"a weight of {names} is not finite after epoch {fit.epoch + 1}, "
                    f"step {fit.step}; {self._advice}"
                )


def measure_epoch(
    program: Program, epoch: int, dataset: Dataset, tell: Callable[[float], None]
) -> list[dict]:
    """Measure the line of this epoch, counted from 0, for the learning curve of each run."""
    first = program.experiments[0]
    rate = learning_rate(epoch, first.learning_rate, first.schedule)
    of_epoch = {"epoch": epoch + 1, "learning_rate": rate}
    losses = program.losses.double().mean(0).tolist()
    lines = []
    for e, loss, beta in zip(program.experiments, losses, program.beta.tolist(), strict=True):
        lines.append(of_epoch | {"loss": loss, "beta": None if e.beta is None else beta})
    if is_evaluated(epoch + 1):
        _add_bound(lines, "iwae_64", 64, program, dataset.test, tell)
    return lines


def _add_log_px(
    lines: list[dict], program: Program, dataset: Dataset, tell: Callable[[float], None]
) -> None:
    """Add log p-hat to each run's line.

    Some images of a large test set are enough, and then IWAE-64 of the same images is added, too.
    """
    samples = PROFILES[program.experiments[0].profile].log_px_samples
    images = dataset.test
    if len(images) > IMAGES_AT_MILESTONES:
        images = some_of(images, IMAGES_AT_MILESTONES)
        _add_bound(lines, "iwae_64_same_images", 64, program, images, tell)
        for line in lines:
            line["log_px_images"] = len(images)
    _add_bound(lines, "log_px", samples, program, images, tell)


def _add_bound(
    lines: list[dict],
    name: str,
    K: int,
    program: Program,
    images: Tensor,
    tell: Callable[[float], None],
) -> None:
    """Add IWAE-K of test images and its standard error to each run's line."""
    purpose = f"epoch {lines[0]['epoch'] - 1}"
    with matmul_precision("float32"):
        values = iwae_bound(program.model, images, program.seeds, purpose, K, tell)
    means = values.mean(1).tolist()
    errors = (values.std(1) / values.shape[1] ** 0.5).tolist()
    for line, mean, error in zip(lines, means, errors, strict=True):
        line |= {name: mean, f"{name}_se": error}


def _add_gradients(lines: list[dict], program: Program, dataset: Dataset) -> None:
    """Add to each run's line the signal and noise of its own bound, in its model as it is now."""
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
