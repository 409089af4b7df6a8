"""What papermill does with this project's notebooks: a default output path, and checks first.

papermill imports every ``papermill.engine`` entry point before it reads its command line. So this
module can stand in front of that command: for a notebook that carries ``repro`` in its metadata it
completes the arguments and checks the parameters. If one is wrong, there is one line and exit
status 2 before a kernel is started. What turns out to be wrong later, such as a folder without the
data, is one line, too. Other notebooks are left alone.
"""

import ast
import json
import os
import sys
from pathlib import Path

import click

from repro import ReproError, one_of

_click_main = click.Command.main


def __getattr__(name: str):
    """``ReproEngine`` is papermill's own engine; it is registered to have this module imported."""
    if name == "ReproEngine":
        from papermill.engines import NBClientEngine

        return NBClientEngine
    raise AttributeError(name)


def _main_with_checks(self, args=None, *rest, **options):
    """click's entry, with our arguments completed if papermill runs one of our notebooks."""
    if self.name == "papermill" and args is None:
        try:
            args = complete(self, sys.argv[1:])
        except ReproError as error:
            _give_up(error)
    try:
        return _click_main(self, args, *rest, **options)
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
    """papermill's arguments, checked and completed if the notebook is one of ours."""
    try:
        given = command.make_context("papermill", list(args), resilient_parsing=True).params
    except click.ClickException:
        return args  # papermill says what is wrong
    path = given.get("notebook_path")
    ours = _notebook(path) if path else None
    if ours is None or given.get("help_notebook"):
        return args
    from repro import records  # here, because papermill imports this module for every notebook

    stem = Path(path).stem
    name = checked_name(ours, given_parameters(given), stem)
    if not given.get("output_path"):
        folder = records.root() / "_build" / "notebooks"
        folder.mkdir(parents=True, exist_ok=True)
        output = f"{stem}-{name}.ipynb" if name else f"{stem}.ipynb"
        args = [*args, os.path.relpath(folder / output)]
    redirected = given.get("stdout_file") or given.get("log_output")
    if given.get("output_path") != "-" and not redirected:
        args = ["--stdout-file", "-", "--no-progress-bar", *args]
    return args


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
        said = str(error).splitlines()[0]
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
    for parameter in given:
        one_of("parameter", parameter, known)
    values = known | given
    if "method" in values:
        return _checked_training(values)
    if "profile" in values and values["profile"] != "best":
        return _checked_exhibit(stem, values["profile"])
    return ""


def _checked_exhibit(name: str, profile_name: str) -> str:
    """The profile of an exhibit's notebook, if the exhibit can be made of it."""
    from repro import exhibits, experiments

    profile = experiments.profile(profile_name).name
    if name in exhibits.EXHIBITS:
        exhibits.runs_of(name, profile)
    return profile


def _checked_training(values: dict) -> str:
    """A name for the runs that the training notebook is asked for, if they can be trained."""
    from repro.experiments import plan
    from repro.lab.engines import ENGINE_CHOICES
    from repro.lab.run import pick_device

    one_of("engine", values.get("engine", "auto"), ENGINE_CHOICES)
    other = ("profile", "data", "results", "engine")
    words = {name: value for name, value in values.items() if name not in other}
    runs = plan(profile_name=values["profile"], **words)
    pick_device(values.get("device", "auto"))
    first = runs[0]
    what = first.name if len(runs) == 1 else f"{len(runs)}-runs"
    return f"{first.profile}-{first.group}-{what}"
