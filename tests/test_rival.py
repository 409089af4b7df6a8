"""The plan that was written before its runs, and what its analysis makes of planted ones."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy import stats

from repro.records import Archive
from repro.records.estimates import NOT_RUN, Share
from repro.studies import rival, yardstick
from repro.studies.rival import PARTS_OF_PLAN, SEEDS_OF_RIVAL, runs_of_arm, runs_of_side
from repro.words.experiments import plan
from tests.helpers import write_record

AROUND = np.array([-0.2, 0.1, 0.0, 0.3, -0.2])  # of a mean, for the five seeds


@pytest.mark.parametrize("name", PARTS_OF_PLAN)
def test_a_prediction_names_two_different_runs_and_a_margin(name):
    predictions, words, _ = PARTS_OF_PLAN[name]
    assert len({p.words for p in predictions}) == len(predictions)
    for p in predictions:
        assert p.ahead != p.behind
        assert p.metric in {"iwae_64", "gap", "log_p", "elbo"}
        assert abs(p.margin) == {"elbo": 1.0}.get(p.metric, 0.1)
        for side in (p.ahead, p.behind):
            assert [e.seed for e in runs_of_side(side, words)] == [*SEEDS_OF_RIVAL]


def test_every_predicted_encoder_is_one_of_those_to_be_trained():
    trained = {f"{m} {estimator}" for m, several in rival.ENCODERS.items() for estimator in several}
    assert {side for p in rival.OF_ENCODERS for side in (p.ahead, p.behind)} <= trained
    for side in trained:
        assert len(runs_of_side(side, rival.WORDS_ALONE)) == 5


def test_every_arm_has_as_many_updates_and_the_ratio_that_it_is_for():
    for arm in rival.ARMS:
        e, *others = runs_of_arm(arm)
        assert len(others) == 4
        assert e.epochs * (60_000 // e.batch_size) == pytest.approx(12_000, rel=0.01)
        assert (e.decoder, e.schedule) == ("iwae", "constant")
    (sets,) = {(e.M, e.K, e.batch_size) for e in runs_of_arm("iwae, 13 sets of samples")}
    assert sets == (13, 64, 20)


@pytest.fixture
def encoders(tmp_path):
    """Records of all runs of this part: of ``rws`` 1 nat above, and of ``stl`` as ``drep``."""
    means = {"iwae rep": -90, "iwae drep": -90.5, "iwae stl": -90.5, "miwae rep": -88}
    for side in {side for p in rival.OF_ENCODERS for side in (p.ahead, p.behind)}:
        values = means.get(side, -89) + AROUND * (1 if side == "iwae rws" else -1)
        for e, value in zip(runs_of_side(side, rival.WORDS_ALONE), values, strict=True):
            write_record(tmp_path, e, value=value)
    return Archive(tmp_path)


def test_intervals_are_students_of_the_paired_differences_at_their_share_of_the_level(encoders):
    part = PARTS_OF_PLAN["encoders"]
    found = rival.interval_of_prediction(encoders, part, part.predictions[0])
    by_scipy = stats.ttest_1samp(1 + 2 * AROUND, 0).confidence_interval(1 - 0.05 / 6)
    assert found == pytest.approx((1, *by_scipy), abs=1e-9)


def test_outcomes_are_told_once_all_runs_of_a_part_are_there(encoders, tmp_path):
    outcome = partial(rival.table_of_predictions, encoders, "encoders")
    rows = [[cell.strip() for cell in line.split("|")] for line in outcome().splitlines()[2:]]
    assert [row[5] for row in rows] == [
        "**undecided**", "**holds**", "**undecided**", "**refuted**", "**refuted**", "**undecided**"
    ]  # fmt: skip
    (e,) = plan("miwae", estimator="rws", **rival.WORDS_ALONE | {"seed": 4})
    (tmp_path / e.folder).rename(tmp_path / "away")
    encoders = Archive(tmp_path)
    said = rival.table_of_predictions(encoders, "encoders")
    assert said.endswith("Still to come: 1 run of this part.")
    assert "**" not in said


def test_the_share_of_piwaes_lead_is_of_trainings_with_the_same_seeds(tmp_path, monkeypatch):
    for side, mean in {"iwae rep": -92, "iwae rws": -90.5, "piwae rep": -90}.items():
        for e, more in zip(runs_of_side(side, rival.WORDS_OF_BOTH), AROUND, strict=True):
            write_record(tmp_path, e, value=mean + more)
    of_rws = partial(rival.share_of_lead, Archive(tmp_path), "iwae rws", "iwae_64")
    assert of_rws() is NOT_RUN
    monkeypatch.setattr(rival, "lacking", lambda archive, part: [])
    assert of_rws() == pytest.approx((0.75, 0.75, 0.75))


def test_scores_by_estimator_and_number_of_samples_are_means_over_seeds(tmp_path):
    assert rival.table_of_samples(Archive(tmp_path)) == ""
    for estimator, K in product(rival.ENCODERS["iwae"], (8, 64, 256)):
        runs = runs_of_side(f"iwae {estimator} at {K}", rival.WORDS_ALONE)
        for e, value in zip(runs, AROUND - K, strict=True):
            write_record(tmp_path, e, value=value)
    *_, of_rws = rival.table_of_samples(Archive(tmp_path)).splitlines()
    means = " | ".join(f"−{K}.00 ± 0.09" for K in (8, 64, 256))
    assert of_rws == f"| `rws` | ELBO | {means} |"


def test_gaps_are_of_the_images_whose_likelihood_was_measured(tmp_path):
    (e,) = plan("iwae", **rival.WORDS_OF_BOTH | {"seed": 2})
    write_record(tmp_path, e, value=-90.0)
    archive = Archive(tmp_path)
    assert e in rival.lacking(archive, PARTS_OF_PLAN["rival"])
    values = {"ais": np.array([-80.0, -82]), "iwae_64": np.array([-84.0, -85])}
    archive.write_arrays(yardstick.name_of(archive.get(e)), values, {})
    assert [rival._value(archive, e, m) for m in ("gap", "log_p", "iwae_64")] == [-3.5, -81, -90]
    assert e not in rival.lacking(archive, PARTS_OF_PLAN["rival"])


SCORES_OF_ARMS = {"iwae, 20 images": -90, "iwae, 260 images": -89.5, "miwae, 20 images": -88}


def write_arms(tmp_path, runs, arms, others=-87.9):
    for arm in arms:
        for e, more in zip(runs[arm], AROUND / 10, strict=True):
            write_record(tmp_path, e, value=SCORES_OF_ARMS.get(arm, others) + more)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (-87.9, "the target differs, and not the ratio"),
        (-87.5, "it says nothing of the reason, since MIWAE gains as much from more images"),
    ],
)
def test_the_share_is_of_the_way_to_miwae(tmp_path, others, said):
    runs = rival.runs_of_arms(Archive(tmp_path), "adam")
    write_arms(tmp_path, runs, SCORES_OF_ARMS)
    assert rival.what_the_share_says(Archive(tmp_path)).startswith("not known yet; 20 runs of")
    write_arms(tmp_path, runs, rival.ARMS.keys() - SCORES_OF_ARMS, others)
    gains = f"IWAE gains 0.50 ± 0.00 nats, MIWAE {others + 88:.2f} ± 0.00"
    verdict = f"25 % (25 to 25): {said} (from more images {gains})"
    assert rival.what_the_share_says(Archive(tmp_path)) == verdict


def test_gradient_descent_takes_the_best_rate_of_each_arm_among_those_that_did_not_diverge(
    tmp_path, monkeypatch
):
    diverged = [(arm, rate) for arm in rival.ARMS_OF["sgd"] for rate in (1e-3, 3e-3)]
    diverged.remove(("iwae, 260 images", 1e-3))
    monkeypatch.setattr(rival, "DIVERGED", diverged)
    of_sgd = partial(rival.what_the_share_says, optimizer="sgd")
    for arm in rival.ARMS_OF["sgd"]:
        assert of_sgd(Archive(tmp_path)).endswith("still to be chosen")
        search = rival.runs_of_search(arm)
        for rate, score in {3e-5: -95, 1e-4: -93, 3e-4: -94}.items():
            write_record(tmp_path, search[rate], value=score)
    assert rival.chosen_rate(Archive(tmp_path), "iwae, 260 images") is None
    write_record(tmp_path, rival.runs_of_search("iwae, 260 images")[1e-3], value=-92)
    archive = Archive(tmp_path)
    rates = {arm: rival.chosen_rate(archive, arm) for arm in rival.ARMS_OF["sgd"]}
    assert rates == {arm: 1e-3 if arm == "iwae, 260 images" else 1e-4 for arm in rates}
    runs = rival.runs_of_arms(archive, "sgd")
    assert {(e.optimizer, e.learning_rate) for e in runs["iwae, 260 images"]} == {("sgd", 1e-3)}
    write_arms(tmp_path, runs, runs)
    assert of_sgd(Archive(tmp_path)) == rival.what_the_share_says(archive, "sgd")
    assert "the target differs, and not the ratio" in of_sgd(Archive(tmp_path))


@pytest.mark.parametrize("arm", rival.ARMS_OF["sgd"])
def test_a_search_has_a_quarter_of_the_updates_and_keeps_its_images_apart(arm):
    of_arm = runs_of_arm(arm, 0.1)
    for rate, e in rival.runs_of_search(arm).items():
        assert (e.seed, e.held_out, e.optimizer, e.learning_rate) == (0, 5000, "sgd", rate)
        assert 4 * e.epochs == of_arm[0].epochs
        assert e not in of_arm


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((0.8, 0.31, 1.3), "the ratio is the reason"),
        ((0.8, 0.3, 1.3), "both play a part, or the runs do not tell"),
        ((0.3, -0.2, 0.79), "the target differs, and not the ratio"),
        ((0.3, -0.2, 0.8), "both play a part, or the runs do not tell"),
        ((0.5, 0.4, 0.6), "both play a part, or the runs do not tell"),
    ],
)
def test_shares_are_judged_as_the_plan_says(found, said):
    assert rival.verdict_of_share(Share(*found), more_to_miwae=-0.11) == said
    assert "says nothing" in rival.verdict_of_share(Share(*found), more_to_miwae=-0.1)
