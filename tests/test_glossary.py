"""A name of the glossary has one meaning: the types of parameters, and the home of definitions."""

import ast
import csv
import re

import pytest

from repro.records import CURVE, METRICS, Archive
from tests.helpers import ROOT

PACKAGE = ROOT / "repro"
WRAPPERS = {"Collection", "Sequence", "Iterable", "list", "tuple", "None", "Annotated"}
KINDS = {"O": "str", "U": "str", "i": "int", "f": "float", "b": "bool"}


def glossary():
    with open(ROOT / "tests" / "glossary.csv", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


TERMS = glossary()
MODULES = sorted(PACKAGE.rglob("*.py"))


def term_of(name):
    """The row of a name or of its plural; None if it is no term."""
    return TERMS.get(name) or TERMS.get(name.removesuffix("s"))


def public(nodes, kind):
    return [n for n in nodes if isinstance(n, kind) and not re.match("_(?!_)", n.name)]


def annotated(tree):
    """Names and annotations of public classes' fields and of public functions' parameters."""
    classes = public(tree.body, ast.ClassDef)
    functions = public(tree.body, ast.FunctionDef)
    for owner in classes:
        functions += public(owner.body, ast.FunctionDef)
        fields = [n for n in owner.body if isinstance(n, ast.AnnAssign)]
        yield from ((field.target.id, field.annotation) for field in fields)
    for function in functions:
        given = function.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
            if argument.annotation:
                yield argument.arg, argument.annotation


def types_in(annotation):
    """Names of types without what wraps them: ``Sequence[loop.Fit] | None`` is {Fit}."""
    text = ast.unparse(annotation)
    if text.startswith("Annotated["):
        text = ast.unparse(annotation.slice.elts[0])
    if text.startswith("dict["):
        return {"dict"}
    return set(re.findall(r"(?:\w+\.)*(\w+)", text)) - WRAPPERS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_term_names_no_parameter_of_another_type(path):
    for name, annotation in annotated(ast.parse(path.read_text())):
        if term := term_of(name):
            assert types_in(annotation) <= {*term["types"].split()}, f"{name}: {term['meaning']}"


def test_a_term_names_no_definition_elsewhere():
    for path in MODULES:
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in public(ast.parse(path.read_text()).body, (ast.FunctionDef, ast.ClassDef)):
            if term := TERMS.get(node.name) or TERMS.get(node.name.lower()):
                assert module == term["where"], f"{node.name}: {term['meaning']}"


def test_a_term_names_no_column_of_another_type():
    archive = Archive(ROOT / "results")
    tables = [archive.table(path.stem)[0] for path in archive.folder.glob("published/*.csv")]
    assert tables
    for table in tables:
        for name, dtype in table.dtypes.items():
            if term := term_of(name):
                kind = KINDS.get(dtype.kind, "str")
                assert kind in term["types"].split(), f"{name}: {term['meaning']}"
    terms = {name for name in (*CURVE, *METRICS) if term_of(name)}
    assert terms == {"epoch", "beta", "log_px"}


def test_the_glossary_is_in_order_and_says_what_each_name_means():
    assert [*TERMS] == sorted(TERMS, key=str.lower)
    assert all(term["meaning"] for term in TERMS.values())
