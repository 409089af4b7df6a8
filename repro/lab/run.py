"""From experiments to records: train, evaluate, and measure the report's weights again."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from repro import ReproError, exhibits, one_of, plural, studies
from repro.costs import weights_to_evaluate
from repro.experiments import (
    ENGINE_CHOICES,
    ESTIMATORS,
    OMNIGLOT,
    PROFILES,
    TABLE_METHODS,
    Experiment,
    plan,
    told_apart,
)
from repro.lab import datasets, evaluation, leases, pictures, released_files, snr, training
from repro.lab.datasets import Dataset
from repro.lab.engines import fastest
from repro.lab.models import MODELS, Autoencoder, model_of
from repro.lab.progress import Progress, duration, interrupts
from repro.lab.randomness import generator
from repro.provenance import code_and_date, code_of, device_name
from repro.records import Archive, Record
from repro.schema import is_plain

WORTH_COMPILING = 8e9  # steps times parameters, about five minutes: then compile on the CPU
LONG = 600.0  # seconds from which on a training is announced as long
SHAPED_IMAGES = 1000  # of the test set, whose k-hat is taken
DEEP_IMAGES = 200  # of the test set, whose log p-hat is taken with many samples
DEEP_SAMPLES = (5000, 50_000)
TRUSTED_KHAT = 0.7  # above it, a mean of importance weights is not to be trusted
BINARISATIONS = 5  # of the test set, to see how much the choice of one matters
KEPT_FOR_IMAGES = ("elbo", "iwae_64", "log_px", "ssim")  # metrics of which every image is kept


def pick_device(name: str = "auto") -> str:
    """The device called ``name``, if it is available; ``auto`` prefers the accelerator."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(name, str) or not _is_available(name):
        others = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise ReproError(f"device '{name}' is not available here; use {others}")
    return name


def _is_available(name: str) -> bool:
    """Whether it is a kind of device that trains, and there is one here.

    It has no number: ``CUDA_VISIBLE_DEVICES`` says which GPU is meant.
    """
    try:
        torch.empty(0, device=name)
        return name in ("cpu", "cuda")
    except (RuntimeError, AssertionError):
        return False


def has_precision(name: str, device: str) -> bool:
    """Whether a device multiplies so while training: TensorFloat-32 is of GPUs since Ampere."""
    return name != "tf32" or (device == "cuda" and torch.cuda.get_device_capability() >= (8, 0))


def check_precision(runs: list[Experiment], archive: Archive, device: str) -> None:
    """Raise ReproError if runs are still to be trained at a precision that a device has not.

    What is trained may be evaluated on any device.
    """
    if all(archive.holds(e) or has_precision(e.precision, device) for e in runs):
        return
    kept = _kept_training(_state_of(runs, archive), runs)
    if kept is None or kept.epochs < runs[0].epochs:
        raise ReproError(
            f"precision 'tf32' is not available on this {device}; "
            "use float32, or a GPU that has TensorFloat-32"
        )


@dataclass(frozen=True)
class Order:
    """How a list of runs is to be trained, and where their records go."""

    archive: Archive
    data: str | Path | None
    device: str
    engine: str
    fallback: bool
    milestones: tuple[str, ...]
    begun: float
    time_limit: float | None

    def late(self) -> bool:
        """True if the time limit is over."""
        return self.time_limit is not None and time.monotonic() - self.begun > self.time_limit


def train(
    runs: list[Experiment],
    data: str | Path | None = None,
    results: str | Path | Archive | None = None,
    device: str = "auto",
    time_limit: float | None = None,
    engine: str = "auto",
    milestones: tuple[str, ...] = ("log-px",),
    fallback: bool = True,
) -> list[Record]:
    """Train ``runs`` side by side, evaluate each and write its record.

    A run that has a record is not trained again. Returns the records; there are fewer than ``runs``
    if ``time_limit`` (seconds, from this call on) or an interrupt came first. The same call goes on
    from there. The limit is checked between two steps, and between two evaluations of trained runs.
    ``milestones`` says what is measured there: "log-px", which on the CPU takes minutes each, and
    "gradients", the signal and noise of each run's own. Without ``fallback``, an engine that is not
    available is an error; with it, a simpler and slower one trains.
    """
    if time_limit is not None and not time_limit >= 0:
        raise ReproError(f"the time limit is {time_limit:g}; give seconds, 0 or more")
    archive = Archive.of(results)
    device = pick_device(device)
    engine = one_of("engine", engine, ENGINE_CHOICES)
    check_precision(runs, archive, device)
    begun = time.monotonic()
    order = Order(archive, data, device, engine, fallback, milestones, begun, time_limit)
    missing = _without_record(runs, archive)
    state = _state_of(runs, archive)
    if missing:
        with leases.held(map(archive.path_of, missing)) as lost:
            missing = _without_record(missing, archive)  # for all that was made while this waited
            if missing:
                _train_missing(order, missing, state, asked=runs, lost=lost)
    elif state.exists():  # so that a folder that may only be read is no trouble
        state.unlink()
    leases.remove_left(archive.path_of(e) for e in runs if archive.holds(e))
    return [archive.get(e) for e in runs if archive.holds(e)]


def _without_record(runs: list[Experiment], archive: Archive) -> list[Experiment]:
    """The runs that have no record; of the others it is said that they are there."""
    missing = []
    for e in runs:
        if archive.holds(e):
            place = archive.path_of(e)
            print(f"{place} is there already; make it again with --results ELSEWHERE", flush=True)
        else:
            missing.append(e)
    return missing


def _state_of(runs: list[Experiment], archive: Archive) -> Path:
    """The file of the training's state, beside the records."""
    name = f"unfinished-{training.fingerprint(runs)}.pt"
    return archive.path_of(runs[0]).with_name(name)


def _train_missing(
    order: Order,
    runs: list[Experiment],
    state: Path,
    asked: list[Experiment],
    lost: Callable[[], bool],
) -> None:
    """Train runs, or go on with the training in ``state``, and write their records.

    Runs that have their records by now may be among those in ``state``, but none that was not
    ``asked`` for. Training stops if the lease on a run is ``lost``.
    """
    origin = code_and_date()
    say_if_code_is_unknown(origin)
    kept = _kept_training(state, asked)
    if kept:
        runs = kept.experiments
    dataset = _images_for(runs[0], order.data)
    other = datasets.load_other(runs[0].dataset, order.data)
    announce(order, runs, dataset, kept)
    engine = kept.engine if kept and order.engine == "auto" else order.engine
    trial = _try_engine(order, engine, runs, dataset)
    tell_how_long(runs[0], trial, _seconds_left(order, runs, dataset, kept, trial))
    with interrupts() as interrupted, Progress(runs[0].epochs) as bar:

        def stop() -> bool:
            return interrupted() or order.late() or lost()

        how = {"commit": code_of(origin), "engine": trial.engine, "milestones": order.milestones}
        how["decoder"] = _released_decoder(runs[0], order.data)
        fit = training.fit(runs, dataset, state, order.device, stop, bar.training, **how)
        trained_now = fit.epoch > (kept.epochs if kept else 0)
        put_off = trained_now and stop()
    if not fit.finished:
        print(
            f"stopped at epoch {fit.epoch + 1}, step {fit.step}; "
            "the same command goes on from there",
            flush=True,
        )
    elif put_off or not write_records(order, fit, dataset, other, origin):
        print(
            "trained, and stopped before all was evaluated; the same command goes on from there",
            flush=True,
        )
    else:
        state.unlink(missing_ok=True)
        print(f"done in {duration(time.monotonic() - order.begun)}", flush=True)


def _kept_training(state: Path, asked: list[Experiment]) -> training.Unfinished | None:
    """The training in ``state``, if there is one. Raises ReproError if it is not of these runs."""
    if not state.exists():
        return None
    kept = training.unfinished(state)
    if not set(kept.experiments) <= set(asked):
        raise ReproError(f"{state} is the state of other runs; delete it to train from the start")
    return kept


def _images_for(e: Experiment, data: str | Path | None) -> Dataset:
    """The images that a run trains on. Raises ReproError if there are fewer than a batch."""
    dataset = datasets.load(e.dataset, data)
    if e.batch_size > len(dataset.train):
        least = f"{e.dataset} has {len(dataset.train)} images to train on"
        raise ReproError(f"batch_size is {e.batch_size}, and {least}; give fewer")
    return dataset


def _released_decoder(e: Experiment, data: str | Path | None) -> dict | None:
    """The weights of the decoder that a run holds on to; None if it trains its own."""
    if e.decoder == "own":
        return None
    return released_files.released_weights(replace(e, method=e.decoder), data)


def announce(
    order: Order, runs: list[Experiment], dataset: Dataset, kept: training.Unfinished | None
) -> None:
    """Say what is going to be trained; ``kept`` is the training that is gone on with."""
    first = runs[0]
    steps = len(dataset.train) // first.batch_size
    begins = _how_it_begins(kept, first.epochs)
    print(f"{first.profile} profile: {', '.join(e.name for e in runs)}")
    print(f"{first.model} model on {dataset.variant}; {device_name(order.device)}")
    print(f"{plural(first.epochs, 'epoch')} of {steps} steps{begins}", end="; ", flush=True)


def _how_it_begins(kept: training.Unfinished | None, epochs: int) -> str:
    if kept is None:
        return ""
    if kept.epochs == epochs:
        return ", all of them trained; what is left is to evaluate"
    return f", going on from epoch {kept.epochs + 1}"


def say_if_code_is_unknown(origin: dict) -> None:
    """Warn before training that records will not say which code made them."""
    if origin["commit"] is None:
        print(
            "the code's commit is not known here, and records will not say which code made them: "
            "set REPRO_COMMIT, or let git read this folder (git config safe.directory)",
            flush=True,
        )


def tell_how_long(first: Experiment, trial: training.Trial, seconds: float) -> None:
    """Say which engine trains and how long it should take."""
    print(
        f"{trial.engine} engine, {first.precision}; should take about {duration(seconds)}",
        flush=True,
    )
    if trial.why:
        print(f"{trial.why}: {trial.engine} instead, which is slower", flush=True)
    if trial.remark:
        print(f"{trial.remark}, which is slower", flush=True)
    if seconds > LONG:
        print(
            "that is long: --epochs makes it shorter, --profile smoke tries it out, "
            "--time-limit does it in parts",
            flush=True,
        )


def _try_engine(
    order: Order, asked: str, runs: list[Experiment], dataset: Dataset
) -> training.Trial:
    """The engine asked for, or a simpler one that works here.

    ``auto`` goes by the length of the training, so that the same command takes the same engine
    however busy the machine is.
    """

    def trial_of(engine: str) -> training.Trial:
        return training.try_engines(runs, dataset, order.device, engine, order.fallback)

    if asked != "auto":
        return trial_of(asked)
    if order.device != "cpu":
        return trial_of("compiled-graph")
    first = runs[0]
    steps = first.epochs * (len(dataset.train) // first.batch_size)
    worth = steps * MODELS[first.model].parameters > WORTH_COMPILING
    return trial_of("compiled" if worth else "eager")


def _seconds_left(
    order: Order,
    runs: list[Experiment],
    dataset: Dataset,
    kept: training.Unfinished | None,
    trial: training.Trial,
) -> float:
    """How long training and all evaluations should take, from a short measurement."""
    done = kept.epochs if kept else 0
    first = runs[0]
    model = Autoencoder(MODELS[first.model], [0]).to(order.device)
    few = dataset.test[: max(100, evaluation.CHUNK_IMAGES[order.device])]  # a GPU wants many
    for _ in range(2):  # the first time is a warm-up
        begun = time.monotonic()
        evaluation.iwae_bound(model, few, [0], "estimate")
    seconds_per_weight = (time.monotonic() - begun) / (len(few) * 64)
    samples = weights_to_evaluate(first, done, "log-px" in order.milestones)
    evaluation_seconds = seconds_per_weight * samples * len(dataset.test) * len(runs)
    steps = (first.epochs - done) * (len(dataset.train) // first.batch_size)
    return evaluation_seconds + steps * trial.seconds


@dataclass(frozen=True)
class Assessment:
    """What a record says of a trained model."""

    metrics: dict[str, dict[str, float]]
    grids: dict[str, torch.Tensor]
    images: dict


def assess(
    model: Autoencoder,
    dataset: Dataset,
    other: Dataset | None,
    seeds: list[int],
    samples: int,
    title: str,
) -> list[Assessment]:
    """Measure each run of a model, on the dataset that it was not trained on, too.

    ``samples`` is K of log p-hat; ``title`` stands beside the progress bar.
    """
    with Progress(1, f"log p-hat of {title}") as bar:
        values = evaluation.measure(model, dataset.test, seeds, samples, bar.fraction)
    inputs, again = evaluation.reconstruction_grids(model, dataset.test, seeds)
    grids = {"inputs": inputs, "reconstructions": again}
    elsewhere: list[dict] = [{} for _ in seeds]
    if other:
        name = f"ssim_on_{other.name}"
        similarities = evaluation.ssim_elsewhere(model, other.test, seeds)
        elsewhere = [{name: similarity} for similarity in similarities]
        inputs, again = evaluation.reconstruction_grids(model, other.test, seeds)
        grids |= {"inputs_elsewhere": inputs, "reconstructions_elsewhere": again}
    found = []
    for run, seed in enumerate(seeds):
        metrics = evaluation.summary(values[run], seed) | elsewhere[run]
        grids_of_run = {name: grid[run] for name, grid in grids.items()}
        images = {name: values[run][name] for name in KEPT_FOR_IMAGES}
        found.append(Assessment(metrics, grids_of_run, images))
    return found


def write_records(
    order: Order, fit: training.Fit, dataset: Dataset, other: Dataset | None, origin: dict
) -> bool:
    """Evaluate each trained run that has no record yet, and write one.

    Returns False if it became late in between; at least one record is written first.
    """
    origin = origin | _about_training(order, fit, dataset)
    curves = dict(zip(fit.experiments, fit.curves, strict=True))
    called = told_apart(fit.experiments)
    seconds = round(fit.seconds / len(fit.experiments), 1)
    written = False
    for stack in fit.programs:
        todo = [e for e in stack.experiments if not order.archive.holds(e)]
        if not todo:
            continue
        if written and order.late():
            return False
        begun = time.monotonic()
        title = ", ".join(called[e] for e in stack.experiments)
        samples = origin["log_px_samples"]
        found = assess(stack.model, dataset, other, stack.seeds, samples, title)
        of_each = round((time.monotonic() - begun) / len(stack.seeds), 1)
        complete = origin | {"seconds": {"training": seconds, "evaluation": of_each}}
        for run, e in enumerate(stack.experiments):
            if e in todo:
                weights = stack.model.run_state(run)
                _write_record(order.archive, e, curves[e], found[run], weights, complete)
        written = True
    return True


def _about_training(order: Order, fit: training.Fit, dataset: Dataset) -> dict:
    """What a provenance says of a training, whichever of its runs it is of."""
    first = fit.experiments[0]
    return {
        "trained_by": fit.commits,
        "engines": fit.engines,
        "precision": first.precision,
        "device": _in_words(fit.devices),
        "evaluated_on": device_name(order.device),
        "data": dataset.origin,
        "log_px_samples": PROFILES[first.profile].log_px_samples,
    }


def _in_words(devices: list[str]) -> str:
    """The devices that trained, each once; the first alone if a provenance cannot hold them all."""
    said = " and ".join(dict.fromkeys(devices))
    return said if is_plain(said) else f"{devices[0]} and others"


def _write_record(
    archive: Archive,
    e: Experiment,
    curve: list[dict],
    found: Assessment,
    weights: dict | None,
    origin: dict,
) -> None:
    """Write a record; the curve's last line gets the final log p-hat."""
    if curve:
        log_px = found.metrics["log_px"]
        last = curve[-1] | {"log_px": log_px["value"], "log_px_se": log_px["se"]}
        curve = [*curve[:-1], last]
    path = archive.write(e, curve, found.metrics, found.grids, found.images, weights, origin)
    print(f"wrote {path}", flush=True)


def evaluate_again(
    record: Record, samples: int | None, data: str | Path | None, device: str
) -> dict[str, dict[str, float]]:
    """Every metric of a record's weights, measured again; ``samples`` is K of log p-hat."""
    device = pick_device(device)
    e = record.experiment
    model = model_of(e, record.weights())
    dataset = datasets.load(e.dataset, data)
    K = samples or record.provenance["log_px_samples"]
    with Progress(1, "log p-hat") as bar:
        (metrics,) = evaluation.evaluate(model.to(device), dataset.test, [e.seed], K, bar.fraction)
    return metrics


def released_model(e: Experiment, data: str | Path | None, device: str) -> Autoencoder:
    """The model with the report's released weights of a run."""
    model = model_of(e, released_files.released_weights(e, data)).to(device)
    model.prepare = fastest()
    return model


def remeasure(
    e: Experiment, archive: Archive, data: str | Path | None = None, device: str = "auto"
) -> Record:
    """Measure the report's released weights of a run with this project's evaluation; record it."""
    origin = code_and_date()
    begun = time.monotonic()
    device = pick_device(device)
    dataset = datasets.load(e.dataset, data)
    other = datasets.load_other(e.dataset, data)
    samples = PROFILES[e.profile].log_px_samples
    model = released_model(e, data, device)
    (found,) = assess(model, dataset, other, [e.seed], samples, f"{e.group} {e.method}")
    (spread,) = evaluation.other_binarisations(model, dataset.test, [e.seed], BINARISATIONS)
    for name, sd in spread.items():
        found.metrics[name]["binarisation_sd"] = sd
    origin |= {
        "device": device_name(device),
        "data": dataset.origin,
        "log_px_samples": samples,
        "precision": "float32",
        "seconds": {"evaluation": round(time.monotonic() - begun, 1)},
        "binarisations": BINARISATIONS,
        "weights": released_files.origin_of_weights(e),
    }
    _write_record(archive, e, [], found, None, origin)
    return archive.get(e)


def sum_up_logs(archive: Archive, runs: list[Experiment], data: str | Path | None) -> None:
    """Write what the report's logs say, unless it is there: in blocks, and of checkpoints."""
    summaries: dict[str, Callable] = {
        "logs": released_files.log_blocks,
        "checkpoints": released_files.log_checkpoints,
    }
    for name, summary in summaries.items():
        if not archive.table_path(name).exists():
            origin = code_and_date() | {
                "blobs": released_files.blobs(exhibits.released_runs(), "log")
            }
            path = archive.write_table(name, summary(runs, data), origin)
            print(f"wrote {path}", flush=True)


def measure_best(archive: Archive, data: str | Path | None, device: str) -> None:
    """Write SSIM of the checkpoints that the released code calls best, unless it is there."""
    _measure_each(ssim_of_best, "best", "best", archive, data, device)


def check_proposals(archive: Archive, data: str | Path | None, device: str) -> None:
    """Write how far log p-hat of the report's weights can be trusted, unless it is there."""
    _measure_each(check_of_proposal, "proposals", "model", archive, data, device)


def _measure_each(
    row_of: Callable[[Experiment, str | Path | None, str], dict],
    name: str,
    kind: str,
    archive: Archive,
    data: str | Path | None,
    device: str,
) -> None:
    """Write the table called ``name`` with a row for each released run, unless it is there.

    ``kind`` is that of the released files that are measured.
    """
    import pandas as pd

    if archive.table_path(name).exists():
        return
    origin = code_and_date()
    device = pick_device(device)
    runs = exhibits.released_runs()
    with Progress(1, name) as bar:
        rows: list[dict] = []
        for e in runs:
            rows.append(row_of(e, data, device))
            bar.fraction(len(rows) / len(runs))
    origin |= {"device": device_name(device), "blobs": released_files.blobs(runs, kind)}
    print(f"wrote {archive.write_table(name, pd.DataFrame(rows), origin)}", flush=True)


def check_of_proposal(e: Experiment, data: str | Path | None, device: str) -> dict:
    """Pareto's k-hat of a run's importance weights, and log p-hat with ten times the samples.

    ``predicted`` is by how much log p-hat should rise with them: its bias to first order is minus
    half the relative variance of the mean weight, 1/ESS - 1/K.
    """
    model = model_of(e, released_files.released_weights(e, data)).to(device)
    images = datasets.load(e.dataset, data).test
    khat = evaluation.pareto_shapes(model, images[:SHAPED_IMAGES], [e.seed])
    log_px = []
    biases = []
    for K in DEEP_SAMPLES:
        sums = evaluation.log_px_and_ess(model, images[:DEEP_IMAGES], [e.seed], K)
        log_px.append(sums["iwae"][0])
        biases.append(float((1 / K - 1 / sums["ess"][0]).mean() / 2))
    rise = log_px[1] - log_px[0]
    return {
        "group": e.setting,
        "method": e.method,
        "images": len(khat),
        "khat_median": float(np.median(khat)),
        "khat_above": float((khat > TRUSTED_KHAT).mean()),
        "deep_images": len(rise),
        "rise": float(rise.mean()),
        "rise_se": float(rise.std() / len(rise) ** 0.5),
        "predicted": biases[1] - biases[0],
    }


def ssim_of_best(e: Experiment, data: str | Path | None, device: str) -> dict:
    """SSIM of a run's best checkpoint, and whether its weights are the last epoch's."""
    best = released_files.best_weights(e, data)
    last = released_files.released_weights(e, data)
    model = model_of(e, best)
    images = datasets.load(e.dataset, data).test
    (here,) = evaluation.ssim_here(model.to(device), images, [e.seed])
    other = datasets.load_other(e.dataset, data)
    (elsewhere,) = evaluation.ssim_elsewhere(model, other.test, [e.seed])
    return {
        "group": e.setting,
        "method": e.method,
        "is_the_last": all(torch.equal(best[name], last[name]) for name in last),
        "ssim": here["value"],
        "ssim_sd": here["sd"],
        "ssim_elsewhere": elsewhere["value"],
        "ssim_elsewhere_sd": elsewhere["sd"],
    }


def sum_up_figure4(archive: Archive, data: str | Path | None) -> None:
    """Write what the two curves of the report's Figure 4 are, unless it is there."""
    if archive.table_path("figure4").exists():
        return
    try:
        table = released_files.figure4_parabolas(data)
    except ReproError as error:
        print(f"Figure 4 will be left out: {error}", flush=True)
        return
    origin = code_and_date() | {
        "from": "the vectors of Figure 4 in the report's PDF",
        "sha256": released_files.FIGURE4_SHA256,
    }
    print(f"wrote {archive.write_table('figure4', table, origin)}", flush=True)


def tell_drawers_apart(archive: Archive, data: str | Path | None, device: str) -> None:
    """Write IWAE-64 of the report's Omniglot models by drawer, unless it is there."""
    import pandas as pd

    if archive.table_path("drawers").exists():
        return
    origin = code_and_date()
    device = pick_device(device)
    dataset = datasets.load(OMNIGLOT, data)
    runs = [e for e in exhibits.released_runs() if e.dataset == OMNIGLOT]
    rows: list[dict] = []
    with Progress(1, "drawers") as bar:
        for e in runs:
            rows += iwae_64_by_drawer(e, dataset, data, device)
            bar.fraction(len(rows) / (20 * len(runs)))
    origin |= {
        "device": device_name(device),
        "blobs": released_files.blobs(runs, "model"),
        "data": dataset.origin,
    }
    print(f"wrote {archive.write_table('drawers', pd.DataFrame(rows), origin)}", flush=True)


def iwae_64_by_drawer(
    e: Experiment, dataset: Dataset, data: str | Path | None, device: str
) -> Iterator[dict]:
    """IWAE-64 of released Omniglot weights by drawer, on the drawings of each third character."""
    model = released_model(e, data, device)
    for split, drawers in datasets.DRAWERS.items():
        images = getattr(dataset, split)
        of_characters = images.unflatten(0, (-1, len(drawers)))[::3]  # [character, drawer, pixels]
        flat = of_characters.flatten(0, 1)
        values = evaluation.iwae_bound(model, flat, [e.seed], f"drawers: {split}")
        values = values.view(-1, len(drawers))
        means = values.mean(0).tolist()
        spreads = values.std(0).tolist()
        for drawer, mean, sd in zip(drawers, means, spreads, strict=True):
            yield {
                "method": e.method,
                "drawer": drawer,
                "split": split,
                "images": len(values),
                "iwae_64": mean,
                "iwae_64_sd": sd,
            }


def measure_gradients(archive: Archive, data: str | Path | None, device: str) -> Path:
    """Write the signal and noise of gradients in a linear Gaussian model and in networks."""
    networks = _Networks(archive, data, device)
    parts = [snr.in_linear_gaussian(where) for where in studies.LINEAR_GAUSSIAN]
    parts += [snr.in_network(*networks.place(name)) for name in studies.NETWORKS]
    rows = _counted(itertools.chain(*parts), studies.MEASUREMENTS, "gradients")
    return archive.write_table("gradients", rows, networks.origin(), numbers="%.7g")


def measure_estimators(archive: Archive, data: str | Path | None, device: str) -> Path:
    """Write the signal and noise of every bound's gradient under every estimator, in networks."""
    networks = _Networks(archive, data, device)
    which = (studies.OF_ESTIMATORS, tuple(ESTIMATORS))
    names = studies.NETWORKS_OF_ESTIMATORS
    parts = [snr.in_network(*networks.place(name), *which) for name in names]
    rows = _counted(itertools.chain(*parts), studies.ESTIMATES, "estimators")
    return archive.write_table("estimators", rows, networks.origin(), numbers="%.7g")


def measure_samples(archive: Archive, data: str | Path | None, device: str) -> Path:
    """Write how IWAE's signal and noise change with the number of samples, by estimator.

    In the linear Gaussian model at every offset, and in networks.
    """
    networks = _Networks(archive, data, device)
    which = (studies.SWEPT_IN_NETWORKS, tuple(ESTIMATORS))
    names = studies.NETWORKS_OF_ESTIMATORS
    parts = [snr.at_offset(offset) for offset in studies.OFFSETS]
    parts += [snr.in_network(*networks.place(name), *which) for name in names]
    rows = _counted(itertools.chain(*parts), studies.SWEEPS, "samples")
    return archive.write_table("samples", rows, networks.origin(), numbers="%.7g")


def measure_looser(archive: Archive, data: str | Path | None, device: str) -> Path:
    """Write the same for CIWAE, and in networks for MIWAE with eight groups."""
    networks = _Networks(archive, data, device)
    estimators = studies.LOOSER_ESTIMATORS
    parts = [snr.at_offset(o, studies.CIWAE_SWEPT, estimators) for o in studies.LOOSER_OFFSETS]
    for name in studies.NETWORKS_OF_ESTIMATORS:
        parts.append(snr.in_network(*networks.place(name), studies.LOOSER_SWEPT, estimators))
    rows = _counted(itertools.chain(*parts), studies.LOOSER_SWEEPS, "looser bounds")
    return archive.write_table("looser", rows, networks.origin(), numbers="%.7g")


def make_pictures(archive: Archive, data: str | Path | None) -> Path:
    """Write samples of the prior, steps along a latent unit, and posteriors in the plane.

    The first two are of the report's models on MNIST and of ours on Omniglot.
    """
    begun = time.monotonic()
    origin = code_and_date()
    found = {name: datasets.load(name, data) for name in ("mnist", OMNIGLOT)}
    released = _released_on_mnist(data)
    ours = {m: _of_full_length(archive, OMNIGLOT, m) for m in TABLE_METHODS}
    models = [(m, found["mnist"].test) for m in released.values()]
    for record in ours.values():
        models.append((model_of(record.experiment, record.weights()), found[OMNIGLOT].test))
    arrays = {
        "samples": _as_bytes([pictures.samples_of_prior(model) for model, _ in models]),
        "traversals": _as_bytes([pictures.traversal(*of_model) for of_model in models]),
        **_posteriors(found["mnist"]),
    }
    origin |= {
        "device": device_name("cpu"),
        "weights": {m: "/".join(r.path.parts[-3:]) for m, r in ours.items()},
        "data": [dataset.origin for dataset in found.values()],
        "seconds": {"evaluation": round(time.monotonic() - begun, 1)},
        **studies.PICTURES_AS_RECORDED,
    }
    return archive.write_arrays("pictures", arrays, origin)


def _released_on_mnist(data: str | Path | None) -> dict[str, Autoencoder]:
    """The report's reference models on MNIST, by method."""
    runs = [e for e in exhibits.released_runs() if e.group == "mnist-reference"]
    return {e.method: released_model(e, data, "cpu") for e in runs}


def _of_full_length(archive: Archive, dataset: str, method: str) -> Record:
    """Our record of a full training with seed 0, at whichever precision, here or in the project."""
    (wanted,) = plan(method, dataset, profile="full")
    for record in [*archive.records("full"), *Archive().records("full")]:
        if replace(record.experiment, precision=wanted.precision) == wanted:
            return record
    raise ReproError(f"there is no record of {method} at full length on {dataset}")


def _as_bytes(values: list[torch.Tensor]) -> np.ndarray:
    """Numbers from 0 to 1 as whole ones from 0 to 255."""
    return (torch.stack(values) * 255).round().to(torch.uint8).numpy()


def _posteriors(dataset: Dataset) -> dict[str, np.ndarray]:
    """Posteriors of the first test images in the plane, and q: [layout times image, ...]."""
    images = dataset.test[: studies.PLANE_IMAGES]
    x = torch.bernoulli(images, generator=generator(0, "pictures: binarise"))
    found: list[pictures.Posterior] = []
    with Progress(1, "posteriors") as bar:
        for number, layout in enumerate(studies.PLANE_LAYOUTS, 1):
            model = pictures.in_the_plane(layout, dataset.train)
            found += [pictures.posterior(model, image) for image in x]
            bar.fraction(number / len(studies.PLANE_LAYOUTS))
    arrays = {
        "inputs": _as_bytes(list(x)),
        "density": _as_bytes([posterior.density for posterior in found]),
    }
    for name in ("log_px", "kl", "mu", "sigma", "centre", "reach"):
        arrays[name] = np.stack([np.asarray(getattr(posterior, name)) for posterior in found])
    return arrays


class _Networks:
    """The networks in which gradients are measured, and where they come from."""

    def __init__(self, archive: Archive, data: str | Path | None, device: str):
        self.code = code_and_date()
        self.begun = time.monotonic()
        self.archive = archive
        self.data = data
        self.device = pick_device(device)
        self.datasets: dict[str, Dataset] = {}
        self.weights: dict[str, dict] = {}

    def place(self, name: str) -> tuple[str, Autoencoder, torch.Tensor]:
        """A place's name, model and training images."""
        dataset, whose, method = studies.NETWORKS_OF_ESTIMATORS[name]
        if dataset not in self.datasets:
            self.datasets[dataset] = datasets.load(dataset, self.data)
        model = Autoencoder(MODELS["reference"], [0])
        if whose == "report":
            group = f"{dataset}-reference"
            runs = {(e.group, e.method): e for e in exhibits.released_runs()}
            e = runs[group, method]
            model.load_run_state(0, released_files.released_weights(e, self.data))
            self.weights[name] = released_files.origin_of_weights(e)
        if whose == "ours":
            record = _of_full_length(self.archive, dataset, method)
            model.load_run_state(0, record.weights())
            self.weights[name] = {"record": "/".join(record.path.parts[-3:])}
        return name, model.to(self.device), self.datasets[dataset].train.to(self.device)

    def origin(self) -> dict:
        """The provenance of what was measured."""
        return self.code | {
            "device": device_name(self.device),
            "weights": self.weights,
            "data": [d.origin | {"split": "train"} for d in self.datasets.values()],
            "seconds": {"evaluation": round(time.monotonic() - self.begun, 1)},
            **studies.AS_RECORDED,
        }


def _counted(rows: Iterator[dict], count: int, title: str):
    """All rows as a data frame, with a progress bar."""
    import pandas as pd

    found: list[dict] = []
    with Progress(1, title) as bar:
        for measured in rows:
            found.append(measured)
            bar.fraction(len(found) / count)
    return pd.DataFrame(found)
