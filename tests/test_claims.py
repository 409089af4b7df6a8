"""Verdicts follow from records; the book's numbers are the records' and change with them."""

import json
import shutil
from pathlib import Path

from repro import claims, experiments, records, tables
from repro.claims import CLAIMS, Numbers
from repro.experiments import TABLE_METHODS, plan
from tests.test_records import write
from tests.test_snr import planted

RESULTS = Path(__file__).parents[1] / "results"


def test_numbers_are_the_records():
    n = Numbers()
    record = records.released()["mnist", "reference", "iwae"]
    m = record.metrics["iwae_64"]
    assert n.value("mnist reference", "iwae", "iwae_64") == f"{m['value']:.2f} ± {m['se']:.2f}".replace("-", "−")
    a, b = (records.released()["omniglot", "reference", x].images["log_px"] for x in ("piwae", "iwae"))
    assert n.difference("omniglot reference", "piwae", "iwae", "log_px").startswith(f"{(a - b).mean():.2f}".replace("-", "−"))
    below = record.metrics["log_px"]["value"] - record.metrics["elbo"]["value"]
    assert n.below("mnist reference", "iwae").startswith(f"{below:.2f} ± ")
    larger = records.released()["mnist", "larger", "iwae"].metrics["iwae_64"]["value"]
    assert n.gain("iwae", "iwae_64").startswith(f"{larger - m['value']:.2f} ± ")
    assert n.printed("paper", "mnist reference", "vae", "minus_kl") == "−0.47 ± 0.20"
    assert n.parameters("reference") == "425,284"


def test_numbers_know_when_records_have_changed(tmp_path):
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    before = Numbers(str(tmp_path))
    assert before == Numbers(str(tmp_path))
    metrics = tmp_path / "published" / "mnist-larger" / "vae-M64-K1-seed0" / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()), indent=1))
    assert before != Numbers(str(tmp_path))


def test_every_claim_has_a_verdict_evidence_and_an_exhibit():
    n = Numbers()
    for c in CLAIMS:
        verdict, evidence = c.check(n)
        assert verdict.split(" in part")[0] in ("holds", "does not hold", "confirmed", "corrected", "not tested yet"), c.text
        assert evidence
        assert c.exhibits or verdict == "not tested yet"
    assert len(n.claims().splitlines()) == len(CLAIMS) + 2


def test_without_records_nothing_is_claimed(tmp_path):
    (tmp_path / "published").mkdir()
    for name in ("logs.csv", "logs.json"):
        shutil.copy(RESULTS / "published" / name, tmp_path / "published")
    n = Numbers(str(tmp_path))
    said = {c.text: c.check(n)[0] for c in CLAIMS}
    assert said["Table 1, IWAE-64"] == "not tested yet"
    assert said["It brings $q$ closer to the posterior: a smaller gap"] == "not tested yet"
    assert said["At the same $MK$ its remedies give the inference network a clearer gradient"] == "not tested yet"
    assert n.value("mnist reference", "iwae", "iwae_64") == "not run"
    assert n.compute() == "no runs yet"


def test_a_verdict_is_the_sum_of_its_outcomes():
    outcomes = [True, True], [True, False], [False], []
    assert [claims._so(o) for o in outcomes] == ["holds", "holds in part", "does not hold", "not tested yet"]


def test_a_method_is_ahead_only_beyond_three_paired_standard_errors(monkeypatch):
    check = claims._ahead("iwae_64", ("piwae",), ["mnist reference"])
    no = "does not hold"
    for difference, verdict in (
        ((0.31, 0.1, 9_999), "holds"),
        ((0.29, 0.1, 9_999), no),
        ((-1.0, 0.1, 9_999), no),
        ((1.0, None, 0), "not tested yet"),
    ):
        monkeypatch.setattr(claims.tables, "difference", lambda a, b, metric, among, d=difference: claims.tables.Difference(*d) if a else None)
        assert check(Numbers())[0] == verdict


def test_short_runs_are_told_and_do_not_count(tmp_path):
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    for method, value in (("iwae", -90.0), ("piwae", -95.0), ("miwae", -95.0)):
        write(tmp_path, plan(method, profile_name="short")[0], value)
    n = Numbers(str(tmp_path))
    verdict, evidence = claims._ahead("iwae_64", ("piwae", "miwae"))(n)
    assert verdict == "holds"
    assert "6 of 6 comparisons of released models; 0 of 2 comparisons of our runs of 40 epochs, too short to count" in evidence


def test_as_good_as_means_not_clearly_behind():
    found = claims._not_behind(("piwae",), ["mnist reference"])(Numbers())
    assert found[0] == "does not hold"
    assert claims._not_behind(("piwae",), ["mnist larger"])(Numbers())[0] == "holds"


def test_whole_trainings_of_ours_are_a_test_where_the_released_ones_are_none(tmp_path):
    """Values of single images 0 and 0.5 apart; and short runs, which are told."""
    for method, value in (("iwae", -85.0), ("piwae", -85.5), ("miwae", -85.0)):
        for profile in ("full", "short"):
            write(tmp_path, plan(method, profile_name=profile)[0], value)
    n = Numbers(str(tmp_path))
    for method, verdict in (("piwae", "does not hold"), ("miwae", "holds")):
        assert claims._not_behind((method,), ["mnist reference"], released=False)(n)[0] == verdict
    shutil.rmtree(tmp_path / "full")
    verdict, evidence = claims._not_behind(("piwae",), ["mnist reference"], released=False)(n)
    assert verdict == "not tested yet"
    assert "our runs of 40 epochs, too short to count: −0.50 ± 0.00 (PIWAE, MNIST)" in evidence


def test_a_learned_beta_is_judged_by_whole_trainings_only(tmp_path):
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    for profile, better, verdict in (("short", 3.0, "not tested yet"), ("full", 3.0, "holds"), ("full", 0.0, "holds in part")):
        shutil.rmtree(tmp_path / "full", ignore_errors=True)
        for e in experiments.exhibit("figure4", profile):
            learned = e.method == "ciwae-learned"
            write(tmp_path, e, -90 + (better + e.beta / 100 if learned else e.beta))
        assert claims._betas(Numbers(str(tmp_path)))[0] == verdict


def test_verdicts_on_gradients_follow_from_their_ratios():
    """Ratios that go as powers of K: the theory's, weaker ones, and ones the wrong way round."""
    for theta, phi, part, rates in ((0.5, -0.5, True, True), (0.1, -0.1, True, False), (-0.1, 0.1, False, False)):
        rows = planted({"theta": theta, "phi": phi})
        assert claims._part_as_k_grows(rows) == part
        assert claims._at_the_theorys_rates(rows) == rates


def test_models_that_were_not_trained_as_the_claim_has_it_are_no_test_of_it(tmp_path):
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    n = Numbers(str(tmp_path))
    for text in ("CIWAE(0.5) has a smaller gap than IWAE", "PIWAE's generative network is as good as IWAE's"):
        (claim,) = (c for c in CLAIMS if c.text == text)
        verdict, evidence = claim.check(n)
        assert verdict == "not tested yet"
        assert "no test" in evidence
    assert claims._not_behind(("piwae",), ["mnist reference"], released=False)(Numbers())[0] == "not tested yet"


def test_rates_are_looked_for_only_where_many_weights_count():
    verdict, evidence = claims._gradients(lambda rows: False, counting=16)(Numbers())
    assert verdict == "does not hold"
    assert evidence == "in 0 of 1 places where more than 16 of 64 weights count"


def test_a_gradient_is_clearer_only_beyond_three_standard_errors():
    rows = planted({"theta": 0.0, "phi": 0.0})
    assert not claims._clearer(rows, "miwae", "phi")
    rows.loc[rows.method == "miwae", "phi_signal"] *= 4
    assert claims._clearer(rows, "miwae", "phi", times=1.9)
    assert not claims._clearer(rows, "miwae", "phi", times=2.1)
    rows.loc[(rows.method == "miwae") & (rows.draw > 4), "phi_signal"] /= 30
    assert not claims._clearer(rows, "miwae", "phi")


def test_the_pages_speak_of_the_runs_that_there_are():
    """mnist.md and discussion.md say "a hundredth of the training", "ahead", "level": where this fails, write them anew."""
    n = Numbers()
    runs = {m: n.runs("mnist reference", m, "ours") for m in TABLE_METHODS}
    assert {r.experiment.epochs for found in runs.values() for r in found} == {40}
    ahead = {(m, k): n.apart("mnist reference", m, "iwae", k, "ours") for m in ("piwae", "miwae", "ciwae") for k in ("iwae_64", "log_px")}
    level = ahead.pop(("ciwae", "log_px"))
    assert all(d.beyond(claims.CLEAR) for d in ahead.values())
    assert abs(level.value) < claims.CLEAR * level.se
    behind, same = (n.apart("mnist reference", "vae", "iwae", k, "ours") for k in ("log_px", "iwae_64"))
    assert behind._replace(value=-behind.value).beyond(claims.CLEAR)
    assert abs(same.value) < claims.CLEAR * same.se
    for m in TABLE_METHODS:
        first, second = (r.metrics["iwae_64"]["value"] for r in runs[m])
        assert abs(first - second) < 0.3
    gaps = [tables.mean_and_error(runs[m], "minus_kl")[0] for m in TABLE_METHODS]
    assert gaps == sorted(gaps)
    for m in ("piwae", "miwae"):
        assert ahead[m, "iwae_64"].value > 3 * n.apart("mnist reference", m, "iwae", "iwae_64").value


def test_the_pages_speak_of_our_runs_with_the_larger_model():
    """larger.md: "last in everything", "level with IWAE", the VAE's gain. Where this fails, write it anew."""
    n = Numbers()
    runs = {m: n.runs("mnist larger", m, "ours") for m in TABLE_METHODS}
    assert {(r.experiment.epochs, r.experiment.seed) for found in runs.values() for r in found} == {(13, 0)}
    leads = {(m, k): n.apart("mnist larger", m, "iwae", k, "ours") for m in TABLE_METHODS[1:] for k in ("iwae_64", "log_px")}
    assert all(d.beyond(claims.CLEAR) for d in leads.values())
    by_iwae_64 = sorted(TABLE_METHODS[1:], key=lambda m: -leads[m, "iwae_64"].value)
    assert by_iwae_64 == ["miwae", "ciwae", "vae", "piwae"]
    for m in TABLE_METHODS:
        for k in ("iwae_64", "log_px"):
            first, second = (r.metrics[k]["value"] for r in n.runs("mnist reference", m, "ours"))
            assert abs(first - second) < min(d.value for d in leads.values()) / 2
    for m in ("miwae", "piwae"):
        assert float(n.lead("mnist larger", m, 20)) > float(n.lead("mnist larger", m, 40)) > n.apart("mnist larger", m, "iwae", "log_px").value
    assert abs(n.after("mnist reference", "vae", 13) - n.after("mnist reference", "iwae", 13)) < 0.25
    gain = {m: float(n.faster(m, 13)) for m in TABLE_METHODS}
    assert gain["vae"] > 1.5 * max(gain[m] for m in TABLE_METHODS if m != "vae")
    of_two_seeds = [[r.curve.set_index("epoch").iwae_64[13] for r in n.runs("mnist reference", m, "ours")] for m in TABLE_METHODS]
    assert max(gain["piwae"] - gain["iwae"], gain["ciwae"] - gain["miwae"]) < max(max(of) - min(of) for of in of_two_seeds)
    gaps = [tables.mean_and_error(runs[m], "minus_kl")[0] for m in TABLE_METHODS]
    assert gaps == sorted(gaps)
    assert sorted(gain, key=gain.get) == sorted(gain, key=lambda m: -int(n.units("mnist reference", m, "ours")))
    assert min(int(n.units("mnist larger", m, "ours")) for m in TABLE_METHODS) >= 19


def test_the_pages_speak_of_our_runs_on_omniglot():
    """omniglot.md, reconstructions.md and generalisation.md: which methods are ahead, behind or first. Where this fails, write them anew."""
    n = Numbers()
    runs = {(g, m): n.runs(g, m, "ours") for g in ("mnist reference", "omniglot reference") for m in TABLE_METHODS}
    assert {r.experiment.epochs for found in runs.values() for r in found} == {40}
    than_iwae = {(m, k): n.apart("omniglot reference", m, "iwae", k, "ours") for m in TABLE_METHODS for k in ("iwae_64", "log_px", "minus_kl")}
    assert all(than_iwae[m, k].beyond(claims.CLEAR) for m in ("piwae", "miwae") for k in ("iwae_64", "log_px", "minus_kl"))
    assert than_iwae["piwae", "log_px"].value > 0.5 * than_iwae["piwae", "iwae_64"].value
    assert abs(than_iwae["miwae", "log_px"].value - float(n.lead("omniglot reference", "miwae", 40))) < 0.1
    behind = [than_iwae[of] for of in (("vae", "log_px"), ("vae", "iwae_64"), ("ciwae", "log_px"))]
    assert all(d._replace(value=-d.value).beyond(claims.CLEAR) for d in behind)
    assert than_iwae["vae", "log_px"].value < n.apart("mnist reference", "vae", "iwae", "log_px", "ours").value
    assert abs(than_iwae["ciwae", "iwae_64"].value) < 0.25
    assert n.units("omniglot reference", "piwae", "ours") == n.units("omniglot reference", "iwae", "ours")
    mean = {(g, m, k): tables.mean_and_error(found, k)[0] for (g, m), found in runs.items() for k in found[0].metrics}
    gaps = [mean["omniglot reference", m, "minus_kl"] for m in TABLE_METHODS]
    assert gaps == sorted(gaps)
    for g, other in (("mnist reference", "ssim_on_omniglot-lake"), ("omniglot reference", "ssim_on_mnist")):
        assert min(TABLE_METHODS, key=lambda m: mean[g, m, "ssim"]) == "iwae"
        assert max(TABLE_METHODS, key=lambda m: mean[g, m, other]) == "piwae"
        weights = {r.experiment.method: value["value"] for r in n.runs(g) for k, value in r.metrics.items() if k.startswith(other.split("-")[0])}
        assert max(weights, key=weights.get) == "piwae"


def test_the_pages_speak_of_our_runs_of_figure_4():
    """beta.md: five fixed values that matter, five starts that do not and end at IWAE. Where this fails, write it anew."""
    n = Numbers()
    used, missing = records.shown("figure4")
    assert (len(used), missing) == (10, [])
    assert {(r.experiment.epochs, r.experiment.seed) for r in used} == {(13, 0)}
    fixed, learned, iwae = n.scores("ciwae"), n.scores("ciwae-learned"), n.after("mnist reference", "iwae", 13)
    assert fixed.min() > learned.max()
    assert fixed.argmax() in (1, 2, 3)
    assert [r.experiment.beta for r in used if r.experiment.method == "ciwae"] == [0.1, 0.3, 0.5, 0.7, 0.9]
    ordered = [[r.metrics[k]["value"] for r in used if r.experiment.method == "ciwae"] for k in ("minus_kl", "active_units")]
    assert ordered == [sorted(ordered[0]), sorted(ordered[1], reverse=True)]
    assert learned.std(ddof=1) < fixed.std(ddof=1) / 3
    assert max(abs(learned - iwae)) < 0.3
    betas = {r.experiment.beta: r.curve.set_index("epoch").beta for r in used if r.experiment.method == "ciwae-learned"}
    assert [*betas] == [0.1, 0.3, 0.5, 0.7, 0.9]
    for start, curve in betas.items():
        assert [start, *curve] == sorted([start, *curve], reverse=True)
        assert curve[4] < float(n.learned_beta(4)) < 0.01
        assert curve[13] < float(n.learned_beta()) <= 1e-6
    again, before = (records.get(plan("ciwae", epochs=epochs, profile_name="short")[0]).curve.set_index("epoch") for epochs in (13, None))
    assert (again[["loss", "iwae_64"]] == before.loc[:13, ["loss", "iwae_64"]]).all(axis=None)
