"""Each claim's verdict and the words of its evidence, from planted differences and measurements."""

from types import SimpleNamespace

import pandas as pd
import pytest

from repro import ReproError
from repro.records.estimates import NOT_RUN, Estimate
from repro.studies import claims, evidence
from repro.studies.audit import CellVerdict
from repro.studies.claims import NO_RECORDS, Claim, Difference, Outcome, Verdict
from repro.studies.designs import COUNTS
from repro.studies.estimator_runs import BOTH_EARLIER, BOTH_NETWORKS, ENCODER_ALONE
from repro.studies.evidence import NAMES_OF_SETTINGS, Source
from repro.studies.similarity import SsimVerdict
from repro.words.experiments import TABLE_METHODS, plan
from tests.helpers import planted_gradients, record_in_memory

WHOLE = 3280  # epochs
CAUTION = (
    ". log p̂ depends on the proposal as well: with one decoder and different encoders it is "
    "−87.0 to −85.8"
)


@pytest.fixture(autouse=True)
def _one_decoder(monkeypatch):
    monkeypatch.setattr(claims, "log_px_of_one_decoder", lambda archive: "−87.0 to −85.8")


def record(method="iwae", setting="mnist reference", whose="weights", epochs=WHOLE, metrics=None):
    """A record without a file, of the profile that ``whose`` stands for."""
    dataset, model = setting.split()
    profile = {"weights": "published", "ours": "full", "short": "short"}[whose]
    name = "omniglot-lake" if dataset == "omniglot" else dataset
    (e,) = plan(method, name, model=model, profile="full", epochs=epochs)
    return record_in_memory(SimpleNamespace(**{**vars(e), "profile": profile}), metrics)


class Planted:
    """Evidence whose differences are given: {(whose, setting, method): from IWAE}."""

    archive = None

    def __init__(self, differences=None, epochs=WHOLE):
        self.differences = differences or {}
        self.epochs = epochs
        self.metrics = set()  # that were asked for

    def runs(self, setting, method=None, whose="weights"):
        return [record(method, setting, whose, self.epochs)]

    def apart(self, setting, a, b, metric, whose="weights"):
        assert b == "iwae"
        self.metrics.add(metric)
        return self.differences.get((whose, setting, a), NOT_RUN)


def test_where_differences_come_from():
    """Those of the released weights first; those without an error are left out."""
    planted = Planted(
        {
            ("ours", "mnist reference", "piwae"): Estimate(0.1, 0.2),
            ("weights", "mnist larger", "miwae"): Estimate(0.3, 0.1),
            ("weights", "mnist reference", "piwae"): Estimate(0.2, None),
        },
        epochs=40,
    )
    settings = ["mnist reference", "mnist larger"]
    found = claims.differences_from_iwae(planted, "iwae_64", ("piwae", "miwae"), settings)
    assert [(d.setting, d.method, d.estimate.value) for d in found] == [
        ("mnist larger", "miwae", 0.3),
        ("mnist reference", "piwae", 0.1),
    ]
    assert [d.source.released for d in found] == [True, False]
    assert [d.source.whole for d in found] == [True, False]
    assert planted.metrics == {"iwae_64"}


TWO = {
    ("weights", "mnist reference", "piwae"): Estimate(0.5, 0.1),
    ("weights", "mnist larger", "miwae"): Estimate(0.6, 0.1),
    ("ours", "omniglot reference", "miwae"): Estimate(-0.7, 0.1),
}


def test_ahead_tells_every_difference_by_its_source():
    planted = Planted(TWO)
    outcome, said = claims.ahead(planted, "iwae_64", ("piwae", "miwae"))
    assert planted.metrics == {"iwae_64"}
    assert outcome is Outcome.HOLDS_IN_PART
    assert said == (
        "IWAE-64 minus IWAE's, released models, one training each: 0.50 ± 0.10 (PIWAE, MNIST), "
        "0.60 ± 0.10 (MIWAE, MNIST, larger); our runs of 3280 epochs, one training each: "
        "−0.70 ± 0.10 (MIWAE, Omniglot)"
    )


def test_ahead_leaves_out_released_models_that_are_no_test():
    outcome, said = claims.ahead(Planted(TWO), "log_px", ("piwae", "miwae"), no_test="none")
    assert outcome is Outcome.FAILS
    assert said == (
        "log p̂ minus IWAE's, our runs of 3280 epochs, one training each: "
        f"−0.70 ± 0.10 (MIWAE, Omniglot); none{CAUTION}"
    )
    outcome, said = claims.ahead(Planted(TWO), "minus_kl", ("piwae",), no_test="none")
    no_records = "the gap minus IWAE's, no records of ours yet; none"
    assert (outcome, said) == (Outcome.UNTESTED, no_records)


def test_ahead_is_asked_in_the_settings_that_a_claim_names():
    outcome, said = claims.ahead(Planted(TWO), "iwae_64", ("miwae",), ["mnist larger"])
    assert outcome is Outcome.HOLDS
    assert said.endswith("released models, one training each: 0.60 ± 0.10 (MIWAE, MNIST, larger)")


def test_generative_networks_are_judged_by_log_px_where_no_other_measure_is_there():
    class Measured(Planted):
        def apart(self, setting, a, b, metric, whose="weights"):
            of_metric = evidence.LOG_P if whose == "ours" else "log_px"
            return super().apart(setting, a, b, metric, whose) if metric == of_metric else NOT_RUN

    planted = {("weights", "mnist larger", "piwae"): Estimate(0.5, 0.1)}
    ours = ("ours", "mnist reference", "piwae")
    planted[ours] = Estimate(0.4, 0.1)
    outcome, said = claims.ahead(Measured(planted), evidence.LOG_P, ("piwae",))
    assert outcome is Outcome.HOLDS
    assert said == (
        "log p(x) by annealed importance sampling minus IWAE's, released models, one training "
        "each: 0.50 ± 0.10 (PIWAE, MNIST, larger, log p̂); our runs of 3280 epochs, one training "
        f"each: 0.40 ± 0.10 (PIWAE, MNIST){CAUTION}"
    )
    _, said = claims.ahead(Measured({ours: planted[ours]}), evidence.LOG_P, ("piwae",))
    assert "log p̂" not in said


def test_as_good_as_tells_what_is_no_test_and_does_not_count_it():
    planted = Planted(
        {
            ("weights", "mnist reference", "piwae"): Estimate(-0.5, 0.1),
            ("ours", "mnist reference", "piwae"): Estimate(0.3, 0.1),
        }
    )
    told = (
        "log p̂ minus IWAE's, released models, one training each: −0.50 ± 0.10 (PIWAE, MNIST); "
        "our runs of 3280 epochs, one training each: 0.30 ± 0.10 (PIWAE, MNIST)"
        "; as good as means clearly above −0.1"
    )
    of_piwae = {"metric": "log_px", "methods": ("piwae",), "margin": 0.1}
    everything = (Outcome.HOLDS_IN_PART, f"{told}{CAUTION}")
    assert claims.ahead(planted, **of_piwae) == everything
    ours = (Outcome.HOLDS, f"{told}; but{CAUTION}")
    assert claims.ahead(planted, **of_piwae, no_test="but") == ours
    assert planted.metrics == {"log_px"}
    outcome, said = claims.ahead(Planted(), **of_piwae)
    assert outcome is Outcome.UNTESTED
    assert said.startswith("log p̂ minus IWAE's, no records; as good as")


def test_as_good_as_is_asked_in_the_settings_that_a_claim_names():
    of_miwae = {"metric": "iwae_64", "methods": ("miwae",), "margin": 0.1}
    outcome, _ = claims.ahead(Planted(TWO), settings=["omniglot reference"], **of_miwae)
    assert outcome is Outcome.FAILS
    outcome, _ = claims.ahead(Planted(TWO), settings=["mnist larger"], **of_miwae)
    assert outcome is Outcome.HOLDS


def test_comparisons_of_one_kind_are_told_together_if_they_are_whole_trainings():
    planted = {
        ("weights", "mnist reference", "miwae"): Estimate(0.3, 0.1, 50),
        ("weights", "omniglot reference", "miwae"): Estimate(0.4, 0.1, 50),
    }
    outcome, said = claims.ahead(Planted(planted), "iwae_64", ("miwae",))
    assert outcome is Outcome.HOLDS
    assert said.endswith(
        "; MIWAE with the reference model, together: 0.35 ± 0.07 (2 comparisons, χ² = 0.5 with 1 "
        "degree of freedom)"
    )
    short = {("ours", setting, method): e for (_, setting, method), e in planted.items()}
    outcome, said = claims.ahead(Planted(short, epochs=40), "iwae_64", ("miwae",))
    assert outcome is Outcome.SHORT
    assert "together" not in said


@pytest.fixture
def trainings(monkeypatch):
    """What trainings are ahead by, {(name, setting): difference}, which a test fills."""
    leads = {}

    class PlantedRuns:
        def __init__(self, archive, setting):
            assert archive == "the archive"
            self.setting = setting

        def apart(self, first, second, metric):
            assert (second, metric) == ("iwae rep", "iwae_64")
            return leads.get((first.removesuffix(" rep"), self.setting), NOT_RUN)

        def trainings_behind(self, first, second):
            return f"{first} beside {second}".replace(" rep", "")

    monkeypatch.setattr(claims, "EstimatorRuns", PlantedRuns)
    return leads


WITH_ARCHIVE = SimpleNamespace(archive="the archive")


def test_encoders_alone_are_told_by_method(trainings):
    assert claims.encoder_alone(WITH_ARCHIVE) == NO_RECORDS
    for method, lead in (("vae", 1.6), ("miwae", 2.8), ("iwae", 0.0)):
        trainings[method, ENCODER_ALONE] = Estimate(lead, 0.1)
    assert claims.encoder_alone(WITH_ARCHIVE) == (
        Outcome.SHORT,
        "for the decoder of the report's IWAE, after 4 epochs on MNIST, IWAE-64 minus that with "
        "IWAE's bound: 2.80 ± 0.10 (MIWAE, miwae beside iwae), 1.60 ± 0.10 (VAE, vae beside iwae)",
    )


def test_other_settings_are_told_with_their_length(trainings):
    assert claims.other_settings(WITH_ARCHIVE) == NO_RECORDS
    trainings["miwae(4,16)", BOTH_NETWORKS] = Estimate(0.9, 0.1)
    trainings["ciwae(0.05)", BOTH_EARLIER] = Estimate(-0.1, 0.1)
    assert claims.other_settings(WITH_ARCHIVE) == (
        Outcome.SHORT,
        "IWAE-64 minus IWAE's on MNIST, "
        "0.90 ± 0.10 (MIWAE(4,16) after 40 epochs, miwae(4,16) beside iwae), "
        "−0.10 ± 0.10 (CIWAE(0.05) after 13 epochs, ciwae(0.05) beside iwae)",
    )


def ssim_of(values, sd):
    """Records of all methods with these SSIM values, whose images are ``sd`` apart."""
    return [
        record(m, metrics={"ssim": {"value": v, "sd": s}})
        for m, v, s in zip(TABLE_METHODS, values, sd, strict=True)
    ]


class PlantedSsim:
    """Evidence of SSIM values in two settings; in the first, methods are told apart."""

    def __init__(self, by_setting):
        self.by_setting = by_setting
        self.compared = []

    def runs(self, setting):
        return self.by_setting.get(setting, [])

    def apart(self, setting, highest, lowest, metric):
        self.compared.append((setting, highest, lowest, metric))
        return Estimate(0.1, 0.01 if setting == NAMES_OF_SETTINGS[0] else 0.05)


def test_comparable_ssim_counts_both_spreads_and_clear_differences():
    assert claims.comparable_ssim(PlantedSsim({})) == NO_RECORDS
    planted = PlantedSsim(
        {
            "mnist reference": ssim_of([0.80, 0.84, 0.82, 0.83, 0.81], [0.05] * 5),
            "mnist larger": ssim_of([0.90, 0.81, 0.85, 0.86, 0.87], [0.2, 0.1, 0.3, 0.3, 0.3]),
            "omniglot reference": ssim_of([0.8, 0.8, 0.8, 0.8, 0.7], [0.2] * 5),
        }
    )
    assert claims.comparable_ssim(planted) == (
        Outcome.HOLDS_IN_PART,
        "the range of the five methods beside the standard deviation between images, in the "
        "released weights, one training each: MNIST: 0.040 beside 0.050; MNIST, larger: 0.090 "
        "beside 0.100; Omniglot: 0.100 beside 0.200. The highest is clearly above the lowest in "
        "1 of 3 settings",
    )
    first, second, *_, last = TABLE_METHODS
    assert planted.compared == [
        ("mnist reference", second, first, "ssim"),
        ("mnist larger", first, second, "ssim"),
        ("omniglot reference", first, last, "ssim"),
    ]


def test_comparable_ssim_holds_only_where_nothing_tells_methods_apart():
    within = ssim_of([0.80, 0.84, 0.82, 0.83, 0.81], [0.05] * 5)
    equal_spreads = ssim_of([0.75, 1.0, 0.8, 0.8, 0.8], [0.25] * 5)
    assert claims.comparable_ssim(PlantedSsim({"mnist larger": within})).outcome is Outcome.HOLDS
    in_part = claims.comparable_ssim(PlantedSsim({"mnist larger": equal_spreads}))
    assert in_part.outcome is Outcome.HOLDS_IN_PART
    neither = claims.comparable_ssim(PlantedSsim({"mnist reference": equal_spreads}))
    assert neither.outcome is Outcome.FAILS


class PlantedLogPx:
    """Evidence of a metric with the two models on MNIST."""

    archive = None

    def __init__(self, reference, larger, metric="log_px"):
        self.values = {"mnist reference": reference, "mnist larger": larger}
        self.metric = metric

    def of_released(self, setting, metric):
        return self.values[setting] if metric == self.metric else {}


def of_methods(*values):
    return dict(zip(TABLE_METHODS, values, strict=True))


def test_a_larger_model_is_compared_with_the_distances_between_methods():
    assert TABLE_METHODS == ("iwae", "piwae", "miwae", "ciwae", "vae")
    reference = of_methods(-84.0, -84.5, -85.0, -86.0, -87.0)
    outcome, said = claims.larger_model(
        PlantedLogPx(reference, of_methods(-82.5, -83.0, -83.5, -84.0, -85.5))
    )
    assert outcome is Outcome.HOLDS_IN_PART
    assert said == (
        "in the released weights, one training each, log p̂ gains 1.50 to 2.00 nats; IWAE, PIWAE "
        f"and MIWAE differ by 1.00, all five by 3.00{CAUTION}"
    )
    as_much = of_methods(*(value + 1.0 for value in reference.values()))
    assert claims.larger_model(PlantedLogPx(reference, as_much)).outcome is Outcome.FAILS
    more = of_methods(*(value + 3.1 for value in reference.values()))
    assert claims.larger_model(PlantedLogPx(reference, more)).outcome is Outcome.HOLDS
    without_one = {m: v for m, v in reference.items() if m != "vae"}
    assert claims.larger_model(PlantedLogPx(reference, without_one)) == NO_RECORDS
    outcome, said = claims.larger_model(PlantedLogPx(reference, more, evidence.LOG_P))
    assert outcome is Outcome.HOLDS
    assert "log p(x) by annealed importance sampling gains 3.10 to 3.10 nats" in said
    assert "log p̂" not in said


def test_printed_cells_are_counted_for_their_metric(monkeypatch):
    measured = [
        ("iwae_64", CellVerdict.CONFIRMED, "a record"),
        ("iwae_64", CellVerdict.NOT_SHOWN_WRONG, "a record"),
        ("iwae_64", CellVerdict.NOT_IWAE_64, "a record"),
        ("iwae_64", CellVerdict.DIFFERS, None),
        ("log_px", CellVerdict.CONFIRMED, "a record"),
    ]

    def cells(archive):
        assert archive == "the archive"
        return [SimpleNamespace(metric=m, verdict=v, record=r) for m, v, r in measured]

    monkeypatch.setattr(claims.audit, "cells_of_table1", cells)
    assert claims.printed_cells(WITH_ARCHIVE, "iwae_64") == (
        Outcome.CORRECTED,
        "2 of 3 printed values are IWAE-64 of the released weights, one training each",
    )
    assert claims.printed_cells(WITH_ARCHIVE, "log_px") == (
        Outcome.CONFIRMED,
        "1 of 1 printed values are log p̂ of the released weights, one training each",
    )
    assert claims.printed_cells(WITH_ARCHIVE, "minus_kl") == NO_RECORDS


@pytest.mark.parametrize(
    ("found", "digits", "outcome", "said"),
    [
        ("cc", 3, Outcome.CONFIRMED, "2 of 2 printed values are within 0.005 of the released"),
        ("cd", 2, Outcome.CONFIRMED_IN_PART, "1 of 2 printed values are within 0.01 of the"),
        ("cb", 3, Outcome.CONFIRMED_IN_PART, "; 1 fits the checkpoint that the released code"),
        ("bb", 3, Outcome.FAILS, "each; 2 fit the checkpoint that the released code calls"),
        ("d", 3, Outcome.FAILS, "0 of 1 printed values are within 0.005 of the released weights'"),
    ],
)
def test_printed_ssim_values_are_counted(monkeypatch, found, digits, outcome, said):
    kinds = {"c": SsimVerdict.CONFIRMED, "d": SsimVerdict.DIFFERS, "b": SsimVerdict.CHECKPOINT}

    exhibit = "Figure 5" if digits == 3 else "Table 2: mnist to omniglot"

    def verdicts(archive, asked):
        assert (archive, asked) == ("the archive", exhibit)
        return [kinds[letter] for letter in found]

    monkeypatch.setattr(claims.similarity, "verdicts", verdicts)
    verdict = claims.printed_ssim(WITH_ARCHIVE, exhibit)
    assert verdict.outcome is outcome
    assert said in verdict.evidence
    assert ("checkpoint" in verdict.evidence) == ("b" in found)
    assert verdict.evidence.endswith((", one training each", "calls best"))


class PlantedBetas:
    """Evidence of Figure 4: scores of fixed and of learned betas from the same starts."""

    def __init__(self, fixed, learned, epochs=WHOLE, missing=()):
        self.of_methods = {"ciwae": fixed, "ciwae-learned": learned}
        self.epochs = epochs
        self.missing = missing
        self.archive = self

    def select(self, exhibit):
        assert exhibit == "figure4"
        return [record(whose="ours", epochs=self.epochs)], self.missing

    def scores(self, method):
        return pd.Series(self.of_methods[method])

    def highest_learned_beta(self):
        return 0.0123


@pytest.mark.parametrize(
    ("fixed", "learned", "outcome"),
    [
        ([1.0, 1.1, 1.2], [2.03, 2.1, 2.17], Outcome.HOLDS),
        ([1.0, 2.0, 3.0], [5.0, 5.1, 5.2], Outcome.HOLDS_IN_PART),  # steadier, not clearly better
        ([1.0, 1.1, 1.2], [2.0, 2.1, 2.3], Outcome.HOLDS_IN_PART),  # clearly better, less steady
        ([1.0, 2.0, 3.0], [101.0, 102.0, 103.0], Outcome.HOLDS_IN_PART),  # better, as steady
        ([1.0, 1.1, 1.2], [1.05, 1.1, 1.15], Outcome.HOLDS_IN_PART),  # steadier, no better
        ([1.0, 1.1, 1.2], [0.5, 1.0, 1.5], Outcome.FAILS),
    ],
)
def test_a_learned_beta_must_be_steadier_and_better(monkeypatch, fixed, learned, outcome):
    spread = {m: pd.Series(v).std() for m, v in (("ciwae", fixed), ("ciwae-learned", learned))}

    def spread_over_betas(used, method):
        assert used[0].experiment.epochs == WHOLE
        return Estimate(0.0, spread[method])

    monkeypatch.setattr(claims.figure4, "spread_over_betas", spread_over_betas)
    assert claims.learned_beta(PlantedBetas(fixed, learned)).outcome is outcome


def test_a_learned_beta_is_told_beside_fixed_ones(monkeypatch):
    spreads = {"ciwae": Estimate(-90.0, 0.5), "ciwae-learned": Estimate(-89.0, 0.2)}
    monkeypatch.setattr(claims.figure4, "spread_over_betas", lambda used, m: spreads[m])
    missing = claims.learned_beta(PlantedBetas([], [], missing=["a run"]))
    assert missing.outcome is Outcome.UNTESTED
    short = claims.learned_beta(PlantedBetas([1.0], [2.0], epochs=13))
    assert short.outcome is Outcome.SHORT
    told = "fixed −90.00 ± 0.50, learned −89.00 ± 0.20, and a learned β ends at 0.02 or below"
    length = "our runs of 13 epochs, too short to count, one training for each β"
    assert short.evidence == f"{missing.evidence}; in {length}, {told}"
    whole = claims.learned_beta(PlantedBetas([1.0, 1.2], [2.0, 2.2]))
    of_whole = "our runs of 3280 epochs, one training for each β"
    assert whole.evidence == f"{missing.evidence}; in {of_whole}, {told}"


def test_the_printed_betas_lie_above_every_log_px_of_table_1():
    said = claims.learned_beta(PlantedBetas([], [], missing=["a run"])).evidence
    best = max(e.value for r in claims.TABLE1["report"].values() for e in r["log_px"].values())
    fixed, learned = claims.FIGURE4["fixed"], claims.FIGURE4["learned"]
    assert said == (
        f"the printed scores ({fixed}, {learned}) lie above the best log p̂ of any model in the "
        f"report's Table 1 ({claims.number(best)})"
    )


def test_the_report_counts_its_parameters_right():
    verdict = claims.parameter_counts(None)
    assert verdict == (Outcome.CONFIRMED, "425,284 and 973,624")


def test_the_report_would_be_told_if_it_counted_wrong(monkeypatch):
    monkeypatch.setitem(claims.MODELS, "larger", claims.MODELS["reference"])
    verdict = claims.parameter_counts(None)
    assert verdict == (Outcome.FAILS, "425,284 and 425,284")


@pytest.mark.parametrize(
    ("from_vae", "from_iwae", "outcome"),
    [(0.2, -2.0, Outcome.CORRECTED), (-2.0, 2.0, Outcome.NOT_SETTLED)],
)
def test_the_released_ciwae_is_a_vae_if_it_is_nearer_to_one(from_vae, from_iwae, outcome):
    differences = {"vae": Estimate(from_vae, 0.1), "iwae": Estimate(from_iwae, 0.1)}

    def apart(setting, a, b, metric):
        assert (setting, a, metric) == ("mnist reference", "ciwae", "log_px")
        return differences[b]

    verdict = claims.ciwae_is_a_vae(SimpleNamespace(apart=apart))
    assert verdict == (
        outcome,
        "the released code ran it with K = 1, a VAE of two samples: in the released weights, "
        "one training each, log p̂ is "
        f"{differences['vae']} from the VAE's, {differences['iwae']} from IWAE's",
    )
    for other in ("vae", "iwae"):
        differences[other] = NOT_RUN
        assert claims.ciwae_is_a_vae(SimpleNamespace(apart=apart)) == NO_RECORDS
        differences[other] = Estimate(0.2, 0.1)


OF_ONE = ". Each trained network is of one training"


def test_a_claim_on_gradients_is_asked_in_every_place(monkeypatch):
    rows = {f"place {n}": pd.DataFrame({"ess": [float(n)]}) for n in (8, 16, 32)}

    def places(archive):
        assert archive == "the archive"
        return [*rows.items()]

    monkeypatch.setattr(claims.gradients, "places", places)
    monkeypatch.setattr(claims.gradients, "effective_samples", lambda rows: rows.ess.iloc[0])
    in_every_place = claims.in_every_place
    assert in_every_place(WITH_ARCHIVE, lambda rows: rows.ess.iloc[0] > 8) == (
        Outcome.HOLDS_IN_PART,
        f"in 2 of 3 places: place 16; place 32{OF_ONE}",
    )
    assert in_every_place(WITH_ARCHIVE, lambda rows: True, counting=16) == (
        Outcome.HOLDS,
        "in 3 of 3 places: place 8; place 16; place 32. In 2 places fewer than 16 of 64 weights "
        f"count{OF_ONE}",
    )
    nowhere = in_every_place(WITH_ARCHIVE, lambda rows: False)
    assert nowhere == (Outcome.FAILS, f"in 0 of 3 places{OF_ONE}")


def test_unless_a_claim_is_about_many_weights_it_does_not_matter_how_few_count(monkeypatch):
    monkeypatch.setattr(claims.gradients, "places", lambda archive: [("a place", "rows")])
    monkeypatch.setattr(claims.gradients, "effective_samples", lambda rows: 1.0)
    verdict = claims.in_every_place(WITH_ARCHIVE, lambda rows: False)
    assert verdict.evidence == f"in 0 of 1 places{OF_ONE}"


def test_without_measurements_no_claim_on_gradients_is_judged(monkeypatch):
    def places(archive):
        raise ReproError("there is no table")

    monkeypatch.setattr(claims.gradients, "places", places)
    assert claims.in_every_place(WITH_ARCHIVE, lambda rows: True) == NO_RECORDS


def test_remedies_are_clearer_only_if_each_is():
    rows = planted_gradients({"theta": 0.0, "phi": 0.0})
    for method in ("piwae", "miwae", "ciwae"):
        assert not claims.remedies_are_clearer(rows)
        rows.loc[rows.method == method, "phi_signal"] *= 4
    assert claims.remedies_are_clearer(rows)
    rows.loc[rows.method == "iwae", "theta_signal"] /= 100
    rows["phi_signal"] = 1.0
    assert not claims.remedies_are_clearer(rows)


@pytest.mark.parametrize(("times", "level"), [(1.05, True), (1.2, False)])
def test_groups_do_not_matter_to_a_tenth(times, level):
    rows = planted_gradients({"theta": 0.0, "phi": 0.0})
    rows.loc[rows.method == "miwae", "theta_signal"] *= times**2
    assert claims.groups_do_not_matter(rows) is level


@pytest.mark.parametrize(
    ("theta", "phi", "held"),
    [(0.5, -0.5, True), (0.46, -0.46, True), (0.44, -0.5, False), (0.5, -0.56, False)],
)
def test_rates_are_the_theorys_within_a_twentieth(theta, phi, held):
    rows = planted_gradients({"theta": theta, "phi": phi})
    assert claims.at_the_theorys_rates(rows) is held


def test_rates_that_are_not_known_to_a_twentieth_are_not_the_theorys():
    rows = planted_gradients({"theta": 0.5, "phi": -0.5})
    last = (rows.method == "iwae") & (rows.K.max() == rows.K)
    rows.loc[last & (rows.draw % 2 == 0), "phi_signal"] *= 2.25
    rows.loc[last & (rows.draw % 2 == 1), "phi_signal"] /= 2.25
    assert not claims.at_the_theorys_rates(rows)


def test_rates_are_those_between_the_last_two_counts():
    rows = planted_gradients({"theta": 0.5, "phi": -0.5})
    of_iwae = rows.method == "iwae"
    *_, before, one_but_last, last = COUNTS
    rows.loc[of_iwae & (before == rows.K), "phi_signal"] *= 9
    assert claims.at_the_theorys_rates(rows)
    for K in (one_but_last, last):
        elsewhere = rows.copy()
        elsewhere.loc[of_iwae & (rows.K == K), "phi_signal"] *= 9
        assert not claims.at_the_theorys_rates(elsewhere)


@pytest.mark.parametrize(
    ("theta", "phi", "part"),
    [(0.1, -0.1, True), (0.1, 0.1, False), (-0.1, -0.1, False), (-0.1, 0.1, False)],
)
def test_the_networks_part_only_where_both_change_as_the_theory_has_it(theta, phi, part):
    rows = planted_gradients({"theta": theta, "phi": phi})
    assert claims.part_as_k_grows(rows) is part


def test_the_networks_part_from_the_first_count_to_the_last():
    """Whatever happens in between, and to other bounds."""
    rows = planted_gradients({"theta": 0.1, "phi": -0.1})
    of_iwae = rows.method == "iwae"
    rows.loc[of_iwae & rows.K.isin(COUNTS[1:-1]), "phi_signal"] *= 100
    rows.loc[~of_iwae, "phi_signal"] *= 100
    assert claims.part_as_k_grows(rows)
    rows.loc[of_iwae & (COUNTS[-1] == rows.K), "phi_signal"] *= 100
    assert not claims.part_as_k_grows(rows)
    rows.loc[of_iwae & (COUNTS[0] == rows.K), "phi_signal"] *= 100
    assert claims.part_as_k_grows(rows)


@pytest.mark.parametrize(
    ("value", "margin", "outcome"),
    [
        (0.31, 0.0, Outcome.HOLDS),
        (0.29, 0.0, Outcome.NOT_SETTLED),
        (-0.29, 0.0, Outcome.NOT_SETTLED),
        (-0.31, 0.0, Outcome.FAILS),
        (0.21, 0.1, Outcome.HOLDS),
        (0.19, 0.1, Outcome.NOT_SETTLED),
        (-0.39, 0.1, Outcome.NOT_SETTLED),
        (-0.41, 0.1, Outcome.FAILS),
    ],
)
def test_a_difference_is_on_a_side_beyond_three_standard_errors(value, margin, outcome):
    assert claims.weighed([one_difference(Estimate(value, 0.1))], margin) is outcome


def one_difference(estimate):
    return Difference(Source(None, whole=True), "mnist reference", "piwae", estimate, "log_px")


def test_more_is_asked_than_not_to_be_behind_unless_it_is_said():
    unclear = one_difference(Estimate(0.1, 0.1))
    assert claims.weighed([unclear]) is Outcome.NOT_SETTLED


def test_cards_show_verdict_claim_evidence_and_where_to_look(monkeypatch):
    told = Claim("paper", "It $holds$", "notebooks/table1", lambda e: Verdict(Outcome.HOLDS, e))
    other = Claim("report", "It fails", "notebooks/snr", lambda e: Verdict(Outcome.FAILS, "c"))
    last = Claim("report", "It may", "protocol", lambda e: Verdict(Outcome.CONFIRMED_IN_PART, "d"))
    monkeypatch.setattr(claims, "CLAIMS", (told, other, last))
    assert claims.as_markdown("evidence") == (
        ":::{dropdown} Holds · paper: It $holds$\n:color: success\n:class-container: claim\n\n"
        "Evidence. See {doc}`Table 1 <notebooks/table1>`.\n:::\n\n"
        ":::{dropdown} Does not hold · report: It fails\n:color: danger\n"
        ":class-container: claim\n\nC. See {doc}`Gradients <notebooks/snr>`.\n:::\n\n"
        ":::{dropdown} Confirmed in part · report: It may\n:color: warning\n"
        ":class-container: claim\n\nD. See {doc}`Protocol <protocol>`.\n:::"
    )
