"""``python -m repro``: fetch data, train, evaluate, print tables, say what is there. Notebooks call the same functions."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import torch

from repro import ReproError, evaluation, experiments, likelihood, one_of, published, records, snr, training
from repro import data as datasets
from repro.data import Dataset
from repro.experiments import PROFILES, Experiment
from repro.models import MODELS, Autoencoder
from repro.program import ENGINES
from repro.records import Record

BEST = "smoke, short, full; best: the one of full and short with most of what is wanted."
WORTH_COMPILING = 300.0  # seconds that one run trains on the CPU, before half a minute is spent on compiling
BINARISATIONS = 5  # of the test set, to see how much the choice of one matters
UNFINISHED = 3  # exit status of a training stopped before its end, with its state kept


def pick_device(name: str = "auto") -> str:
    """``auto`` is the accelerator where there is one. Raises ReproError where ``name`` cannot be had."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError
    except (RuntimeError, AssertionError):
        raise ReproError(f"device '{name}' cannot be had here; use cpu" + " or cuda" * torch.cuda.is_available()) from None
    return name


def train(
    runs: list[Experiment],
    data: str | Path | None = None,
    results: str | Path | None = None,
    device: str = "auto",
    time_limit: float | None = None,
    engine: str = "auto",
    milestones: bool = True,
) -> list[Record]:
    """Train ``runs`` side by side, evaluate each and write its record; what has a record is not trained again.

    Returns the records; fewer than ``runs`` where ``time_limit`` (seconds, from this call on) or an interrupt came first.
    The same call goes on from there. The limit is looked at between two steps, and between two evaluations of trained runs.
    ``milestones``: measure log p-hat at milestones too, which on the CPU takes minutes each, and not at the end alone.
    """
    device, begun, origin = pick_device(device), time.monotonic(), records.provenance()
    one_of("engine", engine, ("auto", *ENGINES))
    if time_limit is not None and not time_limit >= 0:
        raise ReproError(f"the time limit is {time_limit:g}; give seconds, 0 or more")
    missing = [e for e in runs if not records.exists(e, results)]
    for e in runs:
        if e not in missing:
            print(f"{records.path_of(e, results)} is there already; remove it first to make it again", flush=True)
    state = records.path_of(runs[0], results).with_name(f"unfinished-{training.fingerprint(runs)}.pt")
    if not missing:
        state.unlink(missing_ok=True)
    else:
        with only_one(missing, results):
            done, before = 0, None
            if state.exists():  # runs that have their records by now were trained with the others
                missing, done, before = training.unfinished(state)
            dataset, other = datasets.load(runs[0].dataset, data), elsewhere(runs[0].dataset, data)
            chosen = before if before and engine == "auto" else engine
            engine = say_what_will_happen(missing, dataset, device, chosen, done, before is not None, milestones)

            def late() -> bool:
                return time_limit is not None and time.monotonic() - begun > time_limit

            with interrupt() as interrupted, Progress(missing[0].epochs) as bar:
                code = (origin["commit"] or "unknown") + records.CHANGES * bool(origin["dirty"])
                how = {"commit": code, "engine": engine, "milestones": milestones}
                fit = training.fit(missing, dataset, state, device, lambda: interrupted() or late(), bar.training, **how)
            if not fit.finished:
                print(f"stopped at epoch {fit.epoch + 1}, step {fit.step}; the same command goes on from there", flush=True)
            elif (done < fit.epoch and (late() or interrupted())) or not write_records(fit, dataset, other, origin, results, device, late):
                print("trained, and stopped before all was evaluated; the same command goes on from there", flush=True)
            else:
                state.unlink(missing_ok=True)
                print(f"done in {duration(time.monotonic() - begun)}", flush=True)
    return [records.get(e, results) for e in runs if records.exists(e, results)]


@contextlib.contextmanager
def only_one(runs: list[Experiment], results: str | Path | None = None) -> Iterator[None]:
    """Raise ReproError where another process trains one of ``runs``, or where no record can be written."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        for path in (records.path_of(e, results) for e in runs):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.with_name(f"unfinished-{path.name}.lock")
            try:
                held.enter_context(FileLock(file, timeout=0))
            except Timeout:
                raise ReproError(
                    f"{path} is being trained already, by another process; wait for it, or name another folder for the results"
                ) from None
            held.callback(file.unlink, missing_ok=True)
        yield


def elsewhere(name: str, data: str | Path | None = None) -> Dataset | None:
    """The dataset on which models trained on ``name`` are tested too; None, with a line that says why, where it is not to be had."""
    try:
        return datasets.load(datasets.ELSEWHERE[name], data) if name in datasets.ELSEWHERE else None
    except ReproError as error:
        print(f"SSIM on {datasets.ELSEWHERE[name]} will be left out: {error}", flush=True)
        return None


def assess(model: Autoencoder, dataset: Dataset, other: Dataset | None, seeds: list[int], samples: int, title: str) -> list[dict]:
    """For each run, what its record says of the trained model: ``metrics``, ``grids`` and ``images``."""
    with Progress(1, f"log p-hat of {title}") as bar:
        values = evaluation.measure(model, dataset.test, seeds, samples, bar.fraction)
    metrics = [evaluation.summary(v, seed) for v, seed in zip(values, seeds, strict=True)]
    grids = dict(zip(("inputs", "reconstructions"), evaluation.reconstructions(model, dataset.test, seeds), strict=True))
    if other:
        for m, similarity in zip(metrics, evaluation.elsewhere(model, other.test, seeds), strict=True):
            m[f"ssim_on_{other.name}"] = similarity
        there = evaluation.reconstructions(model, other.test, seeds)
        grids |= dict(zip(("inputs_elsewhere", "reconstructions_elsewhere"), there, strict=True))
    return [
        {"metrics": m, "grids": {name: grid[run] for name, grid in grids.items()}, "images": {k: v[k] for k in ("elbo", "iwae_64", "log_px", "ssim")}}
        for run, (m, v) in enumerate(zip(metrics, values, strict=True))
    ]


def write_records(fit: training.Fit, dataset: Dataset, other: Dataset | None, origin: dict, results, device: str, late: Callable[[], bool]) -> bool:
    """Evaluate each trained run that has no record yet, and write one; False where it became ``late`` in between."""
    written = False
    samples = PROFILES[fit.experiments[0].profile].log_px_samples
    curves = dict(zip(fit.experiments, fit.curves, strict=True))
    called = experiments.told_apart(fit.experiments)
    data = {"name": dataset.name, "variant": dataset.variant, "sha256": dataset.sha256}
    origin |= {"trained_by": fit.commits, "engines": fit.engines, "precision": fit.experiments[0].precision}
    origin |= {"device": records.device_name(device), "data": data, "log_px_samples": samples}
    for stack in fit.programs:
        seeds, begun = [e.seed for e in stack.experiments], time.monotonic()
        todo = [e for e in stack.experiments if not records.exists(e, results)]
        if not todo:
            continue
        if written and late():
            return False
        found = assess(stack.model, dataset, other, seeds, samples, ", ".join(called[e] for e in stack.experiments))
        seconds = {"training": round(fit.seconds / len(fit.experiments), 1), "evaluation": round((time.monotonic() - begun) / len(seeds), 1)}
        for run, e in enumerate(stack.experiments):
            if e in todo:
                measured = found[run]["metrics"]["log_px"]
                curve = [*curves[e][:-1], curves[e][-1] | {"log_px": measured["value"], "log_px_se": measured["se"]}]
                weights = stack.model.run_state(run)
                path = records.write(e, curve, **found[run], weights=weights, provenance=origin | {"seconds": seconds}, results=results)
                print(f"wrote {path}", flush=True)
        written = True
    return True


def say_what_will_happen(
    runs: list[Experiment], dataset: Dataset, device: str, engine: str, done: int = 0, going_on: bool = False, milestones: bool = True
) -> str:
    """Say what is going to be trained and how long that should take, from a short measurement. Returns the engine to use.

    ``going_on``: with an interrupted training, which has ``done`` epochs behind it.
    """
    first, steps = runs[0], len(dataset.train) // runs[0].batch_size
    print(f"{first.profile} profile: {', '.join(e.name for e in runs)}")
    print(f"{first.model} model on {dataset.variant}; {records.device_name(device)}")
    begins = f", going on from epoch {done + 1}" if done or going_on else ""
    print(f"{first.epochs} epoch{'s' * (first.epochs > 1)} of {steps} steps{begins}", end="; ", flush=True)
    left = first.epochs - done
    wanted = ("eager" if device == "cpu" else "compiled-graph") if engine == "auto" else engine
    wanted, per_step, why = training.try_engines(runs, dataset, device, wanted)
    if engine == "auto" and device == "cpu" and first.epochs * steps * per_step / len(runs) > WORTH_COMPILING:
        wanted, per_step, why = training.try_engines(runs, dataset, device, "compiled")
    model = Autoencoder(MODELS[first.model], [0]).to(device)
    for _ in range(2):  # the first time is a warm-up
        begun = time.monotonic()
        evaluation.iwae_bound(model, dataset.test[:100], [0], "estimate")
    per_weight = (time.monotonic() - begun) / (100 * 64)
    times = 1 + milestones * sum(done < m < first.epochs for m in experiments.MILESTONES)
    weights = len(dataset.test) * (64 * (left + 1) + times * PROFILES[first.profile].log_px_samples)
    total = left * steps * per_step + per_weight * weights * len(runs)
    print(f"{wanted} engine, {first.precision}; should take about {duration(total)}", flush=True)
    if why:
        print(f"{why}: {wanted} instead, which is slower", flush=True)
    if total > 600:
        print("that is long: --epochs makes it shorter, --profile smoke tries it out, --time-limit does it in parts", flush=True)
    return wanted


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as a person would say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextlib.contextmanager
def interrupt() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C or SIGTERM has come, so that training can stop between two steps."""
    came: list[int] = []
    try:
        before = {s: signal.signal(s, lambda number, frame: came.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A bar with time left at a terminal; elsewhere a line at each epoch's end and at least every minute."""

    def __init__(self, total: float, title: str = "training"):
        self.total, self.title, self.done, self.first = total, title, 0.0, None
        self.begun = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        from tqdm import tqdm

        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left{postfix}"
        self.bar = tqdm(total=self.total, desc=self.title, bar_format=form, leave=False) if sys.stderr.isatty() else None
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()

    def training(self, fit: training.Fit) -> None:
        """Show how far ``fit`` is, with the last loss and the test set's IWAE-64 of each run."""
        done = fit.epoch + fit.step / fit.steps_per_epoch
        called = experiments.told_apart(fit.experiments)
        bounds = [f"{called[e]} {curve[-1]['iwae_64']:.2f}" for e, curve in zip(fit.experiments, fit.curves, strict=True) if curve]
        loss = fit.losses[-1].mean().item() if fit.step else fit.curves[0][-1]["loss"]
        self.show(done, fit.note or f"loss {loss:.1f}  IWAE-64 {'  '.join(bounds) or '-'}", line=fit.step == 0, unit="epoch ")

    def fraction(self, done: float) -> None:
        """Show a fraction done."""
        self.show(done, self.title)

    def show(self, done: float, text: str, line: bool = False, unit: str = "") -> None:
        """Move the bar at a terminal; elsewhere print a line where one is due."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(text if unit else "", refresh=False)
            self.bar.update(done - self.bar.n)
            if now - self.printed > 0.5:  # the bar itself is drawn anew only where it has moved
                self.printed = now
                self.bar.refresh()
            return
        if self.first is None:
            self.first = (now, done)
        if line or now - self.printed > 60:
            (since, start), self.printed = self.first, now
            left = (self.total - done) * (now - since) / (done - start) if done > start else 0
            far = f"{unit}{done:.4g} of {self.total}" if unit else f"{done:.0%}"
            print(f"{far}  {text}" + (f"  {duration(left)} left" if left else ""), flush=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.pass_context
def cli(context: click.Context) -> None:
    """Reproduce "Tighter Variational Bounds are Not Necessarily Better"."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@cli.command()
@click.argument("names", nargs=-1)
@click.option("--data", help="Folder to read from instead of the user's cache.")
def data(names: tuple[str, ...], data: str | None) -> None:
    """Fetch and verify datasets, all of them where no NAMES are given."""
    for name in names or datasets.DATASETS:
        found = datasets.load(name, data)
        print(f"{name}: {len(found.train):,} training and {len(found.test):,} test images; {found.variant}")


@cli.command("train")
@click.option("--method", default="all", show_default=True, help="One or several of them, separated by commas; all: Table 1's five.")
@click.option("--dataset", help="Default: the profile's.")
@click.option("--model", default="reference", show_default=True)
@click.option("--M", "M", help="Groups of samples; M*K = 64.")
@click.option("--K", "K", help="Samples in a group.")
@click.option("--beta", help="Weight of the VAE's bound in CIWAE, one or several; 0.5 where not given.")
@click.option("--seed", default="0", show_default=True, help="One or several, separated by commas.")
@click.option("--epochs", help="Default: the profile's.")
@click.option("--profile", default="auto", show_default=True, help="smoke, short or full; auto: full with an accelerator, else smoke.")
@click.option("--init", default="default", show_default=True, help="default or burda.")
@click.option("--protocol", default="paper", show_default=True, help="paper, or released: as the report's released code trains.")
@click.option("--data", help="Folder to read datasets from.")
@click.option("--results", help="Folder to write records to.")
@click.option("--device", default="auto", show_default=True)
@click.option("--time-limit", type=float, help="Stop after so many seconds, with the state kept.")
@click.option("--engine", default="auto", show_default=True, help=f"{', '.join(ENGINES)}; auto: the fastest that is worth its start.")
@click.option("--milestones/--no-milestones", default=True, show_default=True, help="Measure log p-hat where stages of the learning rate end, too.")
@click.option("--precision", default="float32", show_default=True, help=f"Of training's matrix products: {', '.join(experiments.PRECISIONS)}.")
def train_command(profile, data, results, device, time_limit, engine, milestones, **words) -> int:
    """Train, evaluate and write records."""
    runs = experiments.plan(profile_name=profile, device=device, **words)
    there = len(train(runs, data, results, device, time_limit, engine, milestones))
    return 0 if there == len(runs) else UNFINISHED


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(1), help="K of log p-hat; default: the record's.")
@click.option("--data", help="Folder to read datasets from.")
@click.option("--device", default="auto", show_default=True)
def evaluate(path: Path, samples: int | None, data: str | None, device: str) -> None:
    """Evaluate the weights of the record in PATH again, beside what was recorded."""
    record, device = records.read(path), pick_device(device)
    e = record.experiment
    model = Autoencoder(MODELS[e.model], [e.seed], e.init, torch.zeros(MODELS[e.model].pixels))
    model.load_run_state(0, record.weights())
    dataset = datasets.load(e.dataset, data)
    with Progress(1, "log p-hat") as bar:
        K = samples or record.provenance["log_px_samples"]
        (metrics,) = evaluation.evaluate(model.to(device), dataset.test, [e.seed], K, bar.fraction)
    for name, m in metrics.items():
        was = record.metrics[name]
        print(f"{name:13} {m['value']:10.4f} +- {m['se']:.4f}   recorded {was['value']:10.4f} +- {was['se']:.4f}")


def released_model(e: Experiment, data: str | Path | None, device: str) -> Autoencoder:
    """The model with the report's released weights of a run."""
    model = Autoencoder(MODELS[e.model], [e.seed])
    model.load_run_state(0, published.weights(e, data))
    model = model.to(device)
    model.how = likelihood.fastest()
    return model


def remeasure(e: Experiment, data: str | Path | None = None, results: str | Path | None = None, device: str = "auto") -> Record:
    """Measure the report's released weights of a run with this project's evaluation, and write the record."""
    device, begun, origin = pick_device(device), time.monotonic(), records.provenance()
    dataset, samples = datasets.load(e.dataset, data), PROFILES[e.profile].log_px_samples
    model = released_model(e, data, device)
    (found,) = assess(model, dataset, elsewhere(e.dataset, data), [e.seed], samples, f"{e.group} {e.method}")
    (spread,) = evaluation.other_binarisations(model, dataset.test, [e.seed], BINARISATIONS)
    for name, sd in spread.items():
        found["metrics"][name]["binarisation_sd"] = sd
    data_used = {"name": dataset.name, "variant": dataset.variant, "sha256": dataset.sha256}
    origin |= {"device": records.device_name(device), "data": data_used, "log_px_samples": samples, "precision": "float32"}
    origin |= {"seconds": {"evaluation": round(time.monotonic() - begun, 1)}, "binarisations": BINARISATIONS}
    origin |= {"weights": {"file": published.file_of(e, "model"), "blob": published.BLOBS[published.file_of(e, "model")]}}
    path = records.write(e, [], **found, weights=None, provenance=origin, results=results)
    print(f"wrote {path}", flush=True)
    return records.read(path)


def by_drawer(e: Experiment, dataset: Dataset, data: str | Path | None, device: str) -> Iterator[dict]:
    """IWAE-64 of the report's Omniglot weights on every drawer's drawings of each third character, those to train on among them."""
    model = released_model(e, data, device)
    for split, drawers in datasets.DRAWERS.items():
        images = getattr(dataset, split).unflatten(0, (-1, len(drawers)))[::3]  # [character, drawer, pixels]
        values = evaluation.iwae_bound(model, images.flatten(0, 1), [e.seed], f"drawers: {split}").view(-1, len(drawers))
        for drawer, mean, sd in zip(drawers, values.mean(0).tolist(), values.std(0).tolist(), strict=True):
            yield {"method": e.method, "drawer": drawer, "split": split, "images": len(values), "iwae_64": mean, "iwae_64_sd": sd}


@cli.command()
@click.option("--data", help="Folder to read datasets and the released files from.")
@click.option("--results", help="Folder to write records to.")
@click.option("--device", default="auto", show_default=True)
@click.option("--omniglot", type=click.Choice(["omniglot", "omniglot-lake"]), default="omniglot-lake", show_default=True, help="Which 28x28 version.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many models.")
def audit(data, results, device, omniglot, count) -> None:
    """Measure the report's released weights again, those that have no record yet; sum up its logs; tell its drawers apart."""
    import pandas as pd

    for name, summary in (("logs", published.log_blocks), ("checkpoints", published.checkpoints)):
        if not (records.results_folder(results) / "published" / f"{name}.csv").exists():
            origin = records.provenance() | {"blobs": {f: b for f, b in published.BLOBS.items() if f.endswith(".h5")}}
            print(f"wrote {records.write_table(name, summary(published.experiments(omniglot), data), origin, results)}", flush=True)
    todo = [e for e in published.experiments(omniglot) if not records.exists(e, results)]
    print(f"{len(todo)} of {len(published.experiments(omniglot))} models to measure")
    for e in todo[:count]:
        remeasure(e, data, results, device)
    if count is None and not (records.results_folder(results) / "published" / "drawers.csv").exists():
        device, origin, dataset = pick_device(device), records.provenance(), datasets.load(experiments.OMNIGLOT, data)
        runs, rows = [e for e in published.experiments() if e.dataset == experiments.OMNIGLOT], []
        with Progress(1, "drawers") as bar:
            for e in runs:
                rows += by_drawer(e, dataset, data, device)
                bar.fraction(len(rows) / (20 * len(runs)))
        files = [published.file_of(e, "model") for e in runs]
        origin |= {"device": records.device_name(device), "blobs": {f: published.BLOBS[f] for f in files}}
        origin |= {"data": {"name": dataset.name, "variant": dataset.variant, "sha256": dataset.sha256}}
        print(f"wrote {records.write_table('drawers', pd.DataFrame(rows), origin, results)}", flush=True)


@cli.command()
@click.option("--data", help="Folder to read MNIST and the released files from.")
@click.option("--results", help="Folder to write to.")
@click.option("--device", default="auto", show_default=True)
def gradients(data, results, device) -> None:
    """Measure the signal-to-noise ratio of both networks' gradients, in a linear Gaussian model and on MNIST."""
    import pandas as pd

    path = records.results_folder(results) / "published" / "gradients.csv"
    if path.exists():
        print(f"{path} is there already; remove it first to make it again")
        return
    device, begun, origin = pick_device(device), time.monotonic(), records.provenance()
    released = next(e for e in published.experiments() if (e.method, e.dataset, e.model) == ("iwae", "mnist", "reference"))
    models = [Autoencoder(MODELS[released.model], [released.seed]) for _ in snr.NETWORKS]
    models[1].load_run_state(0, published.weights(released, data))
    dataset, rows = datasets.load(released.dataset, data), []
    parts = [snr.in_linear_gaussian(where) for where in snr.LINEAR_GAUSSIAN]
    parts += [snr.in_network(where, m.to(device), dataset.train.to(device)) for where, m in zip(snr.NETWORKS, models, strict=True)]
    total = len(snr.LAYOUTS) * (len(snr.LINEAR_GAUSSIAN) * snr.PROBLEMS + len(snr.NETWORKS) * snr.BATCHES)
    with Progress(1, "gradients") as bar:
        for row in itertools.chain(*parts):
            rows.append(row)
            bar.fraction(len(rows) / total)
    file = published.file_of(released, "model")
    origin |= {"device": records.device_name(device), "weights": {"file": file, "blob": published.BLOBS[file]}}
    origin |= {"data": {"name": dataset.name, "variant": dataset.variant, "sha256": dataset.sha256, "split": "train"}}
    origin |= {"linear_gaussian": snr.LINEAR_GAUSSIAN, "problems": snr.PROBLEMS, "seed": released.seed, "beta": snr.BETA}
    origin |= {"batches": snr.BATCHES, "batch_size": snr.BATCH_SIZE, "replicates": snr.REPLICATES}
    origin |= {"seconds": {"evaluation": round(time.monotonic() - begun, 1)}}
    print(f"wrote {records.write_table('gradients', pd.DataFrame(rows), origin, results, numbers='%.7g')}", flush=True)


@cli.command()
@click.argument("name", default="table1")
@click.option("--profile", default="best", show_default=True, help=BEST)
@click.option("--results", help="Folder to read records from.")
@click.option("--format", "form", type=click.Choice(["text", "csv", "markdown", "latex"]), default="text", show_default=True)
def tables(name: str, profile: str, results: str | None, form: str) -> None:
    """Print the table NAME, table1 or table2, from the records."""
    from repro import tables as made

    print(made.as_text(made.TABLES[one_of("table", name, made.TABLES)](profile, results), form))


@cli.command()
@click.argument("names", nargs=-1)
@click.option("--profile", default="best", show_default=True, help=BEST)
@click.option("--results", help="Folder to read records from.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where to draw them.")
def figures(names: tuple[str, ...], profile: str, results: str | None, folder: Path) -> None:
    """Draw the figures NAMES, figure1 to figure7 and corrected, all where none is named, each as SVG and PNG."""
    from repro.figures import FIGURES, draw, save

    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FIGURES:
        figure = draw(name, profile, results)
        for ending in ("svg", "png"):
            print(save(figure, folder / f"{name}.{ending}"))


@cli.command()
@click.option("--profile", default="best", show_default=True, help="smoke, short, full; best: the longest with records.")
@click.option("--results", help="Folder to read records from.")
def status(profile: str, results: str | None) -> None:
    """Say which records exist, which are missing, and the commands that make them."""
    used, missing = records.shown("table1", profile, results)
    name = [*(r.experiment for r in used), *missing][0].profile
    print(f"{name} profile, {records.results_folder(results)}")
    for record in [*records.read_all(name, results), *records.read_all("published", results)]:
        e, p = record.experiment, record.provenance
        print(f"there    {e.profile}/{e.group}/{e.name}  ({e.epochs} epochs, {p['date']}, commit {(p['commit'] or 'unknown')[:10]})")
    gaps = [e for e in [*experiments.wanted(name), *published.experiments()] if not records.exists(e, results)]
    for e in gaps:
        print(f"missing  {e.profile}/{e.group}/{e.name}")
    for command in experiments.commands(gaps):
        print(f"to make  {command}")


@cli.command("verify")
@click.option("--results", help="Folder to read records from.")
@click.option("--notebooks/--records-only", default=True, show_default=True, help="Execute the exhibit notebooks again, too.")
def verify_command(results: str | None, notebooks: bool) -> int:
    """Check every record, and that every committed exhibit is what the records give."""
    from repro import verify

    checked = dict(verify.results(results))
    if not checked:
        raise ReproError(f"there are no records in {records.results_folder(results)}")
    faults = [f"{name}: {fault}" for name, fault in checked.items() if fault]
    print(f"{len(checked) - len(faults)} of {len(checked)} records are as they were written", flush=True)
    for name in (*experiments.EXHIBITS, *experiments.STUDIES) if notebooks else ():
        fault = verify.notebook(records.root() / "notebooks" / f"{name}.ipynb", results)
        faults += [f"notebooks/{name}.ipynb: {fault}"] if fault else []
        print(f"{'differs' if fault else 'as committed':13} notebooks/{name}.ipynb", flush=True)
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if faults else 0


def main(args: list[str] | None = None) -> int:
    """Run the command line; a user's error is one line and exit status 2."""
    try:
        return cli.main(args, prog_name="python -m repro", standalone_mode=False) or 0
    except ReproError as error:
        print(f"repro: {error}", file=sys.stderr)
    except click.ClickException as error:
        print(f"repro: {error.format_message()}", file=sys.stderr)
    except OSError as error:
        print(f"repro: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
    except click.Abort:
        print("repro: interrupted", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
