"""Likelihoods of kept models: which are measured, how long a path, and what is written."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro import annealing, datasets
from repro.__main__ import main
from repro.catalogue import Architecture
from repro.models import Autoencoder
from repro.records import Archive
from repro.studies import yardstick
from repro.words.experiments import TABLE_METHODS, plan
from tests.helpers import ROOT, few_digits, write_record

SHAPE = Architecture(hidden=20, latent=2)


@pytest.fixture
def few(monkeypatch):
    """Seven of the small digits, three simulated images, and short paths."""
    digits = few_digits()
    monkeypatch.setattr(datasets, "load", lambda name, data=None: digits)
    monkeypatch.setattr(yardstick, "TEST_IMAGES", 7)
    monkeypatch.setattr(yardstick, "SIMULATED", 3)
    monkeypatch.setattr(yardstick, "WEIGHTS_OF_EACH", 50)
    monkeypatch.setattr(yardstick, "TEMPERATURES", (1, 2, 3))


def test_likelihoods_of_one_model_are_of_the_same_images(few):
    model = Autoencoder(SHAPE, [3])
    found = yardstick.likelihoods(model, yardstick.some_of(few_digits().test), 2)
    assert {values.shape for values in found.values()} == {(7,)}
    assert (found["elbo"] <= found["iwae_64"]).all()
    assert np.abs(found["ais"] - found["log_px"]).max() < 1


def test_as_many_temperatures_are_taken_as_the_bounds_ask_for(few, monkeypatch):
    widths = iter([0.3, 0.01])
    zero = torch.zeros(1, 3)
    bounds = {"ais": lambda *how: zero, "ais_upper_bound": lambda *how: zero + next(widths)}
    for name, bound in bounds.items():
        monkeypatch.setattr(
            annealing, name, lambda *how, b=bound: annealing.Annealed(b(*how), zero, zero, zero)
        )
    tried = yardstick.sandwiches(Autoencoder(SHAPE, [0]))
    assert [s.temperatures for s in tried] == [1, 2]
    assert [s.width for s in tried] == pytest.approx([0.3, 0.01])


def test_the_command_measures_each_model_once(few, tmp_path, monkeypatch, capsys):
    (e,) = plan("vae", profile="full", epochs=1)
    weights = Autoencoder(SHAPE, [0]).run_state(0)
    record = Archive(tmp_path).read(write_record(tmp_path, e, weights=weights))
    monkeypatch.setitem(yardstick.model_of.__globals__["MODELS"], "reference", SHAPE)
    command = ["likelihood", "--results", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    values, told = Archive(tmp_path).arrays(yardstick.name_of(record))
    assert values["ais"].shape == (7,)
    assert told["temperatures"] == told["sandwiches"][-1]["temperatures"]
    capsys.readouterr()
    assert main(command) == 0
    assert "0 of 1 models" in capsys.readouterr().out


def test_expectations_are_of_methods_beside_iwae():
    expected = pd.read_csv(ROOT / "repro" / "studies" / "expected_likelihoods.csv")
    assert (expected.low < expected.high).all()
    assert set(expected.method) == set(TABLE_METHODS)
    assert not expected.duplicated(["source", "setting", "method", "estimator"]).any()
