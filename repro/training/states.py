"""States, the checkpoints of a training: one file, replaced whole, from which training goes on.

``unfinished-*.pt`` is of a training that was stopped, ``finished-*.pt`` of one that may go on to
more epochs.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from repro import ReproError, first_line, own
from repro.bounds import METHODS, Bound
from repro.records import Archive
from repro.records.schema import is_count, is_duration, is_plain, mapping, series
from repro.words.experiments import Experiment, experiment_in, with_epochs

# The fields of a Fit in a state on disk, beside its programs.
KEPT = ("epoch", "step", "seconds", "curves", "commits", "engines", "devices")


def _is_whole(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_line(line: dict) -> bool:
    """True if a line of a curve has numbers, a beta or none, and rows of gradients if any."""
    rest = {k: v for k, v in line.items() if k != "gradients" and (k, v) != ("beta", None)}
    rows = line.get("gradients", [])
    has_rows = series(mapping(lambda value: _is_number(value) or is_plain(value)))(rows)
    return has_rows and mapping(_is_number, required=("epoch", "loss"))(rest)


FIELDS = {  # of a state, and what each must be; the programs look at their own
    "epoch": _is_whole,
    "step": _is_whole,
    "seconds": is_duration,
    "curves": series(series(_is_line)),
    "commits": series(is_plain),
    "engines": series(is_plain),
    "devices": series(is_plain),
    "sizes": series(is_count),
    "device": is_plain,
    "bounds": mapping(is_plain),
}


def state_of(runs: list[Experiment], archive: Archive) -> Path:
    """The checkpoint file of the unfinished training of ``runs``, beside their records."""
    return _state_file("unfinished", [e.as_dict() for e in runs], archive.path_of(runs[0]))


def kept_state_of(runs: list[Experiment], archive: Archive) -> Path:
    """The checkpoint file that a finished training of ``runs`` left, of any number of epochs."""
    of_any_length = [e.as_dict() | {"epochs": None} for e in runs]
    return _state_file("finished", of_any_length, archive.path_of(runs[0]))


def _state_file(kind: str, runs: list[dict], place: Path) -> Path:
    name = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:16]
    return place.with_name(f"{kind}-{name}.pt")


def put_away(runs: list[Experiment], archive: Archive, keep: bool) -> None:
    """Keep the checkpoint of the finished training of ``runs`` if ``keep``; otherwise remove it."""
    state = state_of(runs, archive)
    if not state.exists():  # and a folder that may only be read is no trouble
        return
    state.with_suffix(".csv").unlink(missing_ok=True)
    kept = kept_state_of(runs, archive)
    epochs = runs[0].epochs
    if keep and not (kept.exists() and unfinished(kept, epochs) is None):
        state.replace(kept)
        print(f"kept {kept}; the same command with more --epochs goes on from it", flush=True)
    else:
        state.unlink()


def kept_training(asked: list[Experiment], archive: Archive) -> Unfinished | None:
    """The training of the runs ``asked`` for to go on from: unfinished, or one of fewer epochs.

    Raises ReproError if its checkpoint is of other runs.
    """
    epochs = asked[0].epochs
    kept = unfinished(state_of(asked, archive), epochs)
    if kept is None:
        kept = unfinished(kept_state_of(asked, archive), epochs)
        missing = {e for e in asked if not archive.holds(e)}
        if kept is None or not missing <= set(kept.experiments):
            return None
    if not set(kept.experiments) <= set(asked):
        raise ReproError(
            f"{kept.path} is the state of other runs; delete it to train from the start"
        )
    return kept


def save_state(fit, path: Path) -> None:
    """Write the checkpoint of a ``loop.Fit`` under a temporary name and rename it when whole."""
    state = {name: getattr(fit, name) for name in KEPT}
    state["programs"] = [p.get_state() for p in fit.programs]
    state["sizes"] = [len(p.experiments) for p in fit.programs]
    state["device"] = fit.programs[0].device.type
    state["experiments"] = [e.as_dict() for e in fit.experiments]
    state["bounds"] = fit.hashes
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch makes the second of a full disk
        partial.unlink(missing_ok=True)
        raise ReproError(
            f"{partial} could not be written ({first_line(error)}); {what_is_kept(path)}; "
            "is the disk full?"
        ) from None
    os.replace(partial, path)


def what_is_kept(path: Path | None) -> str:
    """Say for a message if a checkpoint remains after training has failed."""
    if path is not None and path.exists():
        return "the last good state is kept"
    return "nothing had been saved yet"


def hashes_of_bounds(experiments: Sequence[Experiment]) -> dict[str, str]:
    """A hash of each method's bounds; empty for somebody's own, whose name ends in one."""
    methods = dict.fromkeys(e.method for e in experiments)
    return {m: "" if own.is_own(m) else _hash_of(METHODS[m].bounds) for m in methods}


@functools.cache
def _hash_of(bounds: tuple[Bound, ...]) -> str:
    """A hash of bounds as they are in their file at the first call; empty if they are in none."""
    try:
        source = "".join(map(inspect.getsource, bounds))
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()


for _pair in METHODS.values():  # now, since their file may change while they train
    _hash_of(_pair.bounds)


def unfinished(path: Path | None, epochs: int) -> Unfinished | None:
    """The training whose checkpoint is ``path``, if it exists and has at most ``epochs`` done."""
    if path is None or not path.exists():
        return None
    kept = Unfinished(path, epochs)
    return kept if kept.epochs <= epochs else None


class Unfinished:
    """A training that is read from its checkpoint, to go on until ``epochs`` in all are done.

    Raises ReproError, in one line, if the file cannot be read.
    """

    def __init__(self, path: Path, epochs: int):
        self.path = path
        with self._readable():
            if not path.is_file():
                raise ValueError("it is no file")
            if damaged := zipfile.ZipFile(path).testzip():  # torch.load does not compare checksums
                raise ValueError(f"{damaged} is damaged")
            self.state = torch.load(path, map_location="cpu", weights_only=True)
            for name, holds in FIELDS.items():
                if not holds(self.state[name]):
                    raise ValueError(f"its {name} cannot be")
            began = [experiment_in(content) for content in self.state["experiments"]]
            self.planned = began[0].epochs
            self.experiments = with_epochs(began, epochs)
            self.sizes: list[int] = self.state["sizes"]  # of its stacks of runs
            self.epochs: int = self.state["epoch"]  # that are done
            self.engine: str = self.state["engines"][-1]
            lengths = [len(curve) for curve in self.state["curves"]]
            if lengths != [self.epochs] * len(began) or sum(self.sizes) != len(began):
                raise ValueError("its curves are of other epochs or runs")
            if {e.method for e in began} != self.state["bounds"].keys():
                raise ValueError("its bounds are of other methods")

    @property
    def finished(self) -> bool:
        """True if all epochs are done; the evaluation that is left can be done on any device."""
        return self.epochs == self.experiments[0].epochs

    def check_is_of(self, experiments: Sequence[Experiment], device: str | torch.device) -> None:
        """Raise if the training is of other experiments, other bounds or another device."""
        if set(self.experiments) != set(experiments):
            raise ReproError(
                f"{self.path} is the state of other runs; name another folder for the results"
            )
        before = self.state["device"]
        if before != torch.device(device).type and not self.finished:
            raise ReproError(
                f"{self.path} was made on {before}; "
                "go on there, or delete it to train from the start"
            )
        for method, bounds in hashes_of_bounds(self.experiments).items():
            if not own.is_own(method) and bounds != self.state["bounds"][method]:
                raise ReproError(
                    f"{self.path} was trained with another bound of '{method}'; "
                    "put that back, or delete it to train from the start"
                )

    def load_into(self, fit) -> None:
        """Set a ``loop.Fit`` of the same runs, stacked in the same way, to this checkpoint."""
        with self._readable():
            for name in KEPT:
                setattr(fit, name, self.state[name])
            if not 0 <= fit.step <= fit.steps_per_epoch:
                raise ValueError("its step cannot be")
            for program, saved in zip(fit.programs, self.state["programs"], strict=True):
                program.set_state(saved, streams=not self.finished)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn any error in reading the state into one line."""
        try:
            yield
        except Exception as error:
            raise ReproError(
                f"{self.path} cannot be read ({type(error).__name__}: {str(error)[:60]}); "
                "delete it to train from the start"
            ) from None
