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
    note: str = ""  # what is being done between two steps
    commits: list[str] = field(default_factory=list)  # of the code that trained, in turn

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

    Stops at a step, with its state saved, after ``time_limit`` seconds or when ``stop()`` is true. ``progress`` is called
    about once a second and at each epoch's end. ``stack`` runs make one program: all of them on an accelerator; one on
    the CPU, where a larger stack is slower (its activations outgrow the cache). Raises ReproError, with epoch and step,
    where a loss is not finite; the state file then still holds the last good state. ``commit`` names the code.
    """
    begun, size = time.monotonic(), stack or (1 if torch.device(device).type == "cpu" else len(experiments))
    stacks = [experiments[i : i + size] for i in range(0, len(experiments), size)]
    if len({e.shared for e in experiments}) != 1:
        raise ReproError("runs trained together must share dataset, model, M*K, epochs, profile, init and batch size")
    run = Fit(list(experiments), [Program(s, dataset, device) for s in stacks], [[] for _ in experiments])
    _resume(run, state_file)
    run.commits += [] if run.commits[-1:] == [commit] else [commit]
    before, saved, looked = run.seconds, begun, begun
    while not run.finished:
        while run.step < run.steps_per_epoch:
            for program in run.programs:
                program.step(run.step)
            run.step += 1
            now = time.monotonic()
            run.seconds = before + now - begun
            if now - looked > CHECK_EVERY:
                _check_finite(run)
                progress(run)
                looked = now
            halt = stop() or (time_limit is not None and now - begun > time_limit)
            if halt or now - saved > SAVE_EVERY:
                _check_finite(run)
                _save(run, state_file)
                saved = now
            if halt:
                return run
        _check_finite(run)
        _save(run, state_file)
        _end_epoch(run, dataset, progress)
        run.seconds = before + time.monotonic() - begun
        _save(run, state_file)
        saved = time.monotonic()
        progress(run)
    return run


def _end_epoch(run: Fit, dataset: Dataset, progress: Callable[[Fit], None]) -> None:
    """Add a line to every curve, with log p-hat at milestones before the last epoch, and draw the next epoch's order."""
    curves, first = iter(run.curves), run.experiments[0]
    milestone = run.epoch + 1 in MILESTONES and run.epoch + 1 < first.epochs
    samples = {"iwae_64": 64} | ({"log_px": PROFILES[first.profile].log_px_samples} if milestone else {})
    for program in run.programs:
        seeds = [e.seed for e in program.experiments]
        loss, beta = program.losses.double().mean(0).tolist(), program.beta.tolist()
        lines = [{"epoch": run.epoch + 1, "learning_rate": float(program.learning_rate), "loss": value} for value in loss]
        for name, K in samples.items():

            def tell(done: float, of: str = f"{name} of {', '.join(e.method for e in program.experiments)}") -> None:
                run.note = f"{of}: {done:.0%}"
                progress(run)

            values = iwae_bound(program.model, dataset.test, seeds, f"epoch {run.epoch}", K, tell)
            for line, mean, sd in zip(lines, values.mean(1).tolist(), values.std(1).tolist(), strict=True):
                line |= {name: mean, f"{name}_se": sd / values.shape[1] ** 0.5}
        for line, e, value in zip(lines, program.experiments, beta, strict=True):
            next(curves).append(line | {"beta": value if e.beta is not None else None})
        program.start_epoch(run.epoch + 1)
    run.epoch, run.step, run.note = run.epoch + 1, 0, ""


def _check_finite(run: Fit) -> None:
    bad = (~run.losses.isfinite()).nonzero()
    if len(bad):
        step, which = bad[0].tolist()
        raise ReproError(
            f"the loss of {run.experiments[which].name} is {run.losses[step, which].item()} at epoch {run.epoch + 1}, step "
            f"{step + 1}; the last good state is kept: try another seed, init or bound"
        )


def fingerprint(experiments: Sequence[Experiment]) -> str:
    """A short name for a list of runs; the state of one list is never taken for another's."""
    return hashlib.sha256(json.dumps([e.as_dict() for e in experiments]).encode()).hexdigest()[:16]


def _save(run: Fit, path: str | Path | None) -> None:
    if path is None:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"fingerprint": fingerprint(run.experiments), "programs": [p.get_state() for p in run.programs]}
    state |= {"epoch": run.epoch, "step": run.step, "seconds": run.seconds, "curves": run.curves, "commits": run.commits}
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _resume(run: Fit, path: str | Path | None) -> None:
    if path is None or not Path(path).exists():
        return
    try:
        state = torch.load(path, map_location=run.programs[0].device, weights_only=True)
        if state["fingerprint"] != fingerprint(run.experiments):
            raise ReproError(f"{path} is the state of other runs; name another folder for the results")
        for name in ("epoch", "step", "seconds", "curves", "commits"):
            setattr(run, name, state[name])
        for program, saved in zip(run.programs, state["programs"], strict=True):
            program.set_state(saved, run.epoch)
    except ReproError:
        raise
    except Exception as error:
        raise ReproError(f"{path} cannot be read ({type(error).__name__}); delete it to train from the start") from None


def seconds_per_step(experiments: Sequence[Experiment], dataset: Dataset, device: str | torch.device = "cpu", steps: int = 5) -> float:
    """Median duration of a step of all runs, measured on one run that is thrown away."""
    program, durations = Program(experiments[:1], dataset, device), []
    for i in range(steps + 1):
        begun = time.monotonic()
        program.step(i)
        program.losses[i].item()  # waits for the device
        durations.append(time.monotonic() - begun)
    return sorted(durations[1:])[steps // 2] * (len(experiments) if program.device.type == "cpu" else 1)
