"""The examples of models of one's own run, and training helps them."""

import runpy

import pytest

from tests.helpers import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains(path):
    main = runpy.run_path(str(path))["main"]
    assert main(steps=40) > main(steps=1) + 50
