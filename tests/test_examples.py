"""The examples of models of one's own run, and training helps them."""

import runpy

import pytest

from repro.cli import main
from tests.helpers import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains(path):
    trained = runpy.run_path(str(path))["main"]
    assert trained(steps=40) > trained(steps=1) + 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("own_loop.py:convolutional", ["--binarise", "no"]),
        ("two_layers.py:TwoLayers", ["--estimator", "drep"]),
        ("flow_posterior.py:flow_posterior", ["--estimator", "stl"]),
    ],
)
def test_the_commands_train_an_example(tmp_path, model, more):
    words = ["--model", str(ROOT / "examples" / model), "--method", "miwae", "--M", "2", "--K", "3"]
    where = ["--profile", "smoke", "--epochs", "1", "--results", str(tmp_path), "--device", "cpu"]
    assert main(["train", *words, *more, *where]) == 0
