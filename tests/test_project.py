"""The project's own rules: imports run one way, files are in step, nothing is left of where it was built."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # a module imports only from layers above its own
    {"repro"},
    {"repro.bounds", "repro.data", "repro.likelihood"},
    {"repro.kernels", "repro.models", "repro.reported"},
    {"repro.experiments"},
    {"repro.evaluation", "repro.program", "repro.published", "repro.records", "repro.snr"},
    {"repro.released", "repro.tables", "repro.verify"},
    {"repro.training"},
    {"repro.audit"},
    {"repro.claims", "repro.figures"},
    {"repro.__main__", "repro.papermill_plugin", "repro.sphinx_ext"},
]


def test_imports_run_one_way():
    layer = {name: i for i, names in enumerate(LAYERS) for name in names}
    for path in (ROOT / "repro").glob("*.py"):
        module = "repro" if path.stem == "__init__" else f"repro.{path.stem}"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "repro":
                named = {f"repro.{a.name}" for a in node.names} & layer.keys() if node.module == "repro" else {node.module}
                for imported in named or {"repro"}:
                    inward = layer[imported] < layer[module] or module == "repro.papermill_plugin"
                    assert inward, f"{module} imports {imported}"


def test_environment_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["test"], *extras["book"]}
    listed = set(re.findall(r"^      - ([^-].*)$", (ROOT / "environment.yml").read_text(), re.M))
    assert listed == wanted
    assert f"python{project['requires-python']}" in (ROOT / "environment.yml").read_text()


def test_the_lock_holds_every_dependency_and_one_build_of_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "requirements.txt").read_text().split()}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"], *project["optional-dependencies"]["book"]]:
        assert re.split("[<>=]", requirement)[0].lower() in locked, requirement
    assert "torch==2.13.0\n" in (ROOT / "requirements.txt").read_text()


def test_the_readmes_commands_are_in_the_makefile():
    commands = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M))
    targets = set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert {"report", "test"} <= commands <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_notebooks_hold_no_logic():
    import nbformat

    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert "repro" in notebook.metadata, "the papermill plugin knows our notebooks by this"
        assert sum("parameters" in c.metadata.get("tags", []) for c in notebook.cells) == 1
        for c in notebook.cells:
            assert "execution" not in c.metadata, f"{path.name} holds timings: make notebooks"
            if c.cell_type == "code":
                tree = ast.parse(c.source)
                assert not [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.For, ast.While, ast.If, ast.Lambda))]


def test_nothing_tracked_names_a_machine_or_a_registry():
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.fail("not a git checkout")
    places = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "pypi" + ".org", "python" + "hosted"]
    for name in tracked.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yml", ".toml", ".txt", ".json", ".ipynb", ".cff", ""} and path.is_file():
            text = path.read_text()
            assert not [p for p in places if p in text], name
