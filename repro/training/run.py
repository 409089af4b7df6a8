"""Train and evaluate runs, from experiments to records.

A run is one training of one experiment; its record is the folder with its results. A metric is a
score of the trained model on the test images.
"""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import torch

from repro import ReproError, datasets, first_line, one_of, own, plural, scores
from repro.bounds import METHODS, SHIPPED
from repro.datasets import Dataset
from repro.estimators import holds_q_still
from repro.models import Autoencoder, StackedModel
from repro.own_code import hashed_modules, time_limit
from repro.randomness import generator
from repro.records import Archive, Record
from repro.records.provenance import code_and_date, code_of, device_name
from repro.records.schema import Provenance, is_plain
from repro.training import forecast, leases, loop, released_files, states
from repro.training.networks import model_of, new_model
from repro.training.program import matmul_precision
from repro.training.progress import Progress, duration, interrupts
from repro.words import experiments
from repro.words.experiments import ENGINE_CHOICES, OF_GPUS, PROFILES, Experiment, told_apart

LONG = 600.0  # seconds from which on a training is announced as long
GOES_ON = "the same command goes on from there"
KEPT_FOR_IMAGES = ("elbo", "iwae_64", "log_px", "ssim")  # metrics of which every image is kept


def pick_device(name: str = "auto") -> str:
    """Return the device called ``name`` if it is available; ``auto`` prefers the GPU.

    The name has no number: ``CUDA_VISIBLE_DEVICES`` says which GPU is meant.
    """
    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if name == "auto":
        return there[-1]
    if name not in there:
        raise ReproError(f"device '{name}' is not available here; use {' or '.join(there)}")
    return name


def has_precision(name: str, device: str) -> bool:
    """True if ``device`` has the precision ``name``; those ``OF_GPUS`` need one since Ampere."""
    if name not in OF_GPUS:
        return True
    return device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)


def check_precision(runs: list[Experiment], archive: Archive, device: str) -> None:
    """Raise ReproError if runs are still to be trained at a precision that ``device`` lacks.

    A training that is done may be evaluated on any device.
    """
    if all(archive.holds(e) or has_precision(e.precision, device) for e in runs):
        return
    kept = states.kept_training(runs, archive)
    if kept is None or not kept.finished:
        raise ReproError(
            f"precision '{runs[0].precision}' is not available on this {device}; "
            "use float32, or a GPU that has TensorFloat-32"
        )


@dataclass(frozen=True)
class Order:
    """A user's options for training a list of runs, and the archive for their records."""

    archive: Archive
    data: str | Path | None
    device: str
    engine: str
    fallback: bool
    milestones: tuple[str, ...]
    time_limit: float | None
    keep_state: bool
    on_epoch: Callable[[dict], object]
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        limit = self.time_limit
        if limit is not None and not (isinstance(limit, Real) and limit >= 0):
            raise ReproError(f"the time limit is {limit}; give seconds, 0 or more")
        if not callable(self.on_epoch):
            raise ReproError(f"on_epoch is {self.on_epoch!r}; give a function of a dictionary")

    def late(self) -> bool:
        """True if the time limit has passed."""
        return self.time_limit is not None and time.monotonic() - self.begun > self.time_limit


OUT_OF_MEMORY = re.compile("allocate|out of memory|MemoryError|Storage size calculation overflow")


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Turn an error that says that memory is too small into one line; a decorator, too."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not OUT_OF_MEMORY.search(repr(error)):
            raise
        remedy = "give smaller layers, fewer samples or smaller batches"
        raise ReproError(f"memory is too small ({first_line(error)}); {remedy}") from None


def _runs_in(given: object) -> list[Experiment]:
    """The runs given, each once; ReproError if they are no list of experiments."""
    if isinstance(given, list | tuple) and given and all(isinstance(e, Experiment) for e in given):
        return list(dict.fromkeys(given))
    raise ReproError("these are no runs to train; give a list of them, as plan(...) does")


@_memory()
def train(  # noqa: PLR0913  (each is a user's choice)
    runs: list[Experiment],
    data: str | Path | None = None,
    results: str | Path | Archive | None = None,
    device: str = "auto",
    time_limit: float | None = None,
    engine: str = "auto",
    milestones: str | Sequence[str] = ("log-px",),
    fallback: bool = True,
    keep_state: bool = False,
    on_epoch: Callable[[dict], object] = lambda line: None,
) -> list[Record]:
    """Train ``runs`` side by side, evaluate each and write its record.

    A run that has a record is not trained again. Returns the records; there are fewer than ``runs``
    if ``time_limit`` (seconds, from this call on) or an interrupt came first. The same call goes on
    from there. The limit is checked between two steps, and between two evaluations of trained runs.
    ``milestones`` names what is measured at the end of each stage of the learning rate: "log-px",
    and "gradients", signal and noise. Without ``fallback``, an engine that is not available is an
    error; with it, a simpler and slower one trains. With ``keep_state`` the checkpoint of a
    finished training stays beside its records, and the same runs go on from there when they are
    trained for more epochs: they end as if they had been trained for so many at once. ``on_epoch``
    gets a dictionary for each run and epoch: ``run``, the record's folder, and the numbers in its
    line of the curve, which is in a file beside the state, too. ::

        train(plan("iwae,piwae", profile="smoke"), results="results", on_epoch=print)
    """
    runs = _runs_in(runs)
    archive = Archive.of(results)
    device = pick_device(device)
    engine = one_of("engine", engine, ENGINE_CHOICES)
    measured = experiments.measured_at_milestones(milestones)
    how = (fallback, measured, time_limit, keep_state, on_epoch)
    order = Order(archive, data, device, engine, *how)
    check_precision(runs, archive, device)
    missing = _without_record(runs, archive)
    if missing:
        with leases.held(map(archive.path_of, missing)) as lost:
            missing = _without_record(missing, archive)  # for all that was made while this waited
            if missing:
                _train_missing(order, missing, runs, lost)
    else:
        states.put_away(runs, archive, keep_state)
    leases.remove_left(archive.path_of(e) for e in runs if archive.holds(e))
    return [archive.get(e) for e in runs if archive.holds(e)]


def _without_record(runs: list[Experiment], archive: Archive) -> list[Experiment]:
    """The runs that have no record; a line says of each other one that it is there."""
    missing = []
    for e in runs:
        if archive.holds(e):
            again = "make it again with --results ELSEWHERE"
            if not own.is_own(e.method) and METHODS.get(e.method) is not SHIPPED.get(e.method):
                again = f"if {e.method} has changed since, give it another name or a tag"
            print(f"{archive.path_of(e)} is there already; {again}", flush=True)
        else:
            archive.check_place(e)
            missing.append(e)
    return missing


def _train_missing(
    order: Order, runs: list[Experiment], asked: list[Experiment], lost: Callable[[], bool]
) -> None:
    """Train runs, or go on from the state of their training, and write their records.

    The state may be of runs that have their records by now, but of none that was not ``asked`` for.
    Training stops if the lease on a run is ``lost``.
    """
    code = code_and_date()
    say_if_code_is_unknown(code)
    state = states.state_of(asked, order.archive)
    kept = states.kept_training(asked, order.archive)
    runs = kept.experiments if kept else runs
    dataset = _training_images(runs[0], order.data)
    other = datasets.load_other(runs[0].dataset, order.data)
    announce(order, runs, dataset, kept)
    decoder = _released_decoder(runs[0], order.data)
    forecast.check_own_bounds(runs, dataset, order.device, decoder)
    trial = _try_engine(order, runs, dataset, kept)
    print(f"the curves so far are in {state.with_suffix('.csv')}", flush=True)
    commit = code_of(code["commit"], code["dirty"])
    how = {"commit": commit, "engine": trial.engine, "milestones": order.milestones}
    how["on_epoch"] = order.on_epoch
    where = (dataset, state, order.device)
    whole = False
    with interrupts() as interrupted:

        def stop() -> bool:
            return interrupted() or lost()

        with Progress(runs[0].epochs) as bar:
            watched = (stop, order.late, bar.training)
            fit = loop.fit(runs, *where, *watched, decoder=decoder, kept=kept, **how)
        trained_now = not (kept and kept.finished)
        if fit.finished and not (trained_now and (stop() or order.late())):
            with contextlib.suppress(loop.Halt):
                whole = write_records(order, fit, dataset, other, code, stop)
    if not fit.finished:
        ending = f"stopped at epoch {fit.epoch + 1}, step {fit.step}; {GOES_ON}"
    elif not whole:
        ending = f"trained, and stopped before all was evaluated; {GOES_ON}"
    else:
        states.put_away(asked, order.archive, order.keep_state)
        ending = f"done in {duration(time.monotonic() - order.begun)}"
    print(ending, flush=True)


def images_for(e: Experiment, data: str | Path | None) -> Dataset:
    """Load the images on which ``e`` trains and is scored, as its words ask."""
    dataset = datasets.load(e.dataset, data)
    if e.held_out:
        dataset = dataset.holding_out(e.held_out)
    return dataset.binarised_once() if e.binarise == "once" else dataset


def _training_images(e: Experiment, data: str | Path | None) -> Dataset:
    """The images that a run trains on. Raises ReproError if there are fewer than a batch."""
    dataset = images_for(e, data)
    if e.batch_size > len(dataset.train):
        there = f"{e.dataset} has {len(dataset.train)} images to train on"
        raise ReproError(f"batch_size is {e.batch_size}, and {there}; give fewer")
    return dataset


def _released_decoder(e: Experiment, data: str | Path | None) -> dict | None:
    """The weights of a run's fixed decoder; None if it trains its own."""
    if e.decoder == "own":
        return None
    return released_files.released_weights(replace(e, method=e.decoder), data)


def announce(
    order: Order, runs: list[Experiment], dataset: Dataset, kept: states.Unfinished | None
) -> None:
    """Print what will be trained; ``kept`` is an earlier training to continue."""
    first = runs[0]
    steps = len(dataset.train) // first.batch_size
    begins = ""
    if kept:
        begins = f", going on from epoch {kept.epochs + 1}"
        if kept.finished:
            begins = ", all of them trained; what is left is to evaluate"
    print(f"{first.profile} profile: {', '.join(e.name for e in runs)}")
    print(f"{first.model} model on {dataset.variant}; {device_name(order.device)}")
    for remark in _remarks(first, dataset):
        print(remark)
    print(f"{plural(first.epochs, 'epoch')} of {steps} steps{begins}", flush=True)


def _remarks(e: Experiment, dataset: Dataset) -> list[str]:
    """Remarks on a model and data of the user's own, which are tried before they are trained."""
    if not (own.is_own(e.dataset) or own.is_own(e.model)):
        return []
    low, high = (float(value) for value in torch.aminmax(dataset.train))
    remarks = [f"values from {low:.4g} to {high:.4g}; binarise: {e.binarise}"]
    if own.is_own(e.dataset):
        remarks += own.images_in(e.dataset).remarks
    if own.is_own(e.model):
        with hashed_modules(own.without_hash(e.model)):
            remarks += _remarks_on_model(e, dataset)
    return remarks


def _remarks_on_model(e: Experiment, dataset: Dataset) -> list[str]:
    model = new_model([e], dataset.train.mean(0))
    parts = dataset.train[: e.batch_size], dataset.test[:1000]
    if model.binarises:
        g = generator(0, "trial")
        parts = [part.bernoulli(generator=g) for part in parts]
    x, scored = (part.clone() for part in parts)
    with time_limit(f"a trial of {model.called}"):
        tried = model.tried(x, scored, e.M * e.K, holds_q_still(e.estimator))
    return [model.size, *model.remarks, *tried]


def say_if_code_is_unknown(code: dict) -> None:
    """Warn before training that records will not say which code made them."""
    if code["commit"] is None:
        print(
            "the code's commit is not known here, and records will not say which code made them: "
            "set REPRO_COMMIT, or let git read this folder (git config safe.directory)",
            flush=True,
        )


def _try_engine(
    order: Order, runs: list[Experiment], dataset: Dataset, kept: states.Unfinished | None
) -> forecast.Trial:
    """Choose the engine asked for, or a simpler one that works here, and print the time to take."""
    first = runs[0]
    engine = order.engine
    if engine == "auto":
        was_as_long = kept is not None and kept.planned == first.epochs
        engine = kept.engine if was_as_long else forecast.engine_for(first, dataset, order.device)
    trial = forecast.try_engines(runs, dataset, order.device, engine, order.fallback)
    done = kept.epochs if kept else 0
    log_px = "log-px" in order.milestones
    seconds = forecast.seconds_left(runs, dataset, order.device, trial, done, log_px)
    print(f"{trial.engine} engine, {first.precision}; should take about {duration(seconds)}")
    if trial.why:
        print(f"{trial.why}: {trial.engine} instead, which is slower")
    if trial.remark:
        print(f"{trial.remark}, which is slower")
    if seconds > LONG:
        print(
            "that is long: --epochs makes it shorter, --profile smoke tries it out, "
            "--time-limit does it in parts"
        )
    sys.stdout.flush()
    return trial


class Assessment(NamedTuple):
    """Measurements of a trained run for its record: metrics, pictures, values of each image."""

    metrics: dict[str, dict[str, float]]
    grids: dict[str, torch.Tensor]
    images: dict


def assess(
    model: StackedModel,
    dataset: Dataset,
    other: Dataset | None,
    seeds: list[int],
    samples: int,
    title: str,
    stop: Callable[[], bool] = lambda: False,
) -> list[Assessment]:
    """Measure the scores of each stacked run, with SSIM and pictures of the ``other`` dataset, too.

    ``samples`` is K of log p-hat; ``title`` names the runs beside the progress bar. Raises Halt on
    the way if ``stop()`` is true.
    """
    with matmul_precision("float32"), Progress(1, f"log p-hat of {title}") as bar:
        tell = partial(_tell, bar, stop)
        values = scores.measure(model, dataset.test, seeds, samples, tell)
    grids = _grids(model, dataset, seeds)
    elsewhere: list[dict] = [{} for _ in seeds]
    if other and grids:
        name = f"ssim_on_{other.name}"
        similarities = scores.mean_ssim(model, other.test, seeds, "other")
        elsewhere = [{name: similarity} for similarity in similarities]
        grids |= _grids(model, other, seeds, "_elsewhere")
    found = []
    for run, seed in enumerate(seeds):
        metrics = scores.summary(values[run], seed) | elsewhere[run]
        grids_of_run = {name: grid[run] for name, grid in grids.items()}
        images = {name: values[run][name] for name in KEPT_FOR_IMAGES if name in values[run]}
        found.append(Assessment(metrics, grids_of_run, images))
    return found


def _tell(bar: Progress, stop: Callable[[], bool], done: float) -> None:
    """Show how far an evaluation is, and halt it if ``stop()`` says so."""
    bar.fraction(done)
    if stop():
        raise loop.Halt


def _grids(
    model: StackedModel, dataset: Dataset, seeds: list[int], ending: str = ""
) -> dict[str, torch.Tensor]:
    """Inputs and reconstructions [run, n, ...], from 0 to 1; nothing if there are no pictures."""
    found = scores.reconstruction_grids(model, dataset.test, seeds)
    if found is None:
        return {}
    low, high = (float(v) for v in torch.aminmax(dataset.test))
    low, high = min(low, 0.0), max(high, 1.0)
    inputs, again = (((grid - low) / (high - low)).clamp(0, 1) for grid in found)
    return {f"inputs{ending}": inputs, f"reconstructions{ending}": again}


def write_records(
    order: Order,
    fit: loop.Fit,
    dataset: Dataset,
    other: Dataset | None,
    code: dict,
    stop: Callable[[], bool],
) -> bool:
    """Evaluate each trained run that has no record yet, and write one.

    Returns False if the time limit passed after at least one record was written. If ``stop()`` is
    true, since it was interrupted or another process writes a record, it raises Halt.
    """
    provenance = _provenance_of(order, fit, dataset, code)
    archive = order.archive
    curves = dict(zip(fit.experiments, fit.curves, strict=True))
    called = told_apart(fit.experiments)
    of_training = round(fit.seconds / len(fit.experiments), 1)
    left = [stack for stack in fit.programs if not all(map(archive.holds, stack.experiments))]
    for number, stack in enumerate(left):
        if number > 0 and order.late():
            return False
        begun = time.monotonic()
        title = ", ".join(called[e] for e in stack.experiments)
        samples = provenance.log_px_samples
        found = assess(stack.model, dataset, other, stack.seeds, samples, title, stop)
        if stop():
            raise loop.Halt
        of_each = round((time.monotonic() - begun) / len(stack.seeds), 1)
        provenance = replace(provenance, seconds={"training": of_training, "evaluation": of_each})
        for run, e in enumerate(stack.experiments):
            if not archive.holds(e):
                weights = stack.model.run_state(run)
                write_record(archive, e, curves[e], found[run], weights, provenance)
    return True


def _provenance_of(order: Order, fit: loop.Fit, dataset: Dataset, code: dict) -> Provenance:
    """The provenance of every run of a training, but for the seconds that each takes."""
    first = fit.experiments[0]
    return Provenance(
        **code,
        trained_by=fit.commits,
        engines=fit.engines,
        precision=first.precision,
        device=_in_words(fit.devices),
        evaluated_on=device_name(order.device),
        data=dataset.provenance,
        log_px_samples=PROFILES[first.profile].log_px_samples,
        seconds={},
    )


def _in_words(devices: list[str]) -> str:
    """The devices that trained, each once; the first alone if a provenance cannot hold them all."""
    said = " and ".join(dict.fromkeys(devices))
    return said if is_plain(said) else f"{devices[0]} and others"


def write_record(
    archive: Archive,
    e: Experiment,
    curve: list[dict],
    found: Assessment,
    weights: dict | None,
    provenance: Provenance,
) -> None:
    """Write the record of run ``e``; the last line of its ``curve`` gets the final log p-hat."""
    if curve:
        log_px = found.metrics["log_px"]
        last = curve[-1] | {"log_px": log_px["value"], "log_px_se": log_px["se"]}
        curve = [*curve[:-1], last]
    path = archive.write(e, curve, *found, weights, provenance)
    print(f"wrote {path}", flush=True)


@_memory()
def evaluate_again(
    record: Record, samples: int | None, data: str | Path | None, device: str
) -> Record:
    """Measure a record's trained weights again on the images of its experiment; nothing is written.

    ``samples`` is K of log p-hat. Raises ReproError if the images do not fit the model.
    """
    device = pick_device(device)
    e = record.experiment
    model = model_of(e, record.weights()).to(device)
    images = images_for(e, data)
    if isinstance(model, Autoencoder) and model.shape.pixels != images.pixels:
        raise ReproError(f"images of {e.dataset} have not the model's {model.shape.pixels} pixels")
    K = samples or record.provenance.log_px_samples
    (found,) = assess(model, images, None, [e.seed], K, e.method)
    where = {"data": images.provenance, "evaluated_on": device_name(device), "log_px_samples": K}
    made = replace(record.provenance, **where)
    return record.measured_as(found.images, metrics=found.metrics, provenance=made)
