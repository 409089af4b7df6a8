"""The benchmark of seconds to a target: what it hands over, and what it says of curves."""

import json

import pytest
import torch

from benchmarks import race
from repro import datasets
from tests.helpers import ROOT, few_digits


@pytest.fixture
def few(monkeypatch):
    digits = few_digits(300, 20)
    monkeypatch.setattr(datasets, "load", lambda name: digits)
    monkeypatch.setattr(race, "HELD_OUT", 50)
    monkeypatch.setattr(race, "TARGETS", (-1e9, 0.0))
    monkeypatch.setattr(race, "LIMIT", 2.0)


@pytest.mark.parametrize("name", ["plain", race.FLUSHED, "ours, eager"])
def test_weights_are_handed_over_at_doubling_times_and_scored_alike(few, small, monkeypatch, name):
    torch.manual_seed(3)
    untrained, _ = race.loop_of(name, 3, datasets.load("digits").train, "cpu")
    before = race.score_of(name, untrained.layers(), datasets.load("digits").train, "cpu")
    found = race.train(name, 3, "cpu")
    seconds, steps, scores = zip(*found["curve"], strict=True)
    assert [round(s) for s in seconds] == [1, 2]
    assert 0 < steps[0] < steps[1]
    assert before < min(scores) < 0


def test_a_target_is_met_between_two_scores_or_not_at_all():
    curve = [[1.0, 100, -120.0], [2.0, 200, -110.0], [4.0, 390, -112.0], [8.0, 800, -100.0]]
    assert race.reached(curve, -115.0) == (1.5, 150.0)
    assert race.reached(curve, -105.0) == (6.0, 595.0)
    assert race.reached(curve, -99.0) == (float("inf"), float("inf"))


def test_the_table_has_a_row_for_each_competitor(monkeypatch):
    monkeypatch.setattr(race, "TARGETS", (-115.0, -99.0))
    curve = [[1.0, 100, -120.0], [2.0, 200, -110.0]]
    found = [
        {"name": name, "seed": seed, "starts_in": seed + 0.2, "curve": curve}
        for name in ("plain", "jax")
        for seed in (1, 2, 3)
    ]
    _, _, plain, jax = race.table(found).splitlines()
    assert plain.startswith("| plain | 2 | 10 | 2 (2 to 2) | 150 | ")
    assert jax.endswith("| not reached | inf |")


def test_the_table_in_the_book_is_that_of_the_trainings_that_are_committed():
    lines = (ROOT / "benchmarks" / "results" / "race-cpu.jsonl").read_text().splitlines()
    trainings = [json.loads(line) for line in lines]
    assert len(trainings) == len(race.COMPETITORS) * len(race.SEEDS)
    assert not any(t["dirty"] for t in trainings)
    written = (ROOT / "benchmarks" / "results" / "race-cpu.md").read_text()
    assert race.table(trainings) == written.strip()
    steps = {name: [] for name in race.COMPETITORS}
    for t in trainings:
        steps[t["name"]].append(race.reached(t["curve"], race.TARGETS[-1])[1])
    usual = sum(sum(each) for each in steps.values()) / len(trainings)
    assert all(abs(sum(each) / 3 / usual - 1) < 0.1 for each in steps.values())
