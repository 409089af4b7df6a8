"""Plug-in of papermill for this project's notebooks: a default output path, and checks first.

papermill imports every ``papermill.engine`` entry point before it makes its command, so this module
can change that command. For a notebook that carries ``repro`` in its metadata, it checks and
completes the parameters. If something is wrong, there is one line and exit status 2 before a kernel
is started. A fault that shows later, such as a folder without the data, is one line, too. Other
notebooks are left alone.
"""

import ast
import base64
import contextlib
import json
import logging
import os
import sys
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path

import click

from repro import ReproError, as_path, first_line, one_of, open_streams, records, training
from repro.words import exhibits
from repro.words.experiments import ENGINE_CHOICES, WORDS, plan, profile_called, words_in

INJECTED = ("inject_paths", "inject_input_path", "inject_output_path")
NAMES = ("results", "data", "tag")  # whatever they look like
STOPPED = "papermill: stopped; if training had begun, the same command goes on from there"


def __getattr__(name: str):
    """``ReproEngine`` is papermill's own engine; it is registered to have this module imported."""
    if name == "ReproEngine":
        from papermill.engines import NBClientEngine

        return NBClientEngine
    raise AttributeError(name)


class CheckedCommand(click.Command):
    """The papermill command, extended by checks of the parameters of this project's notebooks."""

    def invoke(self, context: click.Context):
        """Execute the notebook; for this project's, report an error in one line."""
        ours = False
        try:
            ours = complete(context.params)
            return super().invoke(context)
        except ReproError as error:
            _give_up(error)
        except KeyboardInterrupt:
            if not ours:
                raise
            # nbclient's tasks die with the kernel, and asyncio would print tracebacks at the end
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            print(STOPPED, file=sys.stderr)
            sys.exit(1)
        except Exception as error:
            if getattr(error, "ename", None) != ReproError.__name__:
                raise
            _give_up(error.evalue)


def _give_up(why) -> None:
    """Print an error in one line, and exit with status 2."""
    print(f"papermill: {why}", file=sys.stderr)
    sys.exit(2)


class _CommandToCome(MetaPathFinder):
    """Finds ``papermill.cli``, and makes a ``CheckedCommand`` of the command in it."""

    def find_spec(self, name: str, path, target=None):
        """Find the module as usual, and let ``_execute`` execute it."""
        spec = PathFinder.find_spec(name, path) if name == "papermill.cli" else None
        if spec is not None:
            spec.loader.exec_module = partial(_execute, spec.loader.exec_module)
        return spec


def _execute(exec_module, cli) -> None:
    open_streams()
    exec_module(cli)
    cli.papermill.__class__ = CheckedCommand


sys.meta_path.insert(0, _CommandToCome())


def complete(given: dict) -> bool:
    """Check and complete papermill's arguments ``given``; False if the notebook is not ours.

    Those of another project's notebook are not changed.
    """
    import yaml
    from jupyter_client.kernelspec import KernelSpecManager

    path = given["notebook_path"]
    ours = _notebook(path) if path else None
    if ours is None or given["help_notebook"]:
        return False
    stem = Path(path).stem
    values = given_parameters(given)
    given |= dict.fromkeys([name for name in given if name.startswith("parameters")], ())
    given["parameters_base64"] = (base64.b64encode(yaml.safe_dump(values).encode()),)
    if not values and not any(given[name] for name in INJECTED):  # which replaces the cell
        values = default_parameters(ours, "injected-parameters")
    if given["cwd"] and not Path(given["cwd"]).is_dir():
        raise ReproError(f"there is no folder {given['cwd']} to run the notebook in; make it first")
    with contextlib.chdir(given["cwd"] or "."):
        name = checked_name(ours, values, stem)
    if given["kernel"] is not None:
        one_of("kernel", given["kernel"], KernelSpecManager().find_kernel_specs())
    given["output_path"] = _output(given["output_path"], f"{stem}-{name}" if name else stem)
    if given["output_path"] != "-" and not given["stdout_file"] and not given["log_output"]:
        given |= {"stdout_file": click.get_text_stream("stdout", "utf-8"), "progress_bar": False}
    return True


def _output(given: str | None, name: str) -> str:
    """Path of an executed notebook: as given, or under its name beside this project's others."""
    if given:
        folder = Path(given).parent
        if "://" not in given and given != "-" and not folder.is_dir():
            raise ReproError(f"there is no folder {folder} for the output; make it first")
        return given
    folder = records.root() / "_build" / "notebooks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReproError(
            f"{folder} cannot be made ({error.strerror}); give an output path after the notebook's"
        ) from None
    return os.path.relpath(folder / f"{name}.ipynb")


def _notebook(path: str) -> dict | None:
    """The notebook at ``path`` if it is one of ours."""
    try:
        is_file = Path(path).is_file()  # which can be read again, unlike a pipe
        notebook = json.loads(Path(path).read_text(encoding="utf-8")) if is_file else {}
        return notebook if "repro" in notebook.get("metadata", {}) else None
    except (OSError, ValueError, AttributeError, RecursionError):  # it is no notebook
        return None


def given_parameters(given: dict) -> dict:
    """The notebook's parameters in the options ``given``, each of which is read once, as a pipe is.

    They are those of papermill, but for YAML's octal numbers and the like, and folders, which are
    texts: 2024 is no number.
    """
    from papermill.cli import _resolve_type
    from papermill.iorw import papermill_io

    from repro.words.core_yaml import read_yaml

    what = "the parameters given as YAML"
    how = "write them as 'name: value'"
    values: dict = {}
    try:
        coded = ["".join(text.split()) for text in given["parameters_base64"]]
        texts = [base64.b64decode(text, validate=True) for text in coded]
        texts += [papermill_io.get_handler(f).read(f) for f in given["parameters_file"]]
    except (OSError, ValueError) as error:
        raise ReproError(f"{what} cannot be read ({first_line(error)}); {how}") from None
    for text in [*texts, *given["parameters_yaml"]]:
        named = read_yaml(text, what) or {}
        if not isinstance(named, dict):
            raise ReproError(f"{what} cannot be read, since they have no names; {how}")
        values |= named
    for name, text in given["parameters"]:
        values[name] = text if name in NAMES else _resolve_type(text)
    return values | dict(given["parameters_raw"])


def default_parameters(notebook: dict, tag: str = "parameters") -> dict:
    """The parameters and their values in a notebook's cell with a ``tag``; none without a cell."""
    sources = [c["source"] for c in notebook["cells"] if tag in c["metadata"].get("tags", [])]
    found = {}
    try:
        for node in ast.parse("".join(sources[0]) if sources else "").body:
            if isinstance(node, ast.Assign):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    except (AttributeError, SyntaxError, ValueError):
        raise ReproError(f"the notebook's cell '{tag}' is not of names and values alone") from None
    return found


def checked_name(notebook: dict, given: dict, stem: str = "") -> str:
    """Check the parameters ``given``, and return an ending for the executed notebook's name.

    ``stem`` is the notebook's name. Raises ReproError if a parameter's name or value is wrong.
    """
    known = default_parameters(notebook)
    names = known | WORDS if "method" in known else known
    for parameter in given:
        if not str(parameter).startswith("PAPERMILL_"):  # as papermill's own may be
            one_of("parameter", parameter, names)
    values = known | given
    if values.get("data") is not None:
        as_path("data", values["data"])
    archive = records.Archive(values.get("results"))
    if "method" in values:
        return _checked_training(values, archive)
    if values.get("profile", "best") == "best":
        return ""
    profile = profile_called(values["profile"]).name
    if stem in exhibits.EXHIBITS:
        exhibits.runs_of(stem, profile)
    return profile


def _checked_training(values: dict, archive: records.Archive) -> str:
    """A name for the runs that the training notebook is asked for, if they can be trained."""
    one_of("engine", values.get("engine", "auto"), ENGINE_CHOICES)
    device = values.get("device", "auto")
    runs = plan(device=device, **words_in(values))
    device = training.run.pick_device(device)
    training.run.check_precision(runs, archive, device)
    first = runs[0]
    what = first.name if len(runs) == 1 else f"{len(runs)}-runs"
    return f"{first.profile}-{first.setting_folder}-{what}"
