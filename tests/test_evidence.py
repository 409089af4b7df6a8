"""How far what the records hold is apart, and what another training would change of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from repro import ReproError
from repro.records.estimates import NOT_RUN, ErrorOf
from repro.studies.evidence import Evidence, rounded_up, training_noise
from repro.words import exhibits
from repro.words.experiments import plan
from tests.helpers import copy_published, write_record


def test_runs_of_a_setting_are_the_released_ones_or_ours(tmp_path):
    for profile, value in (("full", -85.0), ("short", -90.0)):
        for method in ("iwae", "piwae"):
            write_record(tmp_path, plan(method, profile=profile)[0], value=value)
    evidence = Evidence(str(tmp_path))

    def found(*asked):
        return [(r.experiment.method, r.experiment.profile) for r in evidence.runs(*asked)]

    assert found("mnist reference", "piwae") == []
    assert found("mnist reference", "piwae", "ours") == [("piwae", "full")]
    assert found("mnist reference", "piwae", "short") == [("piwae", "short")]
    assert found("mnist reference", None, "ours") == [("iwae", "full"), ("piwae", "full")]
    assert found("mnist larger", None, "ours") == []


def test_a_misspelt_source_of_runs_is_no_other(tmp_path):
    with pytest.raises(ReproError, match="unknown source of runs 'our'; did you mean 'ours'"):
        Evidence(str(tmp_path)).runs("mnist reference", "iwae", "our")


def test_a_difference_is_of_the_runs_that_are_asked_for(tmp_path):
    """Images are 1 below, at and above a record's value, so that differences are exact."""
    for profile, lead in (("full", 0.25), ("short", 0.5)):
        for method, value in (("iwae", -85.0), ("piwae", -85.0 + lead)):
            write_record(tmp_path, plan(method, profile=profile)[0], value=value)
    evidence = Evidence(str(tmp_path))
    asked = ("mnist reference", "piwae", "iwae", "iwae_64")
    assert evidence.apart(*asked) is NOT_RUN
    assert evidence.apart(*asked, "ours").value == pytest.approx(0.25)
    assert evidence.apart(*asked, "short").value == pytest.approx(0.5)
    noise = training_noise(evidence.archive, "piwae", "iwae", "iwae_64")
    assert evidence.apart(*asked, "short").se == pytest.approx(noise.sd)


def test_an_error_between_seeds_is_that_of_all_runs_of_the_setting(tmp_path):
    """Two seeds of two methods tell too little; with those of two others they tell enough."""
    g = np.random.default_rng(0)
    for method in ("iwae", "piwae", "miwae", "ciwae"):
        for e in plan(method, profile="short", seed="0,1"):
            write_record(tmp_path, e, value=g.normal(-90, 1))
        write_record(tmp_path, plan(method, profile="full")[0], value=-85.0)
    found = Evidence(str(tmp_path)).apart("mnist reference", "piwae", "iwae", "iwae_64", "short")
    assert (found.error_of, found.dof) == (ErrorOf.SEEDS, 3)


def test_by_default_a_difference_is_between_the_released_models(tmp_path):
    copy_published(tmp_path)
    for method, value in (("piwae", 0.0), ("iwae", 1000.0)):
        write_record(tmp_path, plan(method, profile="full")[0], value=value)
    evidence = Evidence(str(tmp_path))
    asked = ("mnist reference", "piwae", "iwae", "iwae_64")
    assert abs(evidence.apart(*asked).value) < 10


def test_figure_4_gives_scores_in_the_order_of_beta_and_the_highest_learned_one(tmp_path):
    for number, e in enumerate(exhibits.runs_of("figure4", "short")):
        path = write_record(tmp_path, e, value=-90.0 - number)
        assert path.exists()
    evidence = Evidence(str(tmp_path))
    runs = evidence.of_betas()
    assert len(runs) == 10
    fixed = {r.experiment.beta: r.metrics["iwae_64"]["value"] for r in runs if _is_fixed(r)}
    assert [*evidence.scores("ciwae")] == [fixed[beta] for beta in sorted(fixed)]


def test_the_highest_learned_beta_is_over_starts_and_seeds_at_an_epoch(monkeypatch):
    learned = [(0.1, [0.08, 0.05, 0.01]), (0.9, [0.7, 0.2, 0.03]), (0.9, [0.6, 0.3, 0.02])]
    runs = [beta_curve("ciwae", 0.5, [0.5, 0.5, 0.5])]
    runs += [beta_curve("ciwae-learned", *run) for run in learned]
    monkeypatch.setattr(Evidence, "of_betas", lambda self: runs)
    assert Evidence().highest_learned_beta() == 0.03
    assert Evidence().highest_learned_beta(epoch=1) == 0.7
    assert Evidence().highest_learned_beta(epoch=2) == 0.3
    monkeypatch.setattr(Evidence, "of_betas", lambda self: runs[:1])
    assert Evidence().highest_learned_beta() is None


def beta_curve(method, start, values):
    curve = pd.DataFrame({"epoch": range(1, len(values) + 1), "beta": values})
    return SimpleNamespace(experiment=SimpleNamespace(method=method, beta=start), curve=curve)


def _is_fixed(record):
    return record.experiment.method == "ciwae"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.02"), (0.02, "0.02"), (0.61, "0.7"), (0.91, "1"), (1.2, "2")]
)
def test_a_number_is_rounded_up_to_one_digit(value, text):
    assert rounded_up(value) == text
