"""Training on an image that has only what CONTRIBUTING says it needs."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import numpy as np
import pytest
from packaging.requirements import Requirement

from tests.helpers import ROOT

PROMISED = ("PyTorch", "NumPy", "tqdm", "click", "safetensors", "scikit-image")
PACKAGES = {"PyTorch": "torch"}  # where a name is not the package's
WITH_OTHERS = {  # imported, and brought by a package that is declared
    "jupyter-client": "jupyter",
    "nbformat": "jupyter",
    "nbclient": "papermill",
    "ipython": "jupyter",
    "matplotlib-inline": "jupyter",
    "docutils": "jupyter-book",
}
BARE = """
import json, sys
from importlib.machinery import PathFinder
from pathlib import Path

HIDDEN = set(json.loads(Path(__file__).with_name("hidden.json").read_text()))


class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


def plain(name):
    """A package's name as indices write it."""
    return re.sub("[-_.]+", "-", name).lower()


def with_what_they_need(names):
    """Packages, and what these bring along."""
    found = set()
    todo = [PACKAGES.get(name, name) for name in names]
    while todo:
        name = plain(todo.pop())
        if name not in found:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or ())
            todo += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A function that runs ``python -m repro`` where other packages cannot be imported."""
    folder = tmp_path_factory.mktemp("bare")
    there = with_what_they_need(PROMISED) | {"repro"}
    modules = metadata.packages_distributions().items()
    hidden = [module for module, of in modules if there.isdisjoint(map(plain, of))]
    assert {"yaml", "sklearn", "pandas", "pooch"} <= set(hidden)
    (folder / "hidden.json").write_text(json.dumps(hidden))
    (folder / "sitecustomize.py").write_text(BARE)
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    env.pop("REPRO_DATA_DIR", None)

    def run(*words):
        command = [sys.executable, "-m", "repro", *map(str, words)]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_the_promised_packages_train_evaluate_and_write_a_record(bare, tmp_path):
    images = np.random.default_rng(0).integers(0, 2, (104, 784))
    np.savez(tmp_path / "own.npz", train=images[:40], test=images[40:])
    words = ("--dataset", tmp_path / "own.npz", "--profile", "smoke", "--epochs", 1)
    measured = ("--milestones", "log-px,gradients", "--results", tmp_path / "results")
    done = bare("train", "--method", "iwae", *words, *measured)
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "results").rglob("provenance.json")
    assert (record.parent / "gradients.csv").exists()
    promise = re.search("Training needs only (.*?), so", (ROOT / "CONTRIBUTING.md").read_text())
    assert re.split(", | and ", promise.group(1)) == [*PROMISED]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", "--dataset", "mnist", "--data", "."), "mnist/train-images-idx3-ubyte.gz is"),
        (("train", "--dataset", "mnist"), "repro: pooch, which fetches files, is not installed"),
        (("train",), "repro: the small digits come with scikit-learn, which is not installed; "),
        (("sweep", ROOT / "workflow" / "sweeps" / "smoke.yaml"), "repro: yaml is not installed; "),
    ],
    ids=["mnist", "mnist fetched", "digits", "sweep"],
)
def test_what_else_is_needed_is_one_line(bare, words, line):
    done = bare(*words, *(("--profile", "smoke") if words[0] == "train" else ()))
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {plain(Requirement(r).name) for r in (*project["dependencies"], *extras["book"])}
    packages = metadata.packages_distributions()
    for path in (ROOT / "repro").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module)
            for name in {n.split(".")[0] for n in names} - sys.stdlib_module_names - {"repro"}:
                (package,) = {plain(p) for p in packages[name]}
                assert WITH_OTHERS.get(package, package) in declared, f"{path} imports {name}"
