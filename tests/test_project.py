"""The project's own rules: who imports whom, how code is written, and that files are in step."""

import ast
import collections
import doctest
import importlib
import re
import subprocess
import tomllib

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / "repro"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Lines of code, without the docstring, above which a function needs a reason.
LONGEST = 30
LONG_FUNCTIONS = {"training/run.py _train_missing": "the order of events of a training, told once"}


def tree_of(path):
    return ast.parse(path.read_text())


def imported_by(path):
    """The modules of this package that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("repro"):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("repro")}
    return found


ROOMS = ("words", "records", "training", "ops", "studies", "jupyter")
FACE = {"cli.py", "verify.py", "__main__.py"}  # beside the library, and knowing all rooms
MAY_KNOW = {  # room -> the rooms that it may import; the library's own files have no room
    "library": (),
    "words": (),
    "records": ("words",),
    "training": ("words", "records"),
    "ops": ("words", "records", "training"),
    "studies": ("words", "records", "training"),
}


def room_of(path):
    """The folder of a module; ``library`` or ``face`` for those in none."""
    folder, *_ = path.relative_to(PACKAGE).parts
    if folder in ROOMS:
        return folder
    return "face" if folder in FACE else "library"


@pytest.mark.parametrize("room", MAY_KNOW)
def test_no_room_imports_what_it_must_not_know(room):
    paths = [path for path in MODULES if room_of(path) == room]
    assert len(paths) >= 3
    forbidden = {*ROOMS, "cli", "verify"} - {room, *MAY_KNOW[room]}
    for path in paths:
        for module in imported_by(path):
            parts = module.split(".")
            assert len(parts) == 1 or parts[1] not in forbidden, f"{path} imports {module}"


def test_imports_have_no_circle():
    """A module that another imports at its top must not need that other one, over any detour."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    arrows = {}
    for name, path in names.items():
        own = name.removesuffix(".__init__")
        arrows[own] = (imported_by(path) & {n.removesuffix(".__init__") for n in names}) - {own}
    arrows = {name: targets - {"repro"} for name, targets in arrows.items()}
    done = set()
    while arrows:
        free = [name for name, targets in arrows.items() if targets <= done]
        assert free, f"these import one another: {sorted(arrows)}"
        done |= set(free)
        arrows = {name: targets for name, targets in arrows.items() if name not in done}


def public_definitions(path):
    """Names that a module defines at its top, without those that begin with an underscore."""
    for node in tree_of(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id


def test_a_public_name_means_one_thing():
    homes = collections.defaultdict(set)
    for path in MODULES:
        for name in public_definitions(path):
            if not name.startswith("_"):
                homes[name].add(str(path.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
    modules = {path.stem for path in MODULES} | {p.name for p in PACKAGE.rglob("*") if p.is_dir()}
    assert homes.keys() & modules == set()


def is_sequence(node):
    return isinstance(node, (ast.List, ast.Tuple, ast.JoinedStr)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_no_condition_is_a_multiplier():
    """Text or a list times a condition: ``[x] * (a > b)``, ``"s" * (n > 1)``, ``"s" * bool(n)``."""
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                sides = (node.left, node.right)
                if any(map(is_sequence, sides)):
                    others = [side for side in sides if not is_sequence(side)]
                    for other in others:
                        assert not isinstance(other, (ast.Compare, ast.BoolOp, ast.UnaryOp)), path
                        called = getattr(getattr(other, "func", None), "id", "")
                        assert called != "bool", f"{path}:{node.lineno}"


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def test_no_comprehension_contains_another_or_goes_through_three_things():
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, COMPREHENSIONS):
                inner = [n for n in ast.walk(node) if isinstance(n, COMPREHENSIONS)]
                assert inner == [node], f"{path}:{node.lineno}"
                assert len(node.generators) <= 2, f"{path}:{node.lineno}"


def test_no_f_string_contains_another():
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FormattedValue):
                inner = [n for n in ast.walk(node.value) if isinstance(n, ast.JoinedStr)]
                assert not inner, f"{path}:{node.lineno}"


def lines_of_code(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function):
        doc = function.body[0]
        lines -= doc.end_lineno - doc.lineno + 1
    return lines


def test_a_long_function_has_its_reason():
    found = set()
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and lines_of_code(node) > LONGEST:
                found.add(f"{path.relative_to(PACKAGE)} {node.name}")
    assert found == set(LONG_FUNCTIONS)


GUIDE = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_plan_of_the_house_names_every_module():
    (house,) = re.findall(r"```\nrepro/\n(.*?)```", GUIDE, re.DOTALL)
    modules = {path.stem for path in MODULES if not path.stem.startswith("__")}
    assert modules - {*re.findall(r"\w+", house)} == set()


def test_the_guide_names_only_what_there_is():
    """Names in code type, of the table of where to find things: the last part of each."""
    _, after = GUIDE.split("### Where to find things")
    (table,) = re.findall(r"\|.*\|\n", after.split("###")[0], re.DOTALL)
    source = "\n".join(path.read_text() for path in MODULES)
    for name in re.findall(r"`([\w.]+)`", table):
        *_, last = name.split(".")
        defined = rf"\b(def|class) {last}\b|^ *{last}\b.*="
        assert re.search(defined, source, re.MULTILINE), name
    for path in re.findall(r"`(\w+/[\w.]+)`", table):
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), path


def test_an_install_holds_every_folder_of_the_package():
    from setuptools import find_packages

    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set(find_packages(ROOT, include=config["packages"]["find"]["include"]))
    folders = {path.parent for path in MODULES}
    assert found == {".".join(folder.relative_to(ROOT).parts) for folder in folders}


def test_an_install_holds_the_tables_beside_the_code():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = set()
    for package, patterns in config["package-data"].items():
        folder = ROOT.joinpath(*package.split("."))
        packed |= {path for pattern in patterns for path in folder.glob(pattern)}
    listed = subprocess.run(["git", "-C", PACKAGE, "ls-files"], capture_output=True, text=True)
    tables = {PACKAGE / name for name in listed.stdout.split() if not name.endswith(".py")}
    assert packed == tables


def test_environment_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["test"], *extras["book"]}
    environment = (ROOT / "environment.yml").read_text()
    assert set(re.findall(r"^      - ([^-].*)$", environment, re.M)) == wanted
    assert f"python{project['requires-python']}" in environment


def test_the_lock_holds_every_dependency_and_one_build_of_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lock = (ROOT / "requirements.txt").read_text()
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lock.split()}
    for requirement in [*project["dependencies"], *extras["test"], *extras["book"]]:
        assert re.split("[<>=]", requirement)[0].lower() in locked, requirement
    assert "torch==2.13.0\n" in lock


def test_the_readmes_commands_are_in_the_makefile():
    commands = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M))
    targets = set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert {"report", "test"} <= commands <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()


LOGIC = (ast.FunctionDef, ast.For, ast.While, ast.If, ast.Lambda)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_holds_no_logic(path):
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "repro" in notebook.metadata, "the papermill plugin knows our notebooks by this"
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for cell in notebook.cells:
        assert "execution" not in cell.metadata, "it holds timings: make notebooks"
        if cell.cell_type == "code":
            assert not [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, LOGIC)]


TEXT = {".py", ".md", ".yml", ".toml", ".txt", ".json", ".ipynb", ".cff", ""}


def test_nothing_tracked_names_a_machine_or_a_registry():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    assert listed.returncode == 0, "not a git checkout"
    places = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "pypi" + ".org", "python" + "hosted"]
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in TEXT and path.is_file():
            text = path.read_text()
            assert not [p for p in places if p in text], name


def test_the_lock_with_hashes_is_the_lock():
    def pins(name):
        lines = (ROOT / name).read_text().splitlines()
        found = [line.removesuffix(" \\") for line in lines if re.match(r"[A-Za-z0-9]", line)]
        return {pin.lower().replace("_", "-") for pin in found}

    assert pins("requirements-hashed.txt") == pins("requirements.txt")
    hashed = (ROOT / "requirements-hashed.txt").read_text()
    for pin in re.split(r"\n(?=[A-Za-z0-9])", hashed)[1:]:
        assert "--hash=sha256:" in pin, pin


def test_what_others_make_is_named_by_its_content():
    """A tag such as ``v4`` can be moved; a digest or a commit cannot."""
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    actions = re.findall(r"uses: (\S+)", workflow)
    assert actions
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40}", action) for action in actions)
    image = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", name) for name in image)
    assert "--no-build-isolation" in (ROOT / "Makefile").read_text()
    assert "\nsetuptools==" in (ROOT / "requirements.txt").read_text()


def test_examples_in_docstrings_run():
    with_examples = [path for path in MODULES if ">>> " in path.read_text()]
    places = {path.parent.name for path in with_examples}
    assert {"repro", "words", "records", "ops", "studies"} <= places
    for path in with_examples:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        done = doctest.testmod(importlib.import_module(name))
        assert done.attempted
        assert not done.failed, name


READ_AS_BYTES = {"os", "tokenize", "gzip", "Image", "tarfile", "zipfile"}  # by their ``open``


def opens_text_without_its_encoding(call):
    """True of a call that reads or writes text in whatever encoding the machine has."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    said = any(keyword.arg == "encoding" for keyword in call.keywords)
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    as_bytes = owner in READ_AS_BYTES or any("b" in mode and len(mode) < 4 for mode in modes)
    return name in {"read_text", "write_text", "open"} and not said and not as_bytes


def test_text_has_one_encoding_on_every_machine():
    for folder in ("repro", "benchmarks", "workflow", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
            without = [call.lineno for call in calls if opens_text_without_its_encoding(call)]
            assert not without, path
