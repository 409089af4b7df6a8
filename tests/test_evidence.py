"""How far what the records hold is apart, and what another training would change of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from repro import ReproError, exhibits
from repro.experiments import plan
from repro.report.estimates import NOT_RUN, ErrorOf, Estimate
from repro.report.evidence import Evidence, rounded_up
from repro.report.reported import TABLE1
from tests.helpers import copy_published, write_record

PIWAE = np.array([-88.0, -88.4, -88.6, -89.0])
IWAE = np.array([-90.0, -90.1, -90.9, -91.0])


@pytest.fixture
def evidence(tmp_path):
    """Four seeds of two methods after 40 epochs in TF32, and runs that are no seeds of theirs."""
    in_tf32 = {"profile_name": "short", "precision": "tf32"}
    for method, values in (("piwae", PIWAE), ("iwae", IWAE)):
        for e, value in zip(plan(method, seed="0,1,2,3", **in_tf32), values, strict=True):
            write_record(tmp_path, e, value=value)
        (in_float32,) = plan(method, profile_name="short")
        (longer,) = plan(method, profile_name="short", epochs=60, precision="tf32", seed=9)
        (of_omniglot,) = plan(method, "omniglot-lake", seed=9, **in_tf32)
        for e in (in_float32, longer, of_omniglot):
            write_record(tmp_path, e, value=0.0)
    for e in plan("miwae", seed="0,1,2,3", **in_tf32):
        write_record(tmp_path, e, value=-10.0 * e.seed)
    return Evidence(str(tmp_path))


def paired_spread():
    """What is left of two methods' values once each method and each seed has its own mean."""
    d = PIWAE - IWAE
    return d.std(ddof=1) / 2**0.5


def test_the_noise_of_trainings_is_between_our_pairs_of_seeds(evidence, monkeypatch):
    monkeypatch.setitem(TABLE1["paper"], "reference", {})
    noise = evidence.training_noise("piwae", "iwae", "iwae_64")
    assert noise == pytest.approx(2**0.5 * paired_spread())
    assert noise == pytest.approx((PIWAE - IWAE).std(ddof=1))


def test_the_noise_of_trainings_is_the_papers_if_that_is_larger(evidence, monkeypatch):
    printed = {"iwae": Estimate(-86.0, 3.0), "piwae": Estimate(-85.0, 4.0)}
    monkeypatch.setitem(TABLE1["paper"], "reference", {"iwae_64": printed})
    noise = evidence.training_noise("piwae", "iwae", "iwae_64")
    assert noise == pytest.approx(2**0.5 * 12.5**0.5)
    assert evidence.training_noise("piwae", "iwae", "log_px") < 1


@pytest.mark.filterwarnings("error")
def test_without_trainings_and_without_the_paper_no_noise_is_known(tmp_path, monkeypatch):
    monkeypatch.setitem(TABLE1["paper"], "reference", {})
    assert Evidence(str(tmp_path)).training_noise("piwae", "iwae", "ssim") == 0


@pytest.fixture
def noisy(monkeypatch):
    """Evidence of no records, where another training changes a difference by 0.4 nats."""
    asked = []

    def training_noise(self, a, b, metric):
        asked.append((a, b, metric))
        return 0.4

    monkeypatch.setattr(Evidence, "training_noise", training_noise)
    yield Evidence()
    assert set(asked) <= {("piwae", "iwae", "log_px")}


def test_what_another_training_would_change_is_added_to_the_error_over_images(noisy):
    over_images = Estimate(0.5, 0.3, dof=99, error_of=ErrorOf.IMAGES)
    found = noisy.with_training(over_images, "piwae", "iwae", "log_px")
    assert found == Estimate(
        0.5, pytest.approx(0.5), pytest.approx(99 * (5 / 3) ** 4), 1, ErrorOf.SEEDS
    )


def test_of_several_trainings_each_has_its_own_noise(noisy):
    of_four = Estimate(0.5, 0.15, dof=99, seeds=4, error_of=ErrorOf.IMAGES)
    found = noisy.with_training(of_four, "piwae", "iwae", "log_px")
    assert found.se == pytest.approx(0.25)
    assert found.seeds == 4


def test_where_images_agree_exactly_the_noise_of_trainings_is_known(noisy):
    exact = Estimate(0.5, 0.0, dof=99, error_of=ErrorOf.IMAGES)
    found = noisy.with_training(exact, "piwae", "iwae", "log_px")
    assert (found.se, found.dof) == (0.4, np.inf)


def test_what_counts_trainings_already_stays_as_it_is(noisy):
    between_seeds = Estimate(0.5, 0.1, error_of=ErrorOf.SEEDS)
    for estimate in (between_seeds, NOT_RUN):
        assert noisy.with_training(estimate, "piwae", "iwae", "log_px") is estimate


def test_runs_of_a_setting_are_the_released_ones_or_ours(tmp_path):
    for profile, value in (("full", -85.0), ("short", -90.0)):
        for method in ("iwae", "piwae"):
            write_record(tmp_path, plan(method, profile_name=profile)[0], value=value)
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
            write_record(tmp_path, plan(method, profile_name=profile)[0], value=value)
    evidence = Evidence(str(tmp_path))
    asked = ("mnist reference", "piwae", "iwae", "iwae_64")
    assert evidence.apart(*asked) is NOT_RUN
    assert evidence.apart(*asked, "ours").value == pytest.approx(0.25)
    assert evidence.apart(*asked, "short").value == pytest.approx(0.5)
    with_training = evidence.apart_with_training(*asked, "short")
    assert with_training.value == pytest.approx(0.5)
    assert with_training.se == pytest.approx(evidence.training_noise("piwae", "iwae", "iwae_64"))


def test_an_error_between_seeds_is_that_of_all_runs_of_the_setting(tmp_path):
    """Two seeds of two methods tell too little; with those of two others they tell enough."""
    g = np.random.default_rng(0)
    for method in ("iwae", "piwae", "miwae", "ciwae"):
        for e in plan(method, profile_name="short", seed="0,1"):
            write_record(tmp_path, e, value=g.normal(-90, 1))
        write_record(tmp_path, plan(method, profile_name="full")[0], value=-85.0)
    found = Evidence(str(tmp_path)).apart("mnist reference", "piwae", "iwae", "iwae_64", "short")
    assert (found.error_of, found.dof) == (ErrorOf.SEEDS, 3)


def test_by_default_a_difference_is_between_the_released_models(tmp_path):
    copy_published(tmp_path)
    for method, value in (("piwae", 0.0), ("iwae", 1000.0)):
        write_record(tmp_path, plan(method, profile_name="full")[0], value=value)
    evidence = Evidence(str(tmp_path))
    asked = ("mnist reference", "piwae", "iwae", "iwae_64")
    assert abs(evidence.apart(*asked).value) < 10
    assert evidence.apart_with_training(*asked).value == evidence.apart(*asked).value


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
