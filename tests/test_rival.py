"""The plan that was written before its runs."""

import pytest

from repro.studies import rival
from repro.words.experiments import plan

PARTS = {"both networks": rival.RIVAL, "alone": rival.OF_ENCODERS, "K": rival.NUMBER_OF_SAMPLES}


@pytest.mark.parametrize("part", PARTS)
def test_a_prediction_names_two_different_runs_and_a_margin(part):
    assert len({p.words for p in PARTS[part]}) == len(PARTS[part])
    for p in PARTS[part]:
        assert p.ahead != p.behind
        assert p.metric in {"iwae_64", "gap", "log_p", "elbo"}
        assert abs(p.margin) == {"elbo": 1.0}.get(p.metric, 0.1)


def test_the_runs_of_the_plan_can_be_said():
    usual = {"profile": "short", "dataset": "mnist", "seed": list(rival.SEEDS_OF_RIVAL)}
    for p in rival.RIVAL:
        for side in (p.ahead, p.behind):
            method, estimator = side.split()
            assert len(plan(method, estimator=estimator, **usual)) == 5
    alone = usual | {"decoder": "iwae", "epochs": 4}
    encoders = set()
    for method, estimators in rival.ENCODERS.items():
        for estimator in estimators:
            assert len(plan(method, estimator=estimator, **alone)) == 5
            encoders.add(f"{method} {estimator}")
    assert {side for p in rival.OF_ENCODERS for side in (p.ahead, p.behind)} <= encoders
