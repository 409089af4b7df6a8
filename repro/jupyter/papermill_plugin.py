"""What papermill does with this project's notebooks: a default output path, and checks first.

papermill imports every ``papermill.engine`` entry point before it reads its command line. So this
module can stand in front of that command: for a notebook that carries ``repro`` in its metadata it
completes the arguments and checks the parameters. If one is wrong, there is one line and exit
status 2 before a kernel is started. What turns out to be wrong later, such as a folder without the
data, is one line, too. Other notebooks are left alone.
"""

import ast
import json
import logging
import os
import sys
from itertools import pairwise
from pathlib import Path

import click

from repro import ReproError, as_path, first_line, one_of, records, training
from repro.words import exhibits
from repro.words.experiments import ENGINE_CHOICES, WORDS, plan, words_in
from repro.words.experiments import profile as profile_of

NAMES_OF_FOLDERS = ("results", "data")  # whatever they look like
STOPPED = "papermill: stopped; if training had begun, the same command goes on from there"

_click_main = click.Command.main


def __getattr__(name: str):
    """``ReproEngine`` is papermill's own engine; it is registered to have this module imported."""
    if name == "ReproEngine":
        from papermill.engines import NBClientEngine

        return NBClientEngine
    raise AttributeError(name)


def _main_with_checks(self, args=None, *rest, **options):
    """click's entry, with our arguments completed if papermill runs one of our notebooks."""
    ours = False
    if self.name == "papermill" and args is None:
        given = sys.argv[1:]
        try:
            args = complete(self, given)
        except ReproError as error:
            _give_up(error)
        ours = args is not given
    if ours:
        options["standalone_mode"] = False  # so that an interrupt comes here
    try:
        return _click_main(self, args, *rest, **options)
    except click.Abort:
        if not ours:
            raise
        # nbclient's tasks die with the kernel, and asyncio would print their tracebacks at the end
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        print(STOPPED, file=sys.stderr)
        sys.exit(1)
    except click.ClickException as error:
        if not ours:
            raise
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if self.name != "papermill" or getattr(error, "ename", None) != ReproError.__name__:
            raise
        _give_up(error.evalue)


def _give_up(why) -> None:
    """Say what is wrong in one line, and exit with status 2."""
    print(f"papermill: {why}", file=sys.stderr)
    sys.exit(2)


click.Command.main = _main_with_checks


def complete(command: click.Command, args: list[str]) -> list[str]:
    """papermill's arguments, checked and completed if the notebook is one of ours.

    If it is another's, they are returned as they are.
    """
    as_given = args
    args = with_folders_as_text(args)
    try:
        given = command.make_context("papermill", list(args), resilient_parsing=True).params
    except click.ClickException:
        return as_given  # papermill says what is wrong
    path = given.get("notebook_path")
    ours = _notebook(path) if path else None
    if ours is None or given.get("help_notebook"):
        return as_given
    stem = Path(path).stem
    name = checked_name(ours, given_parameters(given), stem)
    _check_kernel(given.get("kernel"))
    if given.get("output_path"):
        _check_output(given["output_path"])
    else:
        output = f"{stem}-{name}.ipynb" if name else f"{stem}.ipynb"
        folder = _made_folder(records.root() / "_build" / "notebooks")
        args = [*args, os.path.relpath(folder / output)]
    redirected = given.get("stdout_file") or given.get("log_output")
    if given.get("output_path") != "-" and not redirected:
        args = ["--stdout-file", "-", "--no-progress-bar", *args]
    return args


def with_folders_as_text(args: list[str]) -> list[str]:
    """The same with ``-r`` for ``-p`` before the name of a folder, so that 2024 stays a text."""
    changed = list(args)
    for place, (option, name) in enumerate(pairwise(args)):
        if option in ("-p", "--parameters") and name in NAMES_OF_FOLDERS:
            changed[place] = "-r"
    return changed


def _check_kernel(name: str | None) -> None:
    """Raise ReproError if Jupyter has no kernel of this name."""
    from jupyter_client.kernelspec import KernelSpecManager

    known = KernelSpecManager().find_kernel_specs()
    if name is not None and name not in known:
        one_of("kernel", name, known)


def _check_output(path: str) -> None:
    """Raise ReproError if an output path is a file in a folder that is not there."""
    if "://" in path or path == "-":
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise ReproError(f"there is no folder {folder} for the output; make it first")


def _made_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReproError(
            f"{folder} cannot be made ({error.strerror}); give an output path after the notebook's"
        ) from None
    return folder


def _notebook(path: str) -> dict | None:
    """The notebook at ``path`` if it is one of ours."""
    try:
        notebook = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(notebook, dict) or "repro" not in notebook.get("metadata", {}):
        return None
    return notebook


def given_parameters(given: dict) -> dict:
    """The parameters as papermill will read them."""
    import yaml
    from papermill.cli import _resolve_type

    try:
        values = _parameters_in_yaml(given)
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        said = first_line(error)
        raise ReproError(
            f"the parameters given as YAML cannot be read ({said}); write them as 'name: value'"
        ) from None
    values |= {name: _resolve_type(value) for name, value in given.get("parameters") or []}
    return values | dict(given.get("parameters_raw") or [])


def _parameters_in_yaml(given: dict) -> dict:
    import base64

    import yaml
    from papermill.iorw import NoDatesSafeLoader, read_yaml_file

    values: dict = {}
    for text in given.get("parameters_base64") or []:
        values |= yaml.load(base64.b64decode(text), Loader=NoDatesSafeLoader) or {}
    for file in given.get("parameters_file") or []:
        values |= read_yaml_file(file) or {}
    for text in given.get("parameters_yaml") or []:
        values |= yaml.load(text, Loader=NoDatesSafeLoader) or {}
    return values


def default_parameters(notebook: dict) -> dict:
    """Names and values in the cell tagged ``parameters``."""
    cells = notebook["cells"]
    cell = next(c for c in cells if "parameters" in c["metadata"].get("tags", []))
    body = ast.parse("".join(cell["source"])).body
    assignments = [node for node in body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}


def checked_name(notebook: dict, given: dict, stem: str = "") -> str:
    """A name for the executed notebook, whose file is called ``stem``.

    Raises ReproError if a parameter's name or value is wrong.
    """
    known = default_parameters(notebook)
    names = known | WORDS if "method" in known else known
    for parameter in given:
        one_of("parameter", parameter, names)
    values = known | given
    if values.get("data") is not None:
        as_path("data", values["data"])
    if values.get("results") is not None:
        records.results_folder(values["results"])
    if "method" in values:
        return _checked_training(values)
    if "profile" in values and values["profile"] != "best":
        return _checked_exhibit(stem, values["profile"])
    return ""


def _checked_exhibit(name: str, profile_name: str) -> str:
    """The profile of an exhibit's notebook, if the exhibit can be made of it."""
    profile = profile_of(profile_name).name
    if name in exhibits.EXHIBITS:
        exhibits.runs_of(name, profile)
    return profile


def _checked_training(values: dict) -> str:
    """A name for the runs that the training notebook is asked for, if they can be trained."""
    one_of("engine", values.get("engine", "auto"), ENGINE_CHOICES)
    device = values.get("device", "auto")
    runs = plan(device=device, **words_in(values))
    device = training.run.pick_device(device)
    training.run.check_precision(runs, records.Archive(values.get("results")), device)
    first = runs[0]
    what = first.name if len(runs) == 1 else f"{len(runs)}-runs"
    return f"{first.profile}-{first.group}-{what}"
