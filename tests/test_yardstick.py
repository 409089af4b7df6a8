"""Likelihoods of kept models: which are measured, how long a path, and what is written."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro import annealing, datasets, scores
from repro.__main__ import main
from repro.catalogue import MODELS, Architecture
from repro.models import Autoencoder
from repro.records import Archive
from repro.studies import likelihood_runs, yardstick
from repro.studies.frames import as_text
from repro.words.experiments import TABLE_METHODS, plan
from tests.helpers import ROOT, few_digits, write_record

SHAPE = Architecture(hidden=20, latent=2)


@pytest.fixture
def few(monkeypatch):
    """Seven of the small digits, three simulated images, and short paths."""
    digits = few_digits()
    monkeypatch.setattr(datasets, "load", lambda name, data=None: digits)
    monkeypatch.setattr(likelihood_runs, "TEST_IMAGES", 7)
    monkeypatch.setattr(likelihood_runs, "SIMULATED", 3)
    monkeypatch.setattr(likelihood_runs, "WEIGHTS_OF_EACH", 50)
    monkeypatch.setattr(likelihood_runs, "TEMPERATURES", (1, 2, 3))


def test_likelihoods_of_one_model_are_of_the_same_images(few):
    model = Autoencoder(SHAPE, [3])
    found = likelihood_runs.likelihoods(model, scores.some_of(few_digits().test, 7), 2)
    assert {values.shape for values in found.values()} == {(7,)}
    assert (found["elbo"] <= found["iwae_64"]).all()
    assert np.abs(found["ais"] - found["log_px"]).max() < 1


def test_as_many_temperatures_are_taken_as_the_bounds_ask_for(few, monkeypatch):
    widths = iter([0.3, 0.01])
    zero = torch.zeros(1, 3)
    bounds = {
        "ais_lower_bound": lambda *how: zero,
        "ais_upper_bound": lambda *how: zero + next(widths),
    }
    for name, bound in bounds.items():
        monkeypatch.setattr(
            annealing, name, lambda *how, b=bound: annealing.Annealed(b(*how), zero, zero, zero)
        )
    tried = likelihood_runs.sandwiches(Autoencoder(SHAPE, [0]))
    assert [s.temperatures for s in tried] == [1, 2]
    assert [s.width for s in tried] == pytest.approx([0.3, 0.01])


def test_the_command_measures_each_model_once(few, tmp_path, monkeypatch, capsys):
    (e,) = plan("vae", profile="full", epochs=1)
    weights = Autoencoder(SHAPE, [0]).run_state(0)
    record = Archive(tmp_path).read(write_record(tmp_path, e, weights=weights))
    monkeypatch.setitem(MODELS, "reference", SHAPE)
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


@pytest.fixture
def planted(tmp_path):
    """Likelihoods of IWAE and PIWAE, seven images each; log p-hat lacks 1 and 0.25 nats."""
    archive = Archive(tmp_path)
    g = np.random.default_rng(0)
    of_images = g.normal(size=7)
    for method, ais, lacks in (("iwae", -85.0, 1.0), ("piwae", -85.2, 0.25)):
        (e,) = plan(method, profile="full", epochs=2)
        measure(archive, e, ais + of_images, lacks)
    return archive


def measure(archive, e, ais, lacks=1.0):
    """A record with the likelihoods ``ais`` of its images."""
    record = archive.read(write_record(archive.folder, e))
    values = {"ais": ais, "log_px": ais - lacks}
    values |= {"iwae_64": values["log_px"] - 2, "elbo": values["log_px"] - 9}
    values |= {name: np.ones(7) for name in ("spread", "ess", "accepted")}
    tried = [{"temperatures": 5, "width": 0.01, "se": 0.002}]
    told = {"chains": 16, "temperatures": 5, "sandwiches": tried}
    archive.write_arrays(yardstick.name_of(record), values, told)


def test_a_lead_in_log_px_is_that_of_the_network_and_that_of_the_proposal(planted):
    ((piwae, iwae),) = yardstick.beside_iwae(planted)
    assert yardstick.lead(piwae, iwae, "ais").value == pytest.approx(-0.2)
    assert yardstick.lead(piwae, iwae, "log_px").value == pytest.approx(0.55)
    assert yardstick.lead(piwae, iwae, "log_px", "ais").value == pytest.approx(0.75)
    assert yardstick.lead(piwae, iwae, "log_px", "ais").se == pytest.approx(0, abs=1e-9)


def test_tables_say_what_was_measured_and_what_was_expected(planted):
    text = as_text(yardstick.likelihood_table(planted), "csv")
    assert 'MNIST,"ours, 2 epochs",IWAE(64),−84.73' in text
    assert "−1.00 ± 0.00" in text
    leads = as_text(yardstick.lead_table(planted), "csv")
    assert 'PIWAE(8,8)",−0.20 ± 0.00,0.55 ± 0.00,0.75 ± 0.00,−0.25 to 0.36: inside' in leads
    assert "IWAE(64)" not in leads
    assert "5,0.010 ± 0.002,100 %,1.0,1.00" in as_text(yardstick.sandwich_table(planted), "csv")


@pytest.mark.parametrize(
    "words",
    [
        {"method": "u-miwae", "profile": "short"},
        {"method": "ciwae-learned", "profile": "full", "epochs": 2},
        {"method": "iwae", "profile": "short", "dataset": "digits"},
        {"method": "iwae", "profile": "full", "epochs": 2, "init": "burda"},
        {"method": "iwae", "profile": "full", "epochs": 2, "K": 5},
        {"method": "iwae", "profile": "full", "epochs": 2, "decoder": "iwae"},
    ],
)
def test_runs_of_another_kind_change_no_table(planted, words):
    tables = [yardstick.likelihood_table, yardstick.lead_table, yardstick.sandwich_table]
    before = [as_text(table(planted), "csv") for table in tables]
    measure(planted, *plan(**words), np.full(7, -70.0))
    again = Archive(planted.folder)
    assert [as_text(table(again), "csv") for table in tables] == before


def test_runs_that_differ_in_the_precision_have_rows_of_their_own(planted):
    measure(planted, *plan("iwae", profile="full", epochs=2, precision="tf32"), np.full(7, -70.0))
    again = Archive(planted.folder)
    names = [name for _, _, name in yardstick.likelihood_table(again).index]
    folder = "full/mnist-reference/iwae-M1-K64-seed0-epochs2"
    assert sorted(names) == sorted([folder, f"{folder}-tf32", "PIWAE(8,8)"])
    ((piwae, iwae),) = yardstick.beside_iwae(again)
    assert yardstick.lead(piwae, iwae, "ais").value == pytest.approx(-0.2)


def test_trainings_with_several_seeds_are_averaged_and_paired_by_seed(planted):
    for method, ais in (("iwae", -70.0), ("piwae", -71.0)):
        measure(planted, *plan(method, profile="full", epochs=2, seed=1), np.full(7, ais))
    measure(planted, *plan("iwae", profile="full", epochs=2, seed=2), np.full(7, -60.0))
    again = Archive(planted.folder)
    names = [name for _, _, name in yardstick.likelihood_table(again).index]
    assert names == ["IWAE(64), 3 trainings", "PIWAE(8,8), 2 trainings"]
    ((piwae, iwae),) = yardstick.beside_iwae(again)
    assert yardstick.lead(piwae, iwae, "ais").value == pytest.approx(-0.6)


def test_the_figure_shows_each_lead_by_both_measures(planted):
    figure = yardstick.what_the_proposal_gave(planted)
    (ax,) = figure.axes
    drawn = [sorted(line.get_ydata()) for line in ax.lines]
    for values in ([0.55], [-0.2], [-0.2, 0.55]):  # each measure, and what joins them
        assert pytest.approx(values) in drawn


def test_without_measurements_tables_and_figure_say_so(tmp_path):
    write_record(tmp_path, *plan("vae", profile="full", epochs=2))
    table = yardstick.likelihood_table(tmp_path)
    assert (len(table), table.attrs["missing"]) == (0, ["python -m repro likelihood"])
    (ax,) = yardstick.what_the_proposal_gave(tmp_path).axes
    assert ax.texts[0].get_text() == "nothing of this has been run yet"


def test_what_is_committed_was_measured_as_the_rule_says():
    """The number of temperatures is the first at which the bounds are near enough."""
    for m in yardstick.measured(None):
        widths = [s["width"] for s in m.provenance["sandwiches"]]
        near = [width < likelihood_runs.WIDEST for width in widths]
        assert near[-1] or len(near) == len(likelihood_runs.TEMPERATURES)
        assert not any(near[:-1])
        assert m.provenance["temperatures"] == m.provenance["sandwiches"][-1]["temperatures"]
        assert len(m.values["ais"]) == likelihood_runs.TEST_IMAGES
        assert (m.values["ais"] - m.values["iwae_64"]).mean() > 0
