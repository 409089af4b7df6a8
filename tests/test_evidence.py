"""How far what the records hold is apart, and what another training would change of it."""

import numpy as np
import pandas as pd
import pytest

from repro import ReproError
from repro.records import Archive
from repro.records.estimates import NOT_RUN, ErrorOf
from repro.studies import figure4
from repro.studies.evidence import Evidence, training_noise
from repro.words import exhibits
from repro.words.experiments import plan
from tests.helpers import copy_published, write_record

ASKED = ("mnist-reference", "piwae", "iwae", "iwae_64")


def test_runs_and_differences_are_of_the_source_that_is_asked_for(tmp_path):
    """Images are 1 below, at and above a record's value, so that differences are exact."""
    for profile, lead in (("full", 0.25), ("short", 0.5)):
        for method, value in (("iwae", -85.0), ("piwae", -85.0 + lead)):
            write_record(tmp_path, plan(method, profile=profile)[0], value=value)
    evidence = Evidence(str(tmp_path))

    def found(*asked):
        return [(r.experiment.method, r.experiment.profile) for r in evidence.runs(*asked)]

    assert found("mnist-reference", "piwae") == []
    assert found("mnist-reference", "piwae", "ours") == [("piwae", "full")]
    assert found("mnist-reference", "piwae", "short") == [("piwae", "short")]
    assert found("mnist-reference", None, "ours") == [("iwae", "full"), ("piwae", "full")]
    assert found("mnist-larger", None, "ours") == []
    assert evidence.apart(*ASKED) is NOT_RUN
    assert evidence.apart(*ASKED, "ours").value == pytest.approx(0.25)
    assert evidence.apart(*ASKED, "short").value == pytest.approx(0.5)
    noise = training_noise(evidence.archive, "piwae", "iwae", "iwae_64")
    assert evidence.apart(*ASKED, "short").se == pytest.approx(noise.sd)
    with pytest.raises(ReproError, match="unknown source of runs 'our'; did you mean 'ours'"):
        evidence.runs("mnist-reference", "iwae", "our")


def test_an_error_between_seeds_is_that_of_all_runs_of_the_setting(tmp_path):
    """Two seeds of two methods tell too little; with those of two others they tell enough."""
    g = np.random.default_rng(0)
    for method in ("iwae", "piwae", "miwae", "ciwae"):
        for e in plan(method, profile="short", seed="0,1"):
            write_record(tmp_path, e, value=g.normal(-90, 1))
        write_record(tmp_path, plan(method, profile="full")[0], value=-85.0)
    found = Evidence(str(tmp_path)).apart(*ASKED, "short")
    assert (found.error_of, found.dof) == (ErrorOf.SEEDS, 3)


def test_by_default_a_difference_is_between_the_released_models(tmp_path):
    copy_published(tmp_path)
    for method, value in (("piwae", 0.0), ("iwae", 1000.0)):
        write_record(tmp_path, plan(method, profile="full")[0], value=value)
    assert abs(Evidence(str(tmp_path)).apart(*ASKED).value) < 10


def test_figure_4_gives_scores_in_the_order_of_beta_and_the_highest_learned_one(tmp_path):
    """Of each run the learned beta has half its start after an epoch, and a tenth in the end."""
    archive = Archive(tmp_path)
    assert figure4.highest_learned_beta(archive) == "not run"
    scores = {}
    for number, e in enumerate(exhibits.runs_of("figure4", "short")):
        write_record(tmp_path, e, value=-90.0 - number)
        scores[e.method, e.beta] = -90.0 - number
    archive = Archive(tmp_path)
    used = archive.select("figure4").used
    for r in used:
        start = r.experiment.beta
        curve = {"epoch": [1, 2, 3], "beta": [start / 2, start / 5, start / 10]}
        vars(r)["curve"] = pd.DataFrame(curve)
    expected = [scores["ciwae", beta] for beta in sorted(exhibits.BETAS)]
    assert [*figure4.scores_by_beta(used, "ciwae")] == expected
    for epoch, highest in ((1, "0.5"), (2, "0.2"), (None, "0.09")):
        assert figure4.highest_learned_beta(archive, epoch) == highest
