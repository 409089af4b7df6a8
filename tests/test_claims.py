"""Verdicts on claims follow from records, and from whole trainings only."""

import csv
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats

from repro.records.estimates import NOT_RUN, ErrorOf, Estimate
from repro.studies import claims
from repro.studies import evidence as evidence_module
from repro.studies.claims import CLAIMS, Difference, Outcome
from repro.studies.evidence import Evidence, Source, training_noise
from repro.studies.preregistered import HYPOTHESES
from repro.studies.prose import Numbers
from repro.words import exhibits
from repro.words.experiments import plan
from tests.helpers import copy_logs, copy_published, planted_gradients, write_record


@pytest.fixture(scope="module")
def committed():
    """The committed records."""
    return Evidence()


def claim_called(text):
    (claim,) = (c for c in CLAIMS if c.text == text)
    return claim


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_every_claim_has_a_verdict_evidence_and_an_exhibit(claim, committed):
    outcome, said = claim.check(committed)
    assert outcome in Outcome
    assert said
    assert claim.page or outcome is Outcome.UNTESTED


def test_there_is_a_card_for_each_claim_with_its_verdict_in_words(committed):
    cards = Numbers().claims().split("\n\n:::{dropdown}")
    assert len(cards) == len(CLAIMS)
    for card, claim in zip(cards, CLAIMS, strict=True):
        outcome, _ = claim.check(committed)
        title, colour, *_ = card.splitlines()
        assert claim.text in title
        assert f"{outcome.capitalize()} · {claim.who}" in title
        assert colour == f":color: {claims.COLOURS_OF_OUTCOMES[outcome]}"


@pytest.mark.parametrize(
    "text",
    [
        "Table 1, IWAE-64",
        "It brings $q$ closer to the posterior: PIWAE has a smaller gap",
        "At the same $MK$ its remedies give the inference network a clearer gradient",
    ],
)
def test_without_records_nothing_is_claimed(tmp_path, text):
    copy_logs(tmp_path)
    verdict = claim_called(text).check(Evidence(str(tmp_path)))
    assert verdict.outcome is Outcome.UNTESTED


def test_without_records_there_are_no_numbers(tmp_path):
    copy_logs(tmp_path)
    n = Numbers(str(tmp_path))
    assert str(n.value("mnist reference", "iwae", "iwae_64")) == "not run"
    assert n.fact("compute") == "no runs yet"
    assert str(n.pooled("miwae", "log_px")) == "not run"
    assert claims.correction(n) == (0, 0, 0.0, 0.0)
    assert n.correction("percent_false") == "0.0"


@pytest.mark.parametrize(
    ("values", "margin", "outcome"),
    [
        ([1.0, 2.0], 0.0, Outcome.HOLDS),
        ([1.0, 0.1], 0.0, Outcome.HOLDS_IN_PART),
        ([1.0, -1.0], 0.0, Outcome.HOLDS_IN_PART),
        ([0.1, -0.1], 0.0, Outcome.NOT_SETTLED),
        ([-1.0, 0.1], 0.0, Outcome.FAILS),
        ([0.21, 1.0], 0.1, Outcome.HOLDS),
        ([0.19, 1.0], 0.1, Outcome.HOLDS_IN_PART),
        ([0.19], 0.1, Outcome.NOT_SETTLED),
        ([-0.39], 0.1, Outcome.NOT_SETTLED),
        ([-0.41], 0.1, Outcome.FAILS),
        ([-1.0, 0.3], 0.1, Outcome.HOLDS_IN_PART),
    ],
)
def test_unclear_comparisons_are_weighed(values, margin, outcome):
    """Each of another kind: the released model of one size, and that of the other."""
    released = Source(None, whole=True)
    settings = ("mnist reference", "mnist larger")
    found = []
    for setting, value in zip(settings, values, strict=False):
        found.append(Difference(released, setting, "miwae", Estimate(value, 0.1), "log_px"))
    assert claims.weighed(found, margin) is outcome


def reference(*values, method="miwae", released=True):
    """Comparisons of one kind, over settings."""
    source = Source(None if released else 1000, whole=True)
    found = []
    for setting, value in zip(("mnist", "omniglot", "digits"), values, strict=False):
        estimate = Estimate(value, 0.1, 50, error_of=ErrorOf.SEEDS)
        found.append(Difference(source, f"{setting} reference", method, estimate, "log_px"))
    return found


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((0.25, 0.28, 0.22), Outcome.HOLDS),  # none is clear, together they are
        ((-0.25, -0.28, -0.22), Outcome.FAILS),
        ((0.15, 0.10, 0.12), Outcome.NOT_SETTLED),
        ((0.9, 0.1, 0.1), Outcome.HOLDS_IN_PART),  # too far apart for their mean to be clear
        ((0.9, 0.9, -0.4), Outcome.HOLDS_IN_PART),
    ],
)
def test_comparisons_of_one_kind_are_put_together(values, outcome):
    assert claims.weighed(reference(*values)) is outcome


def test_a_mean_does_not_hide_a_comparison_that_goes_the_other_way():
    agreeing = [d for _ in range(30) for d in reference(0.9, 0.9)]
    against = reference(-0.4)
    assert claims.deciding([*agreeing, *against])[0][0].beyond(3.0)
    assert claims.weighed([*agreeing, *against]) is Outcome.HOLDS_IN_PART


def test_what_is_put_together_is_of_one_method_trained_as_it_says_in_one_model():
    ours = {"released": False}
    found = [*reference(0.1, 0.2), *reference(0.3, **ours), *reference(0.4, method="piwae")]
    found += reference(0.5, method="piwae", **ours)
    larger = (Source(None, whole=True), "mnist larger", "miwae", Estimate(0.6, 0.1), "log_px")
    found.append(Difference(*larger))
    kinds = {kind: [e.value for e in mine] for kind, mine in claims.by_kind(found).items()}
    assert kinds == {
        "MIWAE with the reference model": [0.1, 0.2, 0.3],
        "the released PIWAE with the reference model": [0.4],
        "PIWAE with the reference model": [0.5],
        "MIWAE with the larger model": [0.6],
    }


@pytest.mark.parametrize("dof", [15, 1000])
def test_a_method_that_is_behind_by_the_margin_is_called_as_good_in_one_case_of_740(dof):
    """The size of the test, at a margin of 0.1 nats and an error that is known with ``dof``."""
    rng = np.random.default_rng(0)
    trials = 100_000
    values = rng.normal(-0.1, 0.1, trials)
    errors = 0.1 * (rng.chisquare(dof, trials) / dof) ** 0.5
    bound = Estimate(1.0, 1.0, dof)
    assert not bound.beyond(3.0)
    factor = stats.t.isf(stats.norm.sf(3.0), dof)
    called = np.mean(values + 0.1 > factor * errors)
    assert called == pytest.approx(stats.norm.sf(3.0), abs=0.0005)
    for value, error in zip(values[:200], errors[:200], strict=True):
        found = reference(value)[0]._replace(estimate=Estimate(value, error, dof))
        good = claims.weighed([found], 0.1) is Outcome.HOLDS
        assert good == (value + 0.1 > factor * error)


def test_the_margins_are_those_that_were_fixed_in_advance():
    with claims.TABLE.open(newline="", encoding="utf-8") as file:
        margins = {float(row["margin"]) for row in csv.DictReader(file) if row["margin"]}
    fixed = {-h.margin for h in HYPOTHESES if h.metric == "log_px"}
    assert margins == fixed == {0.1}


def test_a_verdict_is_the_sum_of_its_outcomes():
    assert claims.summed_up([True, True]) is Outcome.HOLDS
    assert claims.summed_up([True, False]) is Outcome.HOLDS_IN_PART
    assert claims.summed_up([False]) is Outcome.FAILS
    assert claims.summed_up([]) is Outcome.UNTESTED


def test_printed_values_are_confirmed_and_do_not_hold():
    assert claims.summed_up([True, True], confirming=True) is Outcome.CONFIRMED
    assert claims.summed_up([True, False], confirming=True) is Outcome.CONFIRMED_IN_PART
    assert claims.summed_up([False], confirming=True) is Outcome.FAILS
    assert claims.summed_up([], confirming=True) is Outcome.UNTESTED


# Differences from IWAE


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (Estimate(0.31, 0.1, 9_999), Outcome.HOLDS),
        (Estimate(0.29, 0.1, 9_999), Outcome.NOT_SETTLED),
        (Estimate(-0.29, 0.1, 9_999), Outcome.NOT_SETTLED),
        (Estimate(-1.0, 0.1, 9_999), Outcome.FAILS),
        (Estimate(1.0, None, 0), Outcome.UNTESTED),
    ],
    ids=str,
)
def test_a_method_is_ahead_only_beyond_three_standard_errors(monkeypatch, difference, outcome):
    def planted(a, b, metric, among):
        return difference if a else NOT_RUN

    monkeypatch.setattr(evidence_module, "paired_difference", planted)
    outcome_now, _ = claims.ahead(Evidence(), "iwae_64", ("piwae",), ["mnist reference"])
    assert outcome_now is outcome


def test_short_runs_are_told_and_do_not_count(tmp_path):
    copy_published(tmp_path)
    for method, value in (("iwae", -90.0), ("piwae", -95.0), ("miwae", -95.0)):
        write_record(tmp_path, plan(method, profile="short")[0], value)
    outcome, said = claims.ahead(Evidence(str(tmp_path)), "iwae_64", ("piwae", "miwae"))
    assert outcome is Outcome.HOLDS_IN_PART  # MNIST's lead is within what another training changes
    assert "40 epochs, too short to count, one training each: −5.00 ± 0.11 (PIWAE, MNIST)" in said


def test_a_lead_that_another_training_could_change_is_no_evidence_for_as_good(committed):
    of_piwae = partial(claims.ahead, committed, "log_px", ("piwae",), margin=0.1)
    assert committed.apart("mnist larger", "piwae", "iwae", "log_px").value > 0
    assert of_piwae(["mnist larger"]).outcome is Outcome.NOT_SETTLED
    assert of_piwae(["mnist reference"]).outcome is Outcome.NOT_SETTLED
    assert of_piwae(["omniglot reference"], "none").outcome is Outcome.HOLDS


def test_whole_trainings_of_ours_are_a_test_where_the_released_ones_are_none(tmp_path):
    """Values of single images 0 and 1 apart; and short runs, which are told."""
    for method, value in (("iwae", -85.0), ("piwae", -86.0), ("miwae", -84.0)):
        for profile in ("full", "short"):
            write_record(tmp_path, plan(method, profile=profile)[0], value)
    where = {"metric": "log_px", "settings": ["mnist reference"], "no_test": "none", "margin": 0.1}
    with_whole_runs = Evidence(str(tmp_path))
    of_piwae = claims.ahead(with_whole_runs, methods=("piwae",), **where)
    of_miwae = claims.ahead(with_whole_runs, methods=("miwae",), **where)
    assert of_piwae.outcome is Outcome.FAILS
    assert of_miwae.outcome is Outcome.HOLDS

    shutil.rmtree(tmp_path / "full")
    outcome, said = claims.ahead(Evidence(str(tmp_path)), methods=("piwae",), **where)
    assert outcome is Outcome.SHORT
    assert "40 epochs, too short to count, one training each: −1.00 ± 0.15 (PIWAE, MNIST)" in said


@pytest.mark.parametrize(
    "text",
    ["CIWAE(0.5) has a smaller gap than IWAE", "PIWAE's generative network is as good as IWAE's"],
)
def test_models_that_were_not_trained_as_the_claim_has_it_are_no_test_of_it(tmp_path, text):
    copy_published(tmp_path)
    outcome, said = claim_called(text).check(Evidence(str(tmp_path)))
    assert outcome is Outcome.UNTESTED
    assert "no test" in said


def test_released_models_that_are_no_test_leave_a_claim_to_our_short_runs(committed):
    outcome, _ = claims.ahead(
        committed, "log_px", ("piwae",), ["mnist reference"], no_test="none", margin=0.1
    )
    assert outcome is Outcome.SHORT


# A learned beta


@pytest.mark.parametrize(
    ("profiles", "better", "outcome"),
    [
        (["short"], 3.0, Outcome.SHORT),
        (["short", "full"], 3.0, Outcome.HOLDS),
        (["short", "full"], 0.0, Outcome.HOLDS_IN_PART),
    ],
)
def test_a_learned_beta_is_judged_by_whole_trainings_only(tmp_path, profiles, better, outcome):
    copy_published(tmp_path)
    for profile in profiles:
        for e in exhibits.runs_of("figure4", profile):
            gain = better + e.beta / 100 if e.method == "ciwae-learned" else e.beta
            write_record(tmp_path, e, -90 + gain)
    assert claims.learned_beta(Evidence(str(tmp_path))).outcome is outcome


# Gradients


def test_that_few_weights_count_explains_and_does_not_select(committed):
    outcome, said = claims.in_every_place(committed, lambda rows: False, counting=16)
    assert outcome is Outcome.FAILS
    assert said == (
        "in 0 of 4 places. In 3 places fewer than 16 of 64 weights count. Each trained network is "
        "of one training"
    )


# What another training changes


def test_no_verdict_on_one_training_ignores_what_another_would_change(committed):
    """The floor is our seeds' noise or the paper's, and below no comparison's error."""
    archive = committed.archive
    of_piwae = training_noise(archive, "piwae", "iwae", "iwae_64")
    assert of_piwae == (pytest.approx(0.168, abs=0.001), 19)
    for metric in ("iwae_64", "log_px", "minus_kl"):
        found = claims.differences_from_iwae(
            committed, metric, ("piwae", "miwae", "ciwae", "vae"), claims.NAMES_OF_SETTINGS
        )
        single = [d for d in found if d.estimate.seeds == 1]
        assert len(single) > 12
        for d in single:
            noise = training_noise(archive, d.method, "iwae", metric, d.source.released)
            assert d.estimate.se >= noise.sd > 0.05
            assert 15 <= noise.dof <= d.estimate.dof < 40
        several = [d for d in found if d.estimate.seeds > 1]
        assert all(d.estimate.error_of is ErrorOf.SEEDS for d in several)


# All of them together


def test_what_is_corrected_is_each_comparison_behind_a_verdict_on_methods(monkeypatch):
    """Benjamini and Hochberg's share by hand, of four tests of which two are clear."""
    values = {"a": [4.0], "b": [3.5, 1.0, 0.0]}

    def planted(evidence, metric, methods, settings):
        return [reference(0.1 * value)[0] for value in values[metric]]

    def of_other_kinds(differences):
        return {str(place): [d.estimate] for place, d in enumerate(differences)}

    monkeypatch.setattr(claims, "differences_from_iwae", planted)
    monkeypatch.setattr(claims, "by_kind", of_other_kinds)
    checks = [partial(claims.ahead, metric=m, methods=["miwae"]) for m in values]
    checks.append(partial(claims.parameter_counts))
    made_up = [claims.Claim("paper", "It holds", "snr", check) for check in checks]
    monkeypatch.setattr(claims, "CLAIMS", made_up)
    found = claims.correction(None)
    second = 2 * stats.t.sf(3.5, 50)
    assert (found.tests, found.clear) == (4, 2)
    assert found.expected == pytest.approx(4 * 2 * stats.norm.sf(3.0))
    assert found.percent_false == pytest.approx(100 * second * 4 / 2)


def test_a_gradient_is_clearer_only_beyond_three_standard_errors():
    rows = planted_gradients({"theta": 0.0, "phi": 0.0})
    assert not claims.clearer(rows, "miwae", "phi")
    of_miwae = rows.method == "miwae"
    rows.loc[of_miwae, "phi_signal"] *= 4
    assert claims.clearer(rows, "miwae", "phi", times=1.9)
    assert not claims.clearer(rows, "miwae", "phi", times=2.1)
    rows.loc[of_miwae & (rows.draw > 4), "phi_signal"] /= 30
    assert not claims.clearer(rows, "miwae", "phi")


# Encoders alone


def test_encoders_alone_are_told_and_do_not_count(tmp_path):
    assert claims.encoder_alone(Evidence(str(tmp_path))).outcome is Outcome.UNTESTED
    words = {"profile": "short", "epochs": 4, "decoder": "iwae", "precision": "tf32"}
    for method, value in (("iwae", -75.0), ("miwae", -70.0)):
        write_record(tmp_path, plan(method, **words)[0], value)
    outcome, said = claims.encoder_alone(Evidence(str(tmp_path)))
    assert outcome is Outcome.SHORT
    assert said.endswith(
        "IWAE-64 minus that with IWAE's bound: 5.00 ± 0.11 (MIWAE, 1 training each)"
    )


def test_other_settings_are_compared_at_one_length(tmp_path):
    """With IWAE after as many epochs, however long it trained; what is missing is left out."""
    (iwae,) = plan("iwae", profile="short", epochs=41, precision="tf32")
    (miwae,) = plan("miwae", M=4, K=16, profile="short", precision="tf32")
    (another,) = plan("piwae", M=4, K=16, profile="short", epochs=12)
    claim = claim_called(
        "Other settings do as well: MIWAE(4,16), PIWAE(4,16) and CIWAE(0.05) are ahead of IWAE"
    )
    assert claim.check(Evidence(str(tmp_path))).outcome is Outcome.UNTESTED
    write_record(tmp_path, iwae, value=-90.0)
    write_record(tmp_path, miwae, value=-89.0)
    write_record(tmp_path, another, value=-80.0)
    outcome, said = claim.check(Evidence(str(tmp_path)))
    assert outcome is Outcome.SHORT
    assert "1.00 (MIWAE(4,16) after 40 epochs, 1 training each)" in said
    assert "PIWAE" not in said


def test_ssim_is_comparable_in_part_where_methods_differ_less_than_images(tmp_path):
    """In part, as the paired images, of which each record has the same, tell methods apart."""
    claim = claim_called("The methods' SSIM is comparable")
    assert claim.check(Evidence(str(tmp_path))).outcome is Outcome.UNTESTED
    for sd, outcome in ((0.05, Outcome.HOLDS_IN_PART), (0.03, Outcome.FAILS)):
        folder = tmp_path / outcome
        for place, e in enumerate(exhibits.released_runs()[:5]):
            ssim = {"value": 0.80 + place / 100, "se": 0.001, "sd": sd}
            write_record(folder, replace(e, epochs=0), also={"ssim": ssim})
        assert claim.check(Evidence(str(folder))).outcome is outcome


def test_ciwae_is_as_good_as_iwae_only_if_it_is_not_clearly_behind(committed):
    """On Omniglot it is behind by less than three of its errors: that settles nothing."""
    claim = claim_called("CIWAE(0.5)'s IWAE-64 is as good as IWAE's")
    assert claim.check(committed).outcome is Outcome.NOT_SETTLED
