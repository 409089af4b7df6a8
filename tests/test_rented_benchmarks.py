"""What a rented machine measures: the time of a step, and whether two precisions train alike."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import equivalence, steps
from repro.words.experiments import plan


@pytest.mark.slow
def test_a_step_is_timed_for_every_number_of_runs():
    words = ["--runs", "5,10", "--precision", "float32", "--engine", "eager", "--device", "cpu"]
    done = CliRunner().invoke(steps.main, words)
    assert done.exit_code == 0, done.output
    assert done.output.count("us a step") == 2


def test_a_precision_that_is_not_there_is_one_line():
    done = CliRunner().invoke(steps.main, ["--precision", "tf32", "--device", "cpu"])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("Error: precision 'tf32' is not available")


def test_the_interval_is_student_s():
    low, high = equivalence.interval(np.array([-0.1, 0.0, 0.1]))
    assert low == -high
    assert high == pytest.approx(4.302653 * 0.1 / 3**0.5)


@pytest.mark.parametrize(("shift", "said"), [(0.1, "train on at fp16"), (0.3, "stay at tf32")])
def test_two_precisions_are_alike_if_the_interval_is_within_the_margin(monkeypatch, shift, said):
    """Runs without a partner, or that differ in more than the precision, are no pairs."""
    records = []
    for seed in range(4):
        for precision, score in (("tf32", -90.0), ("fp16", -90.0 + shift)):
            (e,) = plan("iwae", profile="short", seed=seed, precision=precision)
            of_each = {"iwae_64": score + seed + 0.01 * seed * shift, "log_px": score}
            metrics = {name: {"value": value} for name, value in of_each.items()}
            records.append(SimpleNamespace(experiment=e, metrics=metrics))
    others = [replace(records[0].experiment, **w) for w in ({"seed": 9}, {"estimator": "drep"})]
    far = {"iwae_64": {"value": 0.0}, "log_px": {"value": 0.0}}
    records += [SimpleNamespace(experiment=e, metrics=far) for e in others]
    archive = SimpleNamespace(records=lambda profile: records)
    monkeypatch.setattr(equivalence, "Archive", lambda folder: archive)
    done = CliRunner().invoke(equivalence.main, ["anywhere"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == said
    assert done.output.count("in 4 pairs") == 2
