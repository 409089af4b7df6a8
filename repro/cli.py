"""``python -m repro``: fetch data, train, evaluate, print tables, and say what is there."""

import ast
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from repro import ReproError, __version__, as_path, one_of, open_streams, plural, records, training
from repro.catalogue import DATASETS, OMNIGLOT
from repro.ops import sweep
from repro.records import Archive, omniglot_of
from repro.records.archive import pairs_in, records_below
from repro.records.estimates import agrees, apart, digits_of, estimate_of, over_seeds
from repro.training import costs
from repro.words import exhibits, experiments

UNFINISHED = 3  # exit status of a training that stopped before its end, with its state kept


def _existing(context: click.Context, option: click.Parameter, results: str | None) -> Archive:
    """The archive to read from. Raises ReproError if the folder is not there."""
    archive = Archive(results)
    if not archive.folder.is_dir():
        raise ReproError(f"there is no folder {archive.folder}; name the one with the records")
    return archive


def path(given: str) -> Path:
    """The path ``given`` on the command line, where a shell may have left a ~."""
    return as_path("the path", given)


_results = partial(
    click.option, "--results", "archive", help="Folder of the records. Default: results."
)
results_option = _results(callback=lambda context, option, results: Archive(results))
existing_results_option = _results(callback=_existing)
data_option = click.option("--data", help="Folder to read from instead of the user's cache.")
device_option = click.option(
    "--device", default="auto", help="cpu or cuda; auto: cuda if there is one."
)
read_profile_option = click.option(
    "--profile",
    default="best",
    help="smoke, short, full; best: of full and short, the one with most of what is wanted.",
)


def word_options(command):
    """Add to ``command`` an option for every field of an ``Experiment``."""
    for name, word in reversed(experiments.WORDS.items()):
        how = {"default": word.usual, "type": str, "help": word.help}
        command = click.option(experiments.option_of(name), name, **how)(command)
    return command


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def repro_command(context: click.Context) -> None:
    """Reproduce "Tighter Variational Bounds are Not Necessarily Better"."""
    if context.invoked_subcommand is None:
        print(context.get_help())


# In the order in which they are defined, which is that in which a user needs them.
repro_command.list_commands = lambda context: list(repro_command.commands)


@repro_command.command("train")
@word_options
@click.option("--time-limit", type=float, help="Stop after so many seconds, keeping the state.")
@click.option(
    "--milestones",
    default="log-px",
    help="Measured where stages of the learning rate end: "
    f"{', '.join(experiments.AT_MILESTONES)}; or none.",
)
@click.option("--no-milestones", "milestones", flag_value="none", help="The same as none.")
@click.option(
    "--keep-state", is_flag=True, help="So that the same runs can go on to more --epochs later."
)
@data_option
@results_option
@device_option
@click.option(
    "--engine",
    default="auto",
    help=f"{', '.join(experiments.ENGINE_CHOICES)}; auto: the fastest that is worth its start.",
)
@click.option(
    "--fallback/--no-fallback",
    default=True,
    help="If the engine is not available, train with a simpler and slower one.",
)
def train_command(
    data, archive, device, time_limit, engine, fallback, milestones, keep_state, **words
) -> int:
    """Train, evaluate and write records.

    A run that has a record is not trained again. An interrupted training goes on when the same
    command is given again; its exit status is 3. With --keep-state, so does one that is done, to
    more epochs.
    """
    runs = experiments.plan(device=device, **words)
    measured = experiments.measured_at_milestones(milestones)
    how = (device, time_limit, engine, measured, fallback, keep_state)
    return _status_of_training(runs, data, archive, *how)


def _status_of_training(runs: list[experiments.Experiment], *how) -> int:
    there = training.run.train(runs, *how)
    for record in there:
        _print_scores(record)
    return 0 if len(there) == len(runs) else UNFINISHED


def _print_scores(record: records.Record) -> None:
    """Print a record's folder and every score, with its standard error over the test images."""
    print(record.path)
    for name, metric in record.metrics.items():
        print(f"  {name:21} {estimate_of(metric).shown_with(digits_of(name))!s:>17}")


@repro_command.command("sweep")
@click.argument("file", type=path)
@click.option("--job", help="Train this job's runs. Default: print the jobs and what they take.")
@click.option(
    "--device", default="cpu", help=f"Jobs are packed for it: {', '.join(costs.DEVICE_COSTS)}."
)
@click.option("--slot", type=float, default=60, help="Minutes of a job.")
@click.option("--memory", type=float, default=16, help="GB of a job.")
@click.option("--time-limit", type=float, help="Stop after so many seconds, keeping the state.")
@data_option
@results_option
def sweep_command(file, job, device, slot, memory, time_limit, data, archive) -> int:
    """Pack the many runs that FILE lists into jobs, or train one of the jobs.

    FILE is YAML: a list of groups of runs, in the words of train's options. A job that is stopped
    has exit status 3 and goes on when the same command is given again. workflow/sweep.smk gives the
    jobs to a scheduler.
    """
    jobs = sweep.jobs_of(sweep.listed_runs(file), device, slot, memory)
    if job is None:
        print(sweep.jobs_as_text(jobs, device, slot))
        return 0
    runs_of = {j.name: j.runs for j in jobs}
    runs = list(runs_of[one_of("job", job, runs_of)])
    with training.leases.one_gpu(device):
        return _status_of_training(runs, data, archive, device, time_limit)


@repro_command.command("status")
@read_profile_option
@existing_results_option
@click.option("--all", "every", is_flag=True, help="Name every record, and every missing run.")
def status_command(profile: str, archive: Archive, every: bool) -> None:
    """Say what is there and what is missing for each exhibit, and the commands that make it."""
    names = experiments.profiles_of(profile)
    there = archive.of_profiles(*names, "published")
    print(f"{' and '.join(names)} profile, {archive.folder}")
    missing = [e for e in exhibits.released_runs() if not archive.holds(e)]
    print(f"{'the report':10}  {plural(len(missing), 'released model')} to measure")
    for name in exhibits.IN_SMOKE if names == ["smoke"] else exhibits.EXHIBITS:
        used, lacking = archive.select(name, profile)
        if profile != "best":
            precision = used[0].experiment.precision if used else "float32"
            whole = exhibits.runs_of(name, names[0], omniglot_of(used))
            whole = [replace(e, precision=precision) for e in whole]
            lacking = [e for e in whole if not archive.holds(e)]
        epochs = " and ".join(dict.fromkeys(str(r.experiment.epochs) for r in used)) or "no"
        print(f"{name:10}  {plural(len(used), 'run')}, {epochs} epochs; {len(lacking)} missing")
        missing += lacking
    for record in there if every else ():
        e, made = record.experiment, record.provenance
        code = made.codes[0][:10]
        print(f"there    {e.folder}  ({e.epochs} epochs, {made.date[:10]}, commit {code})")
    for e in dict.fromkeys(missing) if every else ():
        print(f"missing  {e.folder}")
    for command in experiments.commands(missing):
        print(f"to make  {command}{archive.as_option}")


@repro_command.command("show")
@click.argument("folders", metavar="RECORD...", nargs=-1, required=True, type=path)
def show_command(folders: tuple[Path, ...]) -> None:
    """Print the scores of records, when and on what each was made, and the command that makes it.

    RECORD is the folder of one run, or a folder with several.
    """
    for folder in folders:
        for record in records_below(folder).values():
            made = record.provenance
            took = training.progress.duration(sum(made.seconds.values()))
            _print_scores(record)
            print(f"  {took}, {made.device}, {made.date[:10]}, commit {made.codes[0][:10]}")
            print(f"  {record.experiment.command}")


@repro_command.command("compare")
@click.argument("a", type=path)
@click.argument("b", type=path)
def compare_command(a: Path, b: Path) -> int:
    """Print how far the records A and B are apart, A minus B, and whether they agree.

    Of two folders, runs with the same path below both are compared. Runs that were trained for
    unequal numbers of epochs are compared by their bound after the last epoch that all have. If too
    few other seeds lie beside them to say what another training changes, the error is of the test
    images alone. The exit status is 1 if a difference is beyond three standard errors.
    """
    pairs = pairs_in(a, b)
    every = [record for pair in pairs for record in pair]
    for r in pairs[0]:
        beside = Archive(r.path.parents[2]).records(r.experiment.profile)
        every += [o for o in beside if o.experiment.shared == r.experiment.shared]
    groups: dict[experiments.Experiment, list] = {}
    for x, y in pairs:
        groups.setdefault(replace(x.experiment, seed=0), []).append((x, y))
    status = 0
    for group in groups.values():
        for x, y in group:
            print(f"A: {x.path}", f"B: {y.path}", sep="\n")
        status |= _print_apart(("A", "B", "A − B"), *_of_one_length(group, every))
    return status


def _of_one_length(pairs: list, every: list) -> tuple[list, list]:
    """Pairs, and all records beside them, after the last epoch that the pairs have in common."""
    lengths = {len(r.curve) for pair in pairs for r in pair}  # 0 if it was not trained here
    if len(lengths) == 1 or 0 in lengths:
        return pairs, every
    epoch = max(filter(experiments.is_evaluated, range(1, min(lengths) + 1)))
    print(f"after {plural(epoch, 'epoch')}, the last that all have")
    then = [record.as_of(epoch) for record in every if len(record.curve) >= epoch]
    once = {(record.path.parents[2], record.experiment): record for record in then}
    return [(x.as_of(epoch), y.as_of(epoch)) for x, y in pairs], [*once.values()]


def _print_apart(heading: tuple, pairs: list, among=()) -> int:
    """Print every metric of both sides of pairs, and whether they agree; return 1 if they do not.

    Log p-hat is left out if it is by unequal numbers of samples.
    """
    both = [record for pair in pairs for record in pair]
    shared = set.intersection(*({*r.metrics} for r in both))
    if len({r.provenance.log_px_samples for r in both}) > 1:
        shared -= {"log_px", "minus_kl"}
    print(f"{'':23}", *(f"{word:>17}" for word in heading))
    differ = []
    for name in filter(shared.__contains__, both[0].metrics):
        difference = apart(pairs, name, among)
        sides = [over_seeds(side, name, (), digits_of(name)) for side in zip(*pairs, strict=True)]
        shown = [replace(cell, seeds=1) for cell in (*sides, difference)]
        print(f"  {name:21}", *(f"{cell!s:>17}" for cell in shown))
        if not agrees(difference):
            differ.append(name)
    said = f"differ in {', '.join(differ)}" if differ else "agree within their errors"
    print(f"they {said}; the difference's error is of {difference.error_of.value}")
    return 1 if differ else 0


@repro_command.command("tables")
@click.argument("name", default="table1")
@read_profile_option
@existing_results_option
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "markdown", "latex"]), default="text"
)
def tables_command(name: str, profile: str, archive: Archive, form: str) -> None:
    """Print the table NAME from the records: table1, table2 or figure4."""
    from repro.studies.frames import as_text
    from repro.studies.tables import TABLES

    table = TABLES[one_of("table", name, TABLES)](profile, archive)
    table.attrs["missing"] = [f"{line}{archive.as_option}" for line in table.attrs["missing"]]
    print(as_text(table, form, name))


@repro_command.command("figures")
@click.argument("names", nargs=-1)
@read_profile_option
@existing_results_option
@click.option("--folder", type=path, default=".", help="Where to draw them.")
def figures_command(names: tuple[str, ...], profile: str, archive: Archive, folder: Path) -> None:
    """Draw the figures NAMES as SVG and PNG: figure1 to figure7, or one that a page shows:
    corrected, bound, preregistered; or all."""
    from repro.studies.figures import FIGURES, draw
    from repro.studies.style import save

    wanted = [*FIGURES] if {*names} <= {"all"} else [one_of("figure", n, FIGURES) for n in names]
    folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        figure = draw(name, profile, archive)
        for ending in ("svg", "png"):
            print(save(figure, folder / f"{name}.{ending}"))


@repro_command.command("evaluate")
@click.argument("path", type=path)
@click.option("--samples", type=click.IntRange(1), help="K of log p-hat. Default: the record's.")
@click.option("--model", help="FILE.py:MODEL of a model of your own.")
@click.option("--dataset", help="Score other images: a dataset's name, or FILE.npz.")
@data_option
@device_option
def evaluate_command(path: Path, samples: int | None, model, dataset, data, device: str) -> int:
    """Evaluate the weights of the record in PATH again, beside what was recorded.

    The exit status is 1 if a score is not within three standard errors of the recorded one. Other
    images, and log p-hat with another number of samples, are not compared.
    """
    record = records.read(path)
    experiments.check_own_files(record.experiment, model=model)
    if dataset is not None:
        record = replace(record, experiment=experiments.with_images(record.experiment, dataset))
    now = training.run.evaluate_again(record, samples, data, device)
    for title, r in (("now", now), ("recorded", record)):
        e, made = r.experiment, r.provenance
        where = f"{made.evaluated_on or made.device}, {made.data['variant']}"
        print(f"{title}: K = {made.log_px_samples}, binarise {e.binarise}, seed {e.seed}, {where}")
    if now.provenance.data["sha256"] != record.provenance.data["sha256"]:
        print("these are other images than the recorded ones")
        _print_scores(now)
        return 0
    return _print_apart(("now", "recorded", "difference"), [(now, record)])


@repro_command.command("data")
@click.argument("names", nargs=-1)
@data_option
def data_command(names: tuple[str, ...], data: str | None) -> None:
    """Fetch and verify the datasets NAMES; without NAMES, all of them."""
    from repro import datasets

    for name in names or DATASETS:
        found = datasets.load(name, data)
        sizes = f"{len(found.train):,} training and {len(found.test):,} test images"
        print(f"{name}: {sizes}; {found.variant}")


@repro_command.command("check")
@data_option
@device_option
def check_command(data: str | None, device: str) -> int:
    """Try this machine: data, every engine and precision, a training that is interrupted.

    Ends with the engine and the precision to use. The exit status is 1 if something is at fault.
    """
    from repro.ops import machine

    device = training.run.pick_device(device)
    passed = []
    faults = 0
    for found in machine.tried(device, data):
        if isinstance(found, machine.Choice):
            passed.append(found)
        else:
            print(found, flush=True)
            faults += not found.ok
    print(*machine.advice(passed), sep="\n")
    print(f"{plural(faults, 'fault')} found" if faults else "nothing is at fault")
    return 1 if faults else 0


@repro_command.command("audit")
@data_option
@results_option
@device_option
@click.option(
    "--omniglot",
    type=click.Choice(["omniglot", "omniglot-lake"]),
    default=OMNIGLOT,
    help="Which 28x28 version.",
)
def audit_command(data, archive: Archive, device: str, omniglot: str) -> None:
    """Measure the report's released weights again, those that have no record yet.

    Its logs are summed up, and its Omniglot models are tested on each drawer's drawings.
    """
    from repro.studies import remeasured

    runs = exhibits.released_runs(omniglot)
    for name in ("logs", "checkpoints"):
        remeasured.write_table(name, archive, data)
    remeasured.sum_up_figure4(archive, data)
    todo = [e for e in runs if not archive.holds(e)]
    print(f"{len(todo)} of {len(runs)} models to measure")
    for e in todo:
        remeasured.remeasure(e, archive, data, device)
    for name in ("drawers", "best", "proposals"):
        remeasured.write_table(name, archive, data, device)


@repro_command.command("gradients")
@data_option
@results_option
@device_option
def gradients_command(data, archive: Archive, device: str) -> None:
    """Measure signal-to-noise ratios of both networks' gradients, in a small model and on MNIST.

    On MNIST, the gradients of all bounds are measured with all estimators, and those of three
    bounds with up to 256 samples, too. It takes some hours on one core.
    """
    from repro.studies.designs import DESIGNS
    from repro.studies.gradient_runs import measure_signal

    for name in DESIGNS:
        if not _is_there(archive.table_path(name)):
            print(f"wrote {measure_signal(name, archive, data, device)}", flush=True)


def _is_there(path: Path) -> bool:
    """True if measurements have been written; then it says so."""
    there = path.exists()
    if there:
        print(f"{path} is there already; make it again with --results ELSEWHERE")
    return there


@repro_command.command("likelihood")
@click.option("--model", help="FILE.py:MODEL; only records of this model of your own.")
@data_option
@existing_results_option
@device_option
def likelihood_command(model: str | None, data, archive: Archive, device: str) -> None:
    """Measure log p(x) of every model whose weights are kept, by annealed importance sampling.

    It takes some minutes for each on one core. A model that was measured is not measured again.
    """
    from repro.studies import likelihood_runs, yardstick

    models = yardstick.measurable(archive)
    if model is not None:
        name = experiments.WORDS["model"].read("model", model)
        profiles = experiments.TRAINED_PROFILES
        models = [r for p in profiles for r in yardstick.with_weights(archive, p, [name])]
    if not models:
        raise ReproError(
            f"there are no such models with weights in {archive.folder}, trained on the project's "
            "data; train some"
        )
    todo = [r for r in models if not archive.arrays_path(yardstick.name_of(r)).exists()]
    print(f"{len(todo)} of {len(models)} models to measure", flush=True)
    failed = []
    for number, record in enumerate(todo, 1):
        try:
            path = likelihood_runs.measure_likelihoods(record, archive, data, device)
            print(f"wrote {path} ({number} of {len(todo)})", flush=True)
        except ReproError as error:
            failed.append(f"{record.path}: {error}")
    if failed:
        raise ReproError(f"{len(failed)} of {len(todo)} could not be measured; {failed[0]}")


@repro_command.command("pictures")
@data_option
@results_option
def pictures_command(data, archive: Archive) -> None:
    """Draw from trained models, and train three with two latent variables to see posteriors."""
    from repro.studies import planes

    if not _is_there(archive.arrays_path("pictures")):
        print(f"wrote {planes.make_pictures(archive, data)}", flush=True)


@repro_command.command("verify")
@results_option
@click.option(
    "--notebooks/--records-only", default=True, help="Execute the exhibit notebooks again, too."
)
@click.option("--strict", is_flag=True, help="What git could not be asked is a fault, too.")
def verify_command(archive: Archive, notebooks: bool, strict: bool) -> int:
    """Check every record, and that every committed exhibit is what the records give."""
    from repro import verify

    checked = dict(verify.checked_records(archive))
    if not checked:
        raise ReproError(
            f"there are no records in {archive.folder}; those of the smoke profile are not verified"
        )
    faults = [f"{name}: {fault}" for name, fault in checked.items() if fault]
    whole = len(checked) - len(faults)
    print(f"{whole} of {len(checked)} records are as they were written", flush=True)
    project = records.root()
    kept = [*verify.unlike_git(project, archive), *verify.unknown_commits(project, archive)]
    if unasked := verify.unasked_of_git(project, archive):
        said = f"git could not be asked what is committed ({unasked})"
        print(f"not checked: {said}", file=sys.stderr, flush=True)
        if strict:
            faults.append(said)
    faults += [f"{name}: {fault}" for name, fault in (*kept, *verify.unlike_crate(project))]
    for name, fault in verify.exhibits_again(archive, project) if notebooks else ():
        if fault:
            faults.append(f"{name}: {fault}")
        print(f"{'differs' if fault else 'as committed':13} {name}", flush=True)
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if faults else 0


@repro_command.command("export")
@click.argument("file", type=path, required=False)
def export_command(file: Path | None) -> None:
    """Write everything into one archive that others can check: code, records, exhibits, book.

    FILE is repro-VERSION.zip unless it is given. In the unpacked archive, python -m repro verify
    checks every file and every number.
    """
    from repro.ops import export

    target = file or Path(f"repro-{__version__}.zip")
    said = export.write_archive(records.root(), target)
    print(f"wrote {target}: {said}")


if sys.flags.optimize > 1:  # Python has dropped docstrings, which are the commands' help
    for _node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body:
        if isinstance(_node, ast.FunctionDef) and _node.name.endswith("_command"):
            globals()[_node.name].help = ast.get_docstring(_node)


def main(args: list[str] | None = None) -> int:
    """Run the command line; a user's error is one line and exit status 2."""
    open_streams()
    try:
        return repro_command.main(args, prog_name="python -m repro", standalone_mode=False) or 0
    except ReproError as error:
        print(f"repro: {error}", file=sys.stderr)
    except click.ClickException as error:
        print(f"repro: {error.format_message()}", file=sys.stderr)
    except OSError as error:
        said = ReproError(f"{error.filename or 'a file'}: {error.strerror or error}")
        print(f"repro: {said}", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"repro: {error.name} is not installed; pip install -e . brings it", file=sys.stderr)
    except click.Abort:
        print("repro: interrupted", file=sys.stderr)
        return 130
    return 2
