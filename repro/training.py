"""The one training loop: all runs advance together, stacked into one program where that is fast.

A step binarises, encodes, samples, decodes, forms the log-weights, takes each run's pair of bounds, goes back once for
both networks and updates with Adam. The state on disk is replaced whole, so a run killed at any moment goes on from its
last state and ends bit for bit where it would have ended.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from repro import ReproError
from repro.bounds import METHODS
from repro.data import Dataset, Streams
from repro.evaluation import iwae_bound
from repro.experiments import MILESTONES, PROFILES, Experiment
from repro.models import ADAM_EPS, MODELS, Autoencoder

SAVE_EVERY = 60.0  # seconds between two states within an epoch
CHECK_EVERY = 1.0  # seconds between two looks at the loss


def learning_rate(epoch: int) -> float:
    """1e-3 10^(-i/7), held for 3^i epochs, i = 0 ... 7; ``epoch`` counts from 0 (Burda et al., sec. 5)."""
    return 1e-3 * 10 ** (-bisect.bisect_right(MILESTONES[:-1], epoch) / 7)


class Program:
    """Stacked runs, their optimiser and their random numbers; ``step`` advances all of them."""

    def __init__(self, experiments: Sequence[Experiment], dataset: Dataset, device: str | torch.device = "cpu"):
        self.experiments, first = list(experiments), experiments[0]
        self.device, self.batch_size, self.T = torch.device(device), first.batch_size, first.M * first.K
        seeds = [e.seed for e in experiments]
        self.model = Autoencoder(MODELS[first.model], seeds, first.init, dataset.train.mean(0)).to(self.device)
        self.images = dataset.train.to(self.device)
        self.steps_per_epoch = len(self.images) // self.batch_size  # the images left over sit an epoch out
        self.streams = {purpose: Streams(seeds, purpose, device) for purpose in ("order", "binarise", "noise")}

        self.groups: dict[tuple, list[int]] = {}
        for run, e in enumerate(experiments):
            self.groups.setdefault((METHODS[e.method], e.M, e.K), []).append(run)
        beta = torch.tensor([0.5 if e.beta is None else e.beta for e in experiments], device=self.device)
        self.learns = torch.tensor([METHODS[e.method].learns_beta for e in experiments], device=self.device)
        self.fixed_beta = beta
        self.beta_logit = torch.nn.Parameter(torch.where(self.learns, beta, 0.5).logit())
        self.learning_rate = torch.tensor(1e-3, device=self.device)
        self.optimizer = torch.optim.Adam([*self.model.parameters(), self.beta_logit], lr=self.learning_rate, eps=ADAM_EPS[first.init], fused=True)
        self.start_epoch(0)

    @property
    def beta(self) -> Tensor:
        """The weight of the VAE's bound in each run's CIWAE, [run]."""
        return torch.where(self.learns, self.beta_logit.sigmoid(), self.fixed_beta)

    def start_epoch(self, epoch: int) -> None:
        """Draw the epoch's order and set its learning rate."""
        self.learning_rate.fill_(learning_rate(epoch))
        self.order = self.streams["order"].permutations(len(self.images))
        self.losses = torch.zeros(self.steps_per_epoch, len(self.experiments), device=self.device)

    def step(self, i: int) -> None:
        """One update of every run on the epoch's batch i; the negative of theta's bound goes to ``losses[i]``."""
        batch = self.order[:, i * self.batch_size : (i + 1) * self.batch_size]
        x = self.streams["binarise"].binarise(self.images[batch])
        theta, phi = self.objectives(*self.model.log_weights(x, 1, self.T, self.streams["noise"].normal))
        self.optimizer.zero_grad()
        (-(theta + phi).mean(-1)).sum().backward()
        self.optimizer.step()
        self.losses[i] = -theta.detach().mean(-1)

    def objectives(self, log_w_theta: Tensor, log_w_phi: Tensor) -> tuple[Tensor, Tensor]:
        """Each run's pair of bounds: two [run, 1, T, batch] -> two [run, batch]."""
        values, beta = {}, self.beta[:, None]
        for (objective, M, K), runs in self.groups.items():
            log_w = (w[runs].reshape(len(runs), M, K, -1) for w in (log_w_theta, log_w_phi))
            for run, *pair in zip(runs, *objective(*log_w, beta[runs]), strict=True):
                values[run] = pair
        return tuple(torch.stack([values[run][i] for run in range(len(values))]) for i in (0, 1))

    def get_state(self) -> dict:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "beta_logit": self.beta_logit.detach(),
            "streams": {purpose: s.get_state() for purpose, s in self.streams.items()},
            "order": self.order,
            "losses": self.losses,
        }

    def set_state(self, state: dict, epoch: int) -> None:
        """Go on from ``get_state``'s dictionary, in the given epoch."""
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.optimizer.param_groups[0]["lr"] = self.learning_rate  # loading has put a copy in its place
        with torch.no_grad():
            self.beta_logit.copy_(state["beta_logit"])
        for purpose, states in state["streams"].items():
            self.streams[purpose].set_state(states)
        self.order, self.losses = state["order"], state["losses"]
        self.learning_rate.fill_(learning_rate(epoch))


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


def fit(
    experiments: Sequence[Experiment],
    dataset: Dataset,
    state_file: str | Path | None = None,
    device: str | torch.device = "cpu",
    time_limit: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Fit], None] = lambda fit: None,
    stack: int | None = None,
    commit: str = "unknown",
) -> Fit:
    """Train all ``experiments`` side by side; go on from ``state_file`` where it exists and keep it up to date.

    Stops with its state saved after ``time_limit`` seconds or when ``stop()`` is true: at a step, or between two chunks of
    an evaluation. ``progress`` is called about once a second. ``stack`` runs make one program: all of them on an
    accelerator; one on the CPU, where a larger stack is no faster. ``commit`` names the
    code. Raises ReproError, with epoch and step, where a loss is not finite; the last good state is then kept.
    """
    begun, size = time.monotonic(), stack or (1 if torch.device(device).type == "cpu" else len(experiments))
    if len({e.shared for e in experiments}) != 1:
        raise ReproError("runs trained together must share dataset, model, M*K, epochs, profile, init and batch size")
    stacks = [experiments[i : i + size] for i in range(0, len(experiments), size)]
    run = Fit(list(experiments), [Program(s, dataset, device) for s in stacks], [[] for _ in experiments])
    _resume(run, state_file)
    run.commits += [] if run.commits[-1:] == [commit] else [commit]
    before, saved, looked = run.seconds, begun, begun

    def save(now: bool = True) -> None:
        nonlocal saved
        run.seconds = before + time.monotonic() - begun
        if now or time.monotonic() - saved > SAVE_EVERY:
            _check_finite(run, state_file)
            _save(run, state_file)
            saved = time.monotonic()

    def halt() -> bool:
        return stop() or (time_limit is not None and time.monotonic() - begun > time_limit)

    try:
        while not run.finished:
            while run.step < run.steps_per_epoch:
                for program in run.programs:
                    program.step(run.step)
                run.step += 1
                if time.monotonic() - looked > CHECK_EVERY:
                    _check_finite(run, state_file)
                    progress(run)
                    looked = time.monotonic()
                save(now=False)
                if halt():
                    raise _Halt
            _check_finite(run, state_file)
            _end_epoch(run, dataset, save, halt, progress)
            save(now=run.finished)
            progress(run)
    except _Halt:
        save()
    return run


class _Halt(Exception):  # noqa: N818
    """Training is to stop here, with its state saved."""


def _end_epoch(run: Fit, dataset: Dataset, save, halt, progress) -> None:
    """Evaluate each program, add a line to every curve, and draw the next epoch's order.

    At a milestone before the last epoch log p-hat is measured too. That is long, so what is done is saved in between.
    """
    first, skip = run.experiments[0], len(run.pending)
    milestone = run.epoch + 1 in MILESTONES and run.epoch + 1 < first.epochs
    samples = {"iwae_64": 64} | ({"log_px": PROFILES[first.profile].log_px_samples} if milestone else {})
    save(now=milestone)
    for program in run.programs:
        if skip > 0:
            skip -= len(program.experiments)
            continue

        def tell(done: float, of: str = ", ".join(e.method for e in program.experiments)) -> None:
            run.note = f"evaluating {of}: {done:.0%}"
            progress(run)
            if halt():
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
        if not all(p.isfinite().all() for p in [*program.model.parameters(), program.beta_logit]):
            names = ", ".join(e.name for e in program.experiments)
            raise ReproError(
                f"a weight of {names} is not finite after epoch {run.epoch + 1}, step {run.step}; {kept}: try another seed, init or bound"
            )


def fingerprint(experiments: Sequence[Experiment]) -> str:
    """A short name for a list of runs."""
    return hashlib.sha256(json.dumps([e.as_dict() for e in experiments]).encode()).hexdigest()[:16]


KEPT = ("epoch", "step", "seconds", "curves", "pending", "commits")  # what the state holds of a Fit, beside its programs


def _save(run: Fit, path: str | Path | None) -> None:
    if path is None:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: getattr(run, name) for name in KEPT} | {"programs": [p.get_state() for p in run.programs]}
    state |= {"experiments": [e.as_dict() for e in run.experiments], "layout": _layout(run)}
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _layout(run: Fit) -> list:
    return [run.programs[0].device.type, [len(p.experiments) for p in run.programs]]


def _load(path: str | Path, device: str | torch.device = "cpu") -> dict:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        return {name: state[name] for name in (*KEPT, "programs", "experiments", "layout")}
    except Exception as error:
        raise ReproError(f"{path} cannot be read ({type(error).__name__}); delete it to train from the start") from None


def unfinished(path: str | Path) -> list[Experiment]:
    """The runs whose unfinished training is kept in ``path``."""
    return [Experiment(**fields) for fields in _load(path)["experiments"]]


def _resume(run: Fit, path: str | Path | None) -> None:
    if path is None or not Path(path).exists():
        return
    state = _load(path, run.programs[0].device)
    if state["experiments"] != [e.as_dict() for e in run.experiments]:
        raise ReproError(f"{path} is the state of other runs; name another folder for the results")
    if state["layout"] != _layout(run):
        raise ReproError(f"{path} was made on {state['layout'][0]}; go on there, or delete it to train from the start")
    for name in KEPT:
        setattr(run, name, state[name])
    for program, saved in zip(run.programs, state["programs"], strict=True):
        program.set_state(saved, run.epoch)


def seconds_per_step(experiments: Sequence[Experiment], dataset: Dataset, device: str | torch.device = "cpu", steps: int = 5) -> float:
    """Median duration of a step of all runs, measured on one run that is thrown away."""
    program, durations = Program(experiments[:1], dataset, device), []
    for i in range(steps + 1):
        begun = time.monotonic()
        program.step(i)
        program.losses[i].item()  # waits for the device
        durations.append(time.monotonic() - begun)
    return sorted(durations[1:])[steps // 2] * (len(experiments) if program.device.type == "cpu" else 1)
