"""The plan for other networks: its runs, and what its analysis makes of planted values."""

import numpy as np
import pytest
from scipy import stats

from repro import scores
from repro.models import Autoencoder
from repro.own_models import log_px
from repro.records import Archive
from repro.records.estimates import NOT_RUN
from repro.studies import likelihood_runs, other_networks, rival
from repro.studies.other_networks import OTHER_NETWORKS
from repro.training.networks import model_of, new_model
from tests.helpers import few_digits

SIDES = ("piwae rep", "iwae rep", "miwae rep", "iwae rws", "vae rep")


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_the_runs_are_three_of_each_of_five_sides_on_images_held_out(name):
    part = OTHER_NETWORKS[name]
    assert part.sides == [*SIDES]
    runs = [e for side in part.sides for e in rival.runs_of_side(side, part.words)]
    assert {(e.M * e.K, e.epochs, e.held_out) for e in runs} == {(64, 4, 1000)}
    assert len(rival.lacking(Archive("nowhere"), part)) == len(runs) == 15
    assert other_networks.ahead_by(Archive("nowhere"), name, "piwae rep", "gap") is NOT_RUN


@pytest.fixture
def planted(monkeypatch):
    """Values of each side and seed: 10 nats more in a gap for PIWAE, and a little noise."""
    g = np.random.default_rng(0)
    noise = {(side, seed): g.normal(scale=0.2) for side in SIDES for seed in (2, 3, 4)}

    def value(archive, e, metric):
        side = f"{e.method} {e.estimator}"
        ahead = 10 if (side, metric) == ("piwae rep", "gap") else 0
        return ahead + e.seed + noise[side, e.seed]

    monkeypatch.setattr(rival, "_value", value)
    return noise


def test_the_deviation_is_that_of_a_fit_by_least_squares_of_sides_and_seeds(planted):
    part = OTHER_NETWORKS["two layers"]
    rows = [[s == side for s in SIDES] + [n == seed for n in (2, 3, 4)] for side, seed in planted]
    design = np.array(rows, float)
    values = np.array([*planted.values()])
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    deviation, freedom = rival.pooled_deviation(None, part, "log_p")
    assert freedom == 8 == len(values) - np.linalg.matrix_rank(design)
    assert deviation**2 == pytest.approx(2 * (rest @ rest) / freedom)
    found = rival.interval_of_prediction(None, part, part.predictions[0])
    half = stats.t.isf(0.05 / 12, 8) * deviation / 3**0.5
    assert found.high - found.low == pytest.approx(2 * half)


def test_outcomes_are_told_and_drawn_once_all_runs_are_there(planted):
    said = other_networks.outcomes_in(Archive("nowhere"), "convolutional")
    rows = [line.split(" | ") for line in said.splitlines()]
    (row,) = (row for row in rows if row[0] == "| PIWAE's gap is smaller than IWAE's")
    assert row[1:3] == ["true gap, piwae rep − iwae rep", "0.1"]
    assert row[3].startswith("10")
    assert row[4] == "**holds** |"
    assert "Still to come" not in said
    figure = other_networks.ahead_of_iwae(Archive("nowhere"))
    assert [ax.get_title() for ax in figure.axes][:2] == [
        "convolutional: true gap",
        "convolutional: log p(x)",
    ]
    (first, *_) = figure.axes
    assert max(max(line.get_xdata(), default=0) for line in first.lines) > 10


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_likelihoods_of_a_model_of_ones_own_are_in_order(name, monkeypatch):
    """AIS's estimate is above log p-hat of few samples, which is above the ELBO."""
    monkeypatch.setattr(likelihood_runs, "WEIGHTS_OF_EACH", 50)
    (e, *_) = rival.runs_of_side("iwae rep", OTHER_NETWORKS[name].words)
    images = scores.some_of(few_digits().test, 5)
    model = new_model([e], few_digits().train.mean(0))
    found = likelihood_runs.likelihoods(model, images, 20)
    again = likelihood_runs.likelihoods(model_of(e, model.run_state(0)), images, 20)
    assert found["ais"].tolist() == again["ais"].tolist()
    assert not isinstance(model, Autoencoder)
    assert (found["elbo"] < found["log_px"]).all()
    assert (found["log_px"] < found["ais"] + 1).all()
    if not model.binarises:
        more = log_px(model.model, images, 2000)
        assert (found["log_px"] < more.numpy()).all()
