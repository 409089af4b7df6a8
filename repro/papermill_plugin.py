"""What papermill does with this project's notebooks: a default output path, epoch lines at the terminal, checks first.

papermill imports every ``papermill.engine`` entry point before it reads its command line. So this module can stand in
front of that command: for a notebook that carries ``repro`` in its metadata it completes the arguments and checks the
parameters, one line and exit status 2 where one is wrong, before a kernel is started. What turns out to be wrong later,
such as a folder without the data, is one line too. Other notebooks are left alone.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

import click

from repro import ReproError, one_of, records

_main = click.Command.main


def __getattr__(name: str):
    """``ReproEngine``, papermill's own engine, under the name that is registered so that this module is imported."""
    if name == "ReproEngine":
        from papermill.engines import NBClientEngine

        return NBClientEngine
    raise AttributeError(name)


def _main_with_checks(self, args=None, *rest, **options):
    """click's entry, with our arguments completed where the command is papermill's and the notebook is ours."""
    if self.name == "papermill" and args is None:
        try:
            args = complete(self, sys.argv[1:])
        except ReproError as error:
            _give_up(error)
    try:
        return _main(self, args, *rest, **options)
    except Exception as error:
        if self.name != "papermill" or getattr(error, "ename", None) != ReproError.__name__:
            raise
        _give_up(error.evalue)


def _give_up(why) -> None:
    """What is wrong in one line, and exit status 2."""
    print(f"papermill: {why}", file=sys.stderr)
    sys.exit(2)


click.Command.main = _main_with_checks


def complete(command: click.Command, args: list[str]) -> list[str]:
    """papermill's arguments for one of our notebooks, checked and with what was left out; others come back unchanged."""
    try:
        given = command.make_context("papermill", list(args), resilient_parsing=True).params
    except click.ClickException:
        return args  # papermill says what is wrong
    path = given.get("notebook_path")
    ours = _notebook(path) if path else None
    if ours is None or given.get("help_notebook"):
        return args
    name = check(ours, parameters(given), Path(path).stem)
    if not given.get("output_path"):
        folder = records.root() / "_build" / "notebooks"
        folder.mkdir(parents=True, exist_ok=True)
        args = [*args, os.path.relpath(folder / f"{Path(path).stem}{name and '-'}{name}.ipynb")]
    if given.get("output_path") != "-" and not given.get("stdout_file") and not given.get("log_output"):
        args = ["--stdout-file", "-", "--no-progress-bar", *args]
    return args


def _notebook(path: str) -> dict | None:
    """The notebook at ``path`` where it is one of ours."""
    try:
        notebook = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    return notebook if isinstance(notebook, dict) and "repro" in notebook.get("metadata", {}) else None


def parameters(given: dict) -> dict:
    """The parameters as papermill will read them."""
    import base64

    import yaml
    from papermill.cli import _resolve_type
    from papermill.iorw import NoDatesSafeLoader, read_yaml_file

    values: dict = {}
    try:
        for text in given.get("parameters_base64") or []:
            values |= yaml.load(base64.b64decode(text), Loader=NoDatesSafeLoader) or {}
        for file in given.get("parameters_file") or []:
            values |= read_yaml_file(file) or {}
        for text in given.get("parameters_yaml") or []:
            values |= yaml.load(text, Loader=NoDatesSafeLoader) or {}
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ReproError(f"the parameters given as YAML cannot be read ({str(error).splitlines()[0]}); write them as 'name: value'") from None
    values |= {name: _resolve_type(value) for name, value in given.get("parameters") or []}
    return values | dict(given.get("parameters_raw") or [])


def defaults(notebook: dict) -> dict:
    """Names and values in the cell tagged ``parameters``."""
    cell = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
    assignments = [node for node in ast.parse("".join(cell["source"])).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}


def check(notebook: dict, given: dict, name: str = "") -> str:
    """A name for the executed notebook, called ``name`` now. Raises ReproError where a parameter's name or value is wrong."""
    known = defaults(notebook)
    for parameter in given:
        one_of("parameter", parameter, known)
    values = known | given
    if "profile" in values and values["profile"] != "best":
        from repro import experiments

        profile = experiments.profile(values["profile"]).name
        if "method" not in values:
            if name in experiments.EXHIBITS:
                experiments.exhibit(name, profile)
            return profile
    if "method" in values:
        from repro.__main__ import pick_device
        from repro.experiments import plan
        from repro.program import ENGINES

        one_of("engine", values.get("engine", "auto"), ("auto", *ENGINES))
        words = {k: v for k, v in values.items() if k not in ("profile", "data", "results", "engine")}
        runs = plan(profile_name=values["profile"], **words)
        pick_device(values.get("device", "auto"))
        return "-".join([runs[0].profile, runs[0].group, runs[0].name if len(runs) == 1 else f"{len(runs)}-runs"])
    return ""
