"""Records are written whole or not at all, checked when read, and never replaced."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from repro import ReproError, audit, experiments, records, tables, verify
from repro.bounds import METHODS
from repro.experiments import plan

ROOT = Path(__file__).parents[1]
PROVENANCE = {
    "commit": "c0ffee" * 6,
    "dirty": False,
    "versions": {},
    "device": "a machine",
    "seconds": {},
    "date": "2026-01-01",
    "data": {"name": "digits", "variant": "digits", "sha256": ""},
    "log_px_samples": 1000,
}


def write(results, experiment, value=-90.0, se=0.1, also=None):
    bounds = {"iwae_64": value, "iwae_64_se": se, "log_px": value, "log_px_se": se}
    curve = [{"epoch": i + 1, "learning_rate": 1e-3, "loss": 1.0} | bounds for i in range(experiment.epochs)]
    metrics = {name: {"value": value, "se": se, "sd": se} for name in records.METRICS} | (also or {})
    grids = {"inputs": torch.zeros(64, 784), "reconstructions": torch.full((64, 784), 0.5)}
    images = {name: value + np.arange(-1.0, 2.0) for name in ("iwae_64", "log_px", "elbo", "ssim")}
    return records.write(experiment, curve, metrics, grids, images, {"w": torch.ones(2)}, PROVENANCE, results)


@pytest.fixture
def experiment():
    return plan("piwae", profile_name="smoke")[0]


def test_a_record_goes_round(tmp_path, experiment):
    write(tmp_path, experiment)
    record = records.get(experiment, tmp_path)
    assert record.experiment == experiment
    assert record.metrics["iwae_64"]["value"] == -90
    assert list(record.curve.columns) == list(records.CURVE)
    assert len(record.curve) == experiment.epochs
    assert record.reconstructions[1].max() == pytest.approx(0.5, abs=1 / 255)
    assert record.weights()["w"].tolist() == [1, 1]
    assert records.read_all("smoke", tmp_path) == [record]


def test_a_missing_record_names_the_command_that_makes_it(tmp_path, experiment):
    with pytest.raises(ReproError, match="no record of .*make it with: python -m repro train --method piwae --profile smoke"):
        records.get(experiment, tmp_path)


def test_a_whole_record_is_never_replaced_and_a_broken_one_is(tmp_path, experiment):
    path = write(tmp_path, experiment)
    with pytest.raises(ReproError, match="never replaced"):
        write(tmp_path, experiment)
    (path / "provenance.json").unlink()
    assert not records.exists(experiment, tmp_path)
    assert write(tmp_path, experiment, -80.0) == path
    assert records.get(experiment, tmp_path).metrics["log_px"]["value"] == -80


def test_a_death_while_writing_leaves_no_record(tmp_path, experiment, monkeypatch):
    monkeypatch.setattr(records.os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, experiment)
    monkeypatch.undo()
    assert not records.exists(experiment, tmp_path)
    assert records.read_all("smoke", tmp_path) == []
    write(tmp_path, experiment)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda p: (p / "curve.csv").unlink(), "curve.csv is missing"),
        (lambda p: (p / "curve.csv").write_text("epoch\n1\n"), "curve.csv has changed"),
        (lambda p: (p / "metrics.json").write_text("{"), "cannot be read"),
        (lambda p: (p / "metrics.json").unlink(), "metrics.json is missing.; remove it and run: python -m repro train --method piwae"),
        (lambda p: edit(p / "metrics.json", "ssim", None), "no ssim"),
        (lambda p: edit(p / "metrics.json", "ssim", {"value": float("nan"), "se": 0}), "not finite"),
        (lambda p: edit(p / "provenance.json", "commit", None), "no commit"),
        (lambda p: edit(p / "metrics.json", "ssim", {"value": 1.0}), "cannot be read .KeyError: 'se'"),
        (lambda p: edit(p / "provenance.json", "files", {}), "a file has no hash"),
        (lambda p: edit(p / "config.json", "profile", "tiny"), "cannot be read .KeyError: 'tiny'"),
        (lambda p: edit(p / "config.json", "colour", "red"), "unexpected keyword argument 'colour'"),
        (lambda p: edit(p / "config.json", "seed", 5), "it is the record of smoke/digits-reference/piwae-M8-K8-seed5"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, experiment, damage, line):
    path = write(tmp_path, experiment)
    damage(path)
    with pytest.raises(ReproError, match=line) as error:
        records.read(path)
    assert str(path) in str(error.value)


def test_a_record_of_a_method_that_is_not_there_stops_nothing(tmp_path, experiment, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["miwae"])
    path = write(tmp_path, plan("mine", profile_name="smoke")[0])
    write(tmp_path, experiment)
    monkeypatch.delitem(METHODS, "mine")
    with pytest.raises(ReproError, match="of a method 'mine' that repro/bounds.py does not have; put it back, or move the record away"):
        records.read(path)
    with pytest.warns(UserWarning, match="of a method 'mine'"):
        assert [r.experiment for r in records.read_all("smoke", tmp_path)] == [experiment]


def test_labels_tell_betas_apart(monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["ciwae"])
    assert [tables.label(e) for e in plan("mine", beta="0.3,0.7", profile_name="smoke")] == ["MINE(1,64, β=0.3)", "MINE(1,64, β=0.7)"]


def edit(path, key, value):
    content = json.loads(path.read_text())
    if value is None:
        del content[key]
    else:
        content[key] = value
    path.write_text(json.dumps(content))


def test_weights_may_be_left_out(tmp_path, experiment):
    path = write(tmp_path, experiment)
    (path / "model.safetensors").unlink()
    with pytest.raises(ReproError, match="holds no weights"):
        records.get(experiment, tmp_path).weights()


def test_table1_shows_ours_beside_the_printed_and_says_what_is_missing(tmp_path):
    for e in plan("iwae,piwae", profile_name="short"):
        write(tmp_path, e, -86.5, 0.12)
    table = tables.table1("short", tmp_path)
    assert table.loc[("reference", "IWAE-64", "ours, 40 epochs"), "IWAE(64)"] == "−86.50 ± 0.12"
    assert table.loc[("reference", "IWAE-64", "ours, 40 epochs"), "VAE"] == "not run"
    assert table.loc[("reference", "IWAE-64", "report"), "IWAE(64)"] == "−84.64"
    assert table.loc[("reference", "log p̂(x)", "paper"), "PIWAE(8,8)"] == "−84.46 ± 0.06"
    assert table.attrs["missing"] == [
        "python -m repro train --method miwae,ciwae,vae --profile short",
        "python -m repro train --model larger --profile short",
    ]
    for said in ("short profile", "40 epochs", "seed 0", "c0ffee", "K = 1000", "a machine", "over the test images"):
        assert said in table.attrs["caption"]
    for form in ("text", "csv", "markdown", "latex"):
        assert "86.50" in tables.as_text(table, form)
    assert r"\toprule" in tables.as_text(table, "latex")


def test_table1_takes_its_error_between_seeds_and_never_mixes_lengths(tmp_path):
    for seed, value in enumerate((-86.0, -87.0, -86.0, -87.0)):
        (e,) = plan("iwae", seed=seed, profile_name="short")
        write(tmp_path, e, value)
    write(tmp_path, plan("iwae", epochs=4, profile_name="short")[0], -99)
    table = tables.table1("short", tmp_path)
    assert table.loc[("reference", "IWAE-64", "ours, 40 epochs"), "IWAE(64)"] == "−86.50 ± 0.29 (4 seeds)"
    assert "between seeds, pooled over the methods, where 3 degrees of freedom" in table.attrs["caption"]
    assert tables.labels(records.read_all("short", tmp_path))[-1] == "IWAE(64), seed 3"
    for e in plan("all", epochs=4, profile_name="short"):
        if not records.exists(e, tmp_path):
            write(tmp_path, e, -99)
    table = tables.table1("short", tmp_path)
    assert table.loc[("reference", "IWAE-64", "ours, 4 epochs"), "IWAE(64)"] == "−99.00 ± 0.10"
    assert "4 of the profile's 40 epochs" in table.attrs["caption"]
    for e in plan("piwae,miwae", profile_name="short"):  # with these more than half are there at 40
        write(tmp_path, e, -88)
    table = tables.table1("short", tmp_path)
    assert table.loc[("reference", "IWAE-64", "ours, 40 epochs")].tolist() == [
        "−86.50 ± 0.29 (4 seeds)",
        "−88.00 ± 0.58",
        "−88.00 ± 0.58",
        "not run",
        "not run",
    ]
    assert "seeds 0, 1 (1 of the 3 runs)" in table.attrs["caption"]


def test_a_copy_without_its_git_folder_can_name_its_commit(monkeypatch):
    monkeypatch.setenv("REPRO_COMMIT", "0" * 39 + "a")
    monkeypatch.setattr(records.subprocess, "run", lambda *given, **how: 1 / 0)
    origin = records.provenance()
    assert (origin["commit"], origin["dirty"], origin["commit_from"]) == ("0" * 39 + "a", False, "REPRO_COMMIT")
    monkeypatch.setenv("REPRO_COMMIT", "main")
    with pytest.raises(ReproError, match="REPRO_COMMIT is 'main'; give all 40 digits"):
        records.provenance()


def test_the_small_digits_stand_beside_nobodys_numbers(tmp_path):
    write(tmp_path, plan("vae", profile_name="smoke")[0])
    assert set(tables.table1("smoke", tmp_path).index.get_level_values("source")) == {"ours, 4 epochs"}


def test_nothing_run_is_a_table_of_gaps(tmp_path):
    table = tables.table1("short", tmp_path)
    assert (table.xs("ours, 40 epochs", level="source") == "not run").all(axis=None)
    assert table.attrs["caption"] == "No records yet."


def test_best_is_the_profile_with_most_of_what_is_wanted_and_never_smoke(tmp_path):
    write(tmp_path, plan("vae", profile_name="smoke")[0])
    used, missing = records.shown("figure1", results=tmp_path)
    assert not used
    assert {e.profile for e in missing} == {"short"}
    for e in plan("iwae,vae", profile_name="short"):
        write(tmp_path, e)
    write(tmp_path, plan("vae", profile_name="full")[0])
    assert {r.experiment.profile for r in records.shown("figure1", results=tmp_path)[0]} == {"short"}
    write(tmp_path, plan("iwae", profile_name="full")[0])
    used, missing = records.shown("figure1", results=tmp_path)
    assert {r.experiment.profile for r in used} == {"full"}
    assert [e.method for e in missing] == ["piwae", "miwae", "ciwae"]


def test_table2_is_ssim_on_omniglot_of_both_kinds_of_model(tmp_path):
    (mnist, omniglot) = (plan("miwae", dataset=d, profile_name="short")[0] for d in ("mnist", "omniglot-lake"))
    write(tmp_path, mnist, 0.9, also={"ssim_on_omniglot-lake": {"value": 0.5, "se": 0.01, "sd": 0.1}})
    write(tmp_path, omniglot, 0.7, also={"ssim_on_mnist": {"value": 0.6, "se": 0.01, "sd": 0.1}})
    write(tmp_path, plan("vae", dataset="omniglot-lake", profile_name="short")[0], 0.7)  # not tested on the other: it cannot serve
    table = tables.table2("short", tmp_path)
    assert table.loc[("mnist", "ours, 40 epochs"), "MIWAE(8,8)"] == "0.500 ± 0.100"
    assert table.loc[("omniglot", "ours, 40 epochs"), "MIWAE(8,8)"] == "0.700 ± 0.100"
    assert table.loc[("mnist", "report"), "MIWAE(8,8)"] == "0.59 ± 0.12"
    assert table.loc[("mnist", "ours, 40 epochs"), "VAE"] == table.loc[("omniglot", "ours, 40 epochs"), "VAE"] == "not run"
    for form in ("text", "csv", "markdown", "latex"):
        assert "0.500" in tables.as_text(table, form)


def test_runs_of_another_protocol_initialisation_or_beta_stay_out_of_the_tables(tmp_path):
    for words in ({"protocol": "released"}, {"init": "burda"}):
        for e in plan("piwae", profile_name="short", **words):
            write(tmp_path, e)
    write(tmp_path, plan("ciwae", beta=0.3, profile_name="short")[0])
    assert records.shown("table1", "short", tmp_path)[0] == []


def test_what_is_missing_is_wanted_at_the_length_that_is_shown(tmp_path):
    for e in plan("iwae,vae", epochs=4, profile_name="short"):
        write(tmp_path, e)
    assert {e.epochs for e in records.shown("figure1", "short", tmp_path)[1]} == {4}


def test_either_version_of_omniglot_is_shown_and_never_both(tmp_path):
    for version, methods in (("omniglot", "iwae,vae"), ("omniglot-lake", "piwae")):
        for e in plan(methods, dataset=version, profile_name="short"):
            write(tmp_path, e)
    used, missing = records.shown("figure2", "short", tmp_path)
    assert {r.experiment.dataset for r in used} == {e.dataset for e in missing} == {"omniglot"}


def test_betas_are_listed_with_their_spread_and_what_the_report_prints(tmp_path):
    for i, e in enumerate(experiments.exhibit("figure4", "short")):
        write(tmp_path, e, -90.0 - i % 5)
    table = tables.betas("short", tmp_path)
    assert table.loc[("0.1",), "fixed"] == "−90.00 ± 0.10"
    assert table.loc[("mean ± standard deviation",), "learned"] == "−92.00 ± 1.58"
    assert table.loc[("report, text",), "fixed"] == "−81.29 ± 2.98"


def test_differences_are_paired_over_images_or_between_seeds(tmp_path):
    for seed, shift in enumerate((1.0, 3.0, 1.0, 3.0)):
        write(tmp_path, plan("iwae", seed=seed, profile_name="short")[0], -90)
        write(tmp_path, plan("piwae", seed=seed, profile_name="short")[0], -90 + shift)
    iwae, piwae = ([r for r in records.read_all("short", tmp_path) if r.experiment.method == m] for m in ("iwae", "piwae"))
    assert tables.difference(piwae[:1], iwae[:1], "iwae_64") == (1.0, 0.0, 2, 1)
    assert tables.difference(piwae[:2], iwae, "iwae_64") == (2.0, 0.0, 2, 2)  # two seeds tell too little: image by image, of two seeds
    assert tables.difference(piwae, iwae, "iwae_64") == (pytest.approx(2.0), pytest.approx(1 / 3**0.5), 3, 4)
    assert not tables.Difference(2.0, 0.5, 1).beyond(3)  # four standard errors, of two seeds
    assert tables.Difference(2.0, 0.5, 10_000).beyond(3)
    assert tables.Difference(2.0, None, 0).beyond(3) is None
    assert tables.difference(piwae[:1], iwae[1:], "iwae_64") is None
    assert tables.paired([*piwae, *iwae]).loc[("mnist, reference", "IWAE-64"), "PIWAE − IWAE"] == "2.000 ± 0.577 (4 seeds)"


def test_the_spread_between_seeds_is_pooled_over_methods(tmp_path):
    """Against the sums of squares of a two-way layout; then with one cell empty, where the rest still tells."""
    rng, methods, seeds = np.random.default_rng(0), ("iwae", "piwae", "miwae", "ciwae", "vae"), range(3)
    values = rng.normal(size=(5, 3)) + 3 * rng.normal(size=(5, 1)) + 2 * rng.normal(size=3)
    for i, m in enumerate(methods):
        for s in seeds:
            write(tmp_path, plan(m, seed=s, profile_name="short")[0], -90 + values[i, s])
    shown = records.read_all("short", tmp_path)
    runs = {m: [r for r in shown if r.experiment.method == m] for m in methods}
    within = values - values.mean(1, keepdims=True)
    between = within - within.mean(0)
    assert tables.seed_spread(shown, "iwae_64") == (pytest.approx(np.sqrt((within**2).sum() / 10)), 10)
    sd, dof = tables.seed_spread(shown, "iwae_64", paired=True)
    assert (sd, dof) == (pytest.approx(np.sqrt((between**2).sum() / 8)), 8)
    assert tables.mean_and_error(runs["vae"], "iwae_64", shown)[1] == pytest.approx(np.sqrt((within**2).sum() / 10 / 3))
    assert tables.difference(runs["vae"], runs["iwae"], "iwae_64", shown)[1:] == (pytest.approx(sd * np.sqrt(2 / 3)), 8, 3)
    fewer = [r for r in shown if (r.experiment.method, r.experiment.seed) != ("vae", 2)]
    sd, dof = tables.seed_spread(fewer, "iwae_64", paired=True)
    assert dof == 7
    assert tables.difference(runs["vae"][:2], runs["iwae"], "iwae_64", fewer)[1:] == (pytest.approx(sd), 7, 2)
    assert tables.seed_spread(runs["iwae"], "iwae_64") == tables.seed_spread([*runs["iwae"], *runs["vae"]], "iwae_64", paired=True) == (0.0, 0)


def test_verify_reads_every_record_again_and_says_what_is_wrong(tmp_path):
    gaps = {"iwae": -1.0, "piwae": 1.0, "miwae": 0.2, "vae": -1.0}
    for e in plan(",".join(gaps), profile_name="short"):
        path = write(tmp_path, e, also={"minus_kl": {"value": gaps[e.method], "se": 0.1, "sd": 1.0}})
    (path / "curve.csv").write_text("epoch\n")
    said = {name.split("/")[-1].split("-")[0]: fault for name, fault in verify.results(tmp_path)}
    assert said["iwae"] == said["miwae"] == ""
    assert said["piwae"] == "-KL is 1.000 +- 0.100; it cannot be positive"
    assert "curve.csv has changed" in said["vae"]


@pytest.mark.slow
def test_verify_executes_a_notebook_again_and_sees_a_changed_number(tmp_path):
    committed = ROOT / "notebooks" / "table2.ipynb"
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "train.ipynb", tmp_path / "notebooks")
    shutil.copytree(ROOT / "results" / "published", tmp_path / "results" / "published")
    changed = tmp_path / "notebooks" / "table2.ipynb"
    changed.write_text(committed.read_text().replace("0.600 ± 0.112", "0.601 ± 0.112"))
    assert verify.notebook(committed) == ""
    assert "the cell 'table' gives something else" in verify.notebook(changed)


def test_training_as_released_stands_beside_the_papers_in_pairs(tmp_path):
    write(tmp_path, plan("vae", profile_name="short")[0], -94)
    write(tmp_path, plan("ciwae", profile_name="short")[0], -92)
    write(tmp_path, plan("vae", profile_name="short", protocol="released")[0], -95.5)
    table = audit.protocols(tmp_path)
    assert table.loc[("VAE", "IWAE-64")].tolist() == ["−94.00 ± 0.10", "−95.50 ± 0.10", "−1.50 ± 0.00"]
    assert table.loc[("CIWAE(0.5)", "IWAE-64")].tolist() == ["−92.00 ± 0.10", "not run", "not run"]
    assert table.attrs["missing"] == [
        "python -m repro train --method piwae --profile short",
        "python -m repro train --method piwae,ciwae --protocol released --profile short",
    ]
    assert tables.table1("short", tmp_path).loc[("reference", "IWAE-64", "ours, 40 epochs"), "VAE"] == "−94.00 ± 0.10"  # never the released
