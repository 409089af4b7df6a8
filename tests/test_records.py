"""Records are written whole or not at all, checked when read, and never replaced."""

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from repro import ReproError, audit, records, tables, verify
from repro.bounds import METHODS
from repro.records import Archive, provenance
from repro.records import archive as archive_module
from repro.records.schema import Provenance, fault_of_provenance, is_plain
from repro.studies import captions
from repro.words import exhibits
from repro.words.experiments import plan
from tests.helpers import ROOT, commit_all, copy_published, git, with_hashes, write_record


@pytest.fixture
def experiment():
    return plan("piwae", profile="smoke")[0]


def edit(path, key, value):
    """Change a field of a JSON file, or remove it if the value is None."""
    content = json.loads(path.read_text())
    if value is None:
        del content[key]
    else:
        content[key] = value
    path.write_text(json.dumps(content))


# Writing and reading


def test_a_record_goes_round(tmp_path, experiment):
    value = -90.12345678901234  # to the last bit
    write_record(tmp_path, experiment, value)
    archive = Archive(tmp_path)
    record = archive.get(experiment)
    assert record.experiment == experiment
    assert {record.metrics[name]["value"] for name in records.METRICS} == {value}
    assert list(record.curve.columns) == list(records.CURVE)
    assert record.curve.epoch.tolist() == [*range(1, experiment.epochs + 1)]
    assert (record.curve.iwae_64 == value).all()
    assert record.reconstructions[1].max() == pytest.approx(0.5, abs=1 / 255)
    assert record.weights()["w"].tolist() == [1, 1]
    assert archive.records("smoke") == [record]


def test_a_missing_record_names_the_command_that_makes_it(tmp_path, experiment):
    command = "python -m repro train --method piwae --profile smoke"
    with pytest.raises(ReproError, match=f"no record of .*make it with: {command}"):
        Archive(tmp_path).get(experiment)


def test_a_whole_record_is_never_replaced_and_a_broken_one_is(tmp_path, experiment):
    path = write_record(tmp_path, experiment)
    with pytest.raises(ReproError, match="never replaced; make it again in another folder"):
        write_record(tmp_path, experiment)
    (path / "provenance.json").unlink()
    assert not Archive(tmp_path).holds(experiment)
    assert write_record(tmp_path, experiment, -80.0) == path
    assert Archive(tmp_path).get(experiment).metrics["log_px"]["value"] == -80


@pytest.mark.parametrize(("module", "function"), [(np, "savez_compressed"), (os, "replace")])
def test_a_record_that_appears_while_another_is_written_wins(
    tmp_path, experiment, monkeypatch, module, function
):
    rival = write_record(tmp_path / "elsewhere", experiment, -70.0)
    before = getattr(module, function)

    def after_the_rival_came(*given, **how):
        if rival.exists():
            rival.rename(tmp_path / rival.relative_to(tmp_path / "elsewhere"))
        return before(*given, **how)

    monkeypatch.setattr(module, function, after_the_rival_came)
    with pytest.raises(ReproError, match="never replaced"):
        write_record(tmp_path, experiment)
    assert Archive(tmp_path).get(experiment).metrics["log_px"]["value"] == -70
    assert not list(tmp_path.rglob("*.partial"))


def test_a_record_is_on_the_disk_before_it_is_in_its_place(tmp_path, experiment, monkeypatch):
    synced = []

    def fsync(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    path = write_record(tmp_path, experiment)
    assert {*synced[:-2]} == {file.name for file in path.iterdir()}
    assert synced[-2:] == [f"{path.name}.partial", path.parent.name]


def test_a_file_where_a_record_is_made_ready_is_no_obstacle(tmp_path, experiment):
    path = Archive(tmp_path).path_of(experiment)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.partial").touch()
    assert write_record(tmp_path, experiment) == path


def test_profiles_that_do_not_exist_are_one_line(tmp_path):
    with pytest.raises(ReproError, match="unknown profile 'shortt'; did you mean 'short'"):
        Archive(tmp_path).frame("shortt")


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "function", "cause", "error", "said"),
    [
        (os, "replace", KeyboardInterrupt, KeyboardInterrupt, None),
        (np, "savez_compressed", FULL, ReproError, "could not be written"),
    ],
    ids=["death", "full disk"],
)
def test_a_death_while_writing_leaves_no_record(
    tmp_path, experiment, monkeypatch, module, function, cause, error, said
):
    def interrupt(*given, **how):
        raise cause

    with monkeypatch.context() as patched:
        patched.setattr(module, function, interrupt)
        with pytest.raises(error, match=said):
            write_record(tmp_path, experiment)
    assert not list(tmp_path.rglob("*.partial"))
    archive = Archive(tmp_path)
    assert not archive.holds(experiment)
    assert archive.records("smoke") == []
    write_record(tmp_path, experiment)
    assert Archive(tmp_path).holds(experiment)


def test_an_archive_reads_and_verifies_each_record_once(tmp_path, monkeypatch):
    runs = plan("iwae,piwae,vae", profile="short")
    paths = [write_record(tmp_path, e) for e in runs]
    read = []
    verified = records.read

    def counted(path):
        read.append(Path(path))
        return verified(path)

    monkeypatch.setattr(archive_module, "read", counted)
    archive = Archive(tmp_path)
    first = archive.get(runs[0])
    for exhibit in exhibits.EXHIBITS:
        archive.select(exhibit)
        archive.select(exhibit, "short")
    tables.table1("short", archive)
    assert archive.get(runs[0]) is first
    assert len(archive.records("short")) == len(runs)
    assert sorted(read) == sorted(paths)


def test_an_archive_reads_anew_what_it_writes(tmp_path, experiment):
    path = write_record(tmp_path, experiment)
    archive = Archive(tmp_path)
    record = archive.get(experiment)
    curve = record.curve.dropna(axis=1).to_dict("records")
    metrics = record.metrics | {"log_px": {"value": -80.0, "se": 0.1}}
    grids = {"inputs": torch.zeros(64, 784), "reconstructions": torch.zeros(64, 784)}
    shutil.rmtree(path)
    archive.write(experiment, curve, metrics, grids, None, None, record.provenance)
    assert archive.get(experiment).metrics["log_px"]["value"] == -80


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda p: (p / "curve.csv").unlink(), "curve.csv is missing"),
        (lambda p: (p / "curve.csv").write_text("epoch\n1\n"), "curve.csv has changed"),
        (lambda p: (p / "metrics.json").write_text("{"), "cannot be read"),
        (
            lambda p: (p / "metrics.json").unlink(),
            "metrics.json is missing.; restore it, or run: python -m repro train --method piwae .*"
            "--results ELSEWHERE",
        ),
        (lambda p: edit(p / "metrics.json", "ssim", None), "no ssim"),
        (
            lambda p: edit(p / "metrics.json", "ssim", {"value": float("nan"), "se": 0}),
            "not a finite number",
        ),
        (lambda p: edit(p / "provenance.json", "commit", None), "no commit"),
        (
            lambda p: edit(p / "metrics.json", "ssim", {"value": 1.0}),
            "a metric is not a finite number with its error",
        ),
        (lambda p: edit(p / "provenance.json", "files", {}), "a file has no hash"),
        (lambda p: (p / "gradients.csv").write_text("a\n1\n"), "a file has no hash"),
        (lambda p: edit(p / "config.json", "profile", "tiny"), "cannot be read .KeyError: 'tiny'"),
        (lambda p: edit(p / "config.json", "colour", "red"), "unexpected keyword .* 'colour'"),
        (
            lambda p: edit(p / "config.json", "seed", 5),
            "it is the record of smoke/digits-reference/piwae-M8-K8-seed5",
        ),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, experiment, damage, line):
    path = write_record(tmp_path, experiment)
    damage(path)
    with pytest.raises(ReproError, match=line) as error:
        records.read(path)
    assert str(path) in str(error.value)


def test_nobody_is_told_to_remove_a_record():
    """What may be removed is a training's state, or data that can be fetched again."""
    told = []
    for path in (ROOT / "repro").rglob("*.py"):
        if re.search(r"(remove|delete) it\b", path.read_text()):
            told.append(path.name)
    assert sorted(told) == ["datasets.py", "states.py"]


@pytest.mark.parametrize("protected", [True, False])
def test_records_are_as_written_in_a_clone_that_changes_line_ends(tmp_path, protected):
    """As Git for Windows clones; without ``.gitattributes`` every record would be broken."""
    here = tmp_path / "here"
    record = "results/published/mnist-reference/iwae-M1-K64-seed0"
    shutil.copytree(ROOT / record, here / record)
    text = "repro/bounds.py"
    (here / text).parent.mkdir()
    shutil.copy(ROOT / text, here / text)
    if protected:
        shutil.copy(ROOT / ".gitattributes", here)
    git(here, "init", "-q")
    commit_all(here)
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", "here", "clone")
    clone = tmp_path / "clone"
    assert (b"\r\n" in (clone / text).read_bytes()) != protected
    if protected:
        assert records.read(clone / record).experiment.method == "iwae"
    else:
        with pytest.raises(ReproError, match="is not as it was written"):
            records.read(clone / record)


def test_no_line_end_is_changed_in_results():
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("* text=auto eol=lf", "results/** -text")


def test_a_record_of_a_method_that_is_not_there_stops_nothing(tmp_path, experiment, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["miwae"])
    path = write_record(tmp_path, plan("mine", profile="smoke")[0])
    write_record(tmp_path, experiment)
    monkeypatch.delitem(METHODS, "mine")
    said = (
        "of a method 'mine' that repro/bounds.py does not have; put it back, or move the record "
        "away"
    )
    with pytest.raises(ReproError, match=said):
        records.read(path)
    with pytest.warns(UserWarning, match="of a method 'mine'"):
        found = Archive(tmp_path).records("smoke")
    assert [r.experiment for r in found] == [experiment]


def test_weights_may_be_left_out(tmp_path, experiment):
    path = write_record(tmp_path, experiment)
    (path / "model.safetensors").unlink()
    record = Archive(tmp_path).get(experiment)
    with pytest.raises(ReproError, match=r"holds no weights; train again: .* --results ELSEWHERE"):
        record.weights()


def test_a_copy_without_its_git_folder_can_name_its_commit(monkeypatch):
    commit = "0" * 39 + "a"
    monkeypatch.setenv("REPRO_COMMIT", commit)
    monkeypatch.setattr(provenance.subprocess, "run", lambda *given, **how: 1 / 0)
    code = provenance.code_and_date()
    assert code["commit"] == commit
    assert code["dirty"] is False
    assert code["commit_from"] == "REPRO_COMMIT"
    monkeypatch.setenv("REPRO_COMMIT", "main")
    with pytest.raises(ReproError, match="REPRO_COMMIT is 'main'; give all 40 digits"):
        provenance.code_and_date()


# Tables of records


def test_labels_tell_betas_apart(monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["ciwae"])
    runs = plan("mine", beta="0.3,0.7", profile="smoke")
    assert [captions.label(e) for e in runs] == ["MINE(1,64, β=0.3)", "MINE(1,64, β=0.7)"]


def test_table1_shows_ours_beside_the_printed_and_says_what_is_missing(tmp_path):
    for e in plan("iwae,piwae", profile="short"):
        write_record(tmp_path, e, -86.5, 0.12)
    table = tables.table1("short", tmp_path)
    cells = tables.as_strings(table)
    assert cells.loc[("reference", "IWAE-64", "ours, 40 epochs"), "IWAE(64)"] == "−86.50 ± 0.12"
    assert cells.loc[("reference", "IWAE-64", "ours, 40 epochs"), "VAE"] == "not run"
    assert cells.loc[("reference", "IWAE-64", "report"), "IWAE(64)"] == "−84.64"
    assert cells.loc[("reference", "log p̂(x)", "paper"), "PIWAE(8,8)"] == "−84.46 ± 0.06"
    assert table.attrs["missing"] == [
        "python -m repro train --method miwae,ciwae,vae --profile short",
        "python -m repro train --model larger --profile short",
    ]
    for said in ("short profile", "40 epochs", "seed 0", "K = 5000", "over the test images"):
        assert said in table.attrs["caption"]
    for form in ("text", "csv", "markdown", "latex"):
        assert "86.50" in tables.as_text(table, form)
    assert r"\toprule" in tables.as_text(table, "latex")


def test_table1_takes_its_error_between_seeds_and_never_mixes_lengths(tmp_path):
    for seed, value in enumerate((-86.0, -87.0, -86.0, -87.0)):
        (e,) = plan("iwae", seed=seed, profile="short")
        write_record(tmp_path, e, value)
    write_record(tmp_path, plan("iwae", epochs=4, profile="short")[0], -99)
    table = tables.table1("short", tmp_path)
    of_four_seeds = ("reference", "IWAE-64", "ours, 40 epochs, 4 seeds")
    assert tables.as_strings(table).loc[of_four_seeds, "IWAE(64)"] == "−86.50 ± 0.29"
    said = "between seeds, pooled over the methods, where 3 degrees of freedom"
    assert said in table.attrs["caption"]
    assert captions.labels(Archive(tmp_path).records("short"))[-1] == "IWAE(64), seed 3"

    for e in plan("all", epochs=4, profile="short"):
        if not Archive(tmp_path).holds(e):
            write_record(tmp_path, e, -99)
    table = tables.table1("short", tmp_path)
    of_four = ("reference", "IWAE-64", "ours, 4 epochs")
    assert tables.as_strings(table).loc[of_four, "IWAE(64)"] == "−99.00 ± 0.10"
    assert "4 of the profile's 40 epochs" in table.attrs["caption"]

    for e in plan("piwae,miwae", profile="short"):  # with these more than half are there at 40
        write_record(tmp_path, e, -88)
    table = tables.table1("short", tmp_path)
    table_of_ours = ("reference", "IWAE-64", "ours, 40 epochs")
    assert tables.as_strings(table).loc[table_of_ours].tolist() == [
        "−86.50 ± 0.29 (4 seeds)",
        "−88.00 ± 0.58",
        "−88.00 ± 0.58",
        "not run",
        "not run",
    ]
    assert "seeds 0, 1 (1 of the 3 runs)" in table.attrs["caption"]


def test_the_small_digits_stand_beside_nobodys_numbers(tmp_path):
    write_record(tmp_path, plan("vae", profile="smoke")[0])
    table = tables.table1("smoke", tmp_path)
    assert set(table.index.get_level_values("source")) == {"ours, 3 epochs"}


def test_nothing_run_is_a_table_of_gaps(tmp_path):
    table = tables.table1("short", tmp_path)
    ours = tables.as_strings(table).xs("ours, 40 epochs", level="source")
    assert (ours == "not run").all(axis=None)
    assert table.attrs["caption"] == "No records yet."


def test_table2_is_ssim_on_omniglot_of_both_kinds_of_model(tmp_path):
    (mnist,) = plan("miwae", dataset="mnist", profile="short")
    (omniglot,) = plan("miwae", dataset="omniglot-lake", profile="short")
    on_omniglot = {"ssim_on_omniglot-lake": {"value": 0.5, "se": 0.01, "sd": 0.1}}
    on_mnist = {"ssim_on_mnist": {"value": 0.6, "se": 0.01, "sd": 0.1}}
    write_record(tmp_path, mnist, 0.9, also=on_omniglot)
    write_record(tmp_path, omniglot, 0.7, se=0.1 / 3**0.5, also=on_mnist)
    # This one was not tested on the other dataset, so it cannot serve.
    write_record(tmp_path, plan("vae", dataset="omniglot-lake", profile="short")[0], 0.7)
    table = tables.table2("short", tmp_path)
    cells = tables.as_strings(table)
    assert cells.loc[("mnist", "ours, 40 epochs"), "MIWAE(8,8)"] == "0.500 ± 0.100"
    assert cells.loc[("omniglot", "ours, 40 epochs"), "MIWAE(8,8)"] == "0.700 ± 0.100"
    assert cells.loc[("mnist", "report"), "MIWAE(8,8)"] == "0.59 ± 0.12"
    assert cells.loc[("mnist", "ours, 40 epochs"), "VAE"] == "not run"
    assert cells.loc[("omniglot", "ours, 40 epochs"), "VAE"] == "not run"
    for form in ("text", "csv", "markdown", "latex"):
        assert "0.500" in tables.as_text(table, form)


def test_betas_are_listed_with_their_spread_and_what_the_report_prints(tmp_path):
    for i, e in enumerate(exhibits.runs_of("figure4", "short")):
        write_record(tmp_path, e, -90.0 - i % 5)
    cells = tables.as_strings(tables.betas("short", tmp_path))
    assert cells.loc[("0.1",), "fixed"] == "−90.00 ± 0.10"
    assert cells.loc[("mean ± standard deviation",), "learned"] == "−92.00 ± 1.58"
    assert cells.loc[("report, text",), "fixed"] == "−81.29 ± 2.98"


def test_training_as_released_stands_beside_the_papers_in_pairs(tmp_path):
    write_record(tmp_path, plan("vae", profile="short")[0], -94)
    write_record(tmp_path, plan("ciwae", profile="short")[0], -92)
    write_record(tmp_path, plan("vae", profile="short", protocol="released")[0], -95.5)
    table = audit.protocols(tmp_path)
    cells = tables.as_strings(table)
    of_vae = ["−94.00 ± 0.10", "−95.50 ± 0.10", "−1.50 ± 0.11"]
    assert cells.loc[("VAE", "IWAE-64")].tolist() == of_vae
    assert cells.loc[("CIWAE(0.5)", "IWAE-64")].tolist() == ["−92.00 ± 0.10", "not run", "not run"]
    assert table.attrs["missing"] == [
        "python -m repro train --method piwae --profile short",
        "python -m repro train --method piwae,ciwae --protocol released --profile short",
    ]


# What exhibits show


def test_best_is_the_profile_with_most_of_what_is_wanted_and_never_smoke(tmp_path):
    write_record(tmp_path, plan("vae", profile="smoke")[0])
    nothing = Archive(tmp_path).select("figure1")
    assert (nothing.used, nothing.profile) == ([], "short")
    for methods, profile, best in (
        ("iwae,vae", "short", "short"),
        ("vae", "full", "short"),
        ("iwae", "full", "full"),
    ):
        for e in plan(methods, profile=profile):
            write_record(tmp_path, e)
        found = Archive(tmp_path).select("figure1")
        assert found.profile == best
        assert {r.experiment.profile for r in found.used} == {best}
    assert [e.method for e in found.missing] == ["piwae", "miwae", "ciwae"]


def test_runs_of_another_protocol_initialisation_or_beta_stay_out_of_the_tables(tmp_path):
    for words in ({"protocol": "released"}, {"init": "burda"}):
        for e in plan("piwae", profile="short", **words):
            write_record(tmp_path, e)
    write_record(tmp_path, plan("ciwae", beta=0.3, profile="short")[0])
    assert Archive(tmp_path).select("table1", "short").used == []


def test_what_is_missing_is_wanted_at_the_length_that_is_shown(tmp_path):
    for e in plan("iwae,vae", epochs=4, profile="short"):
        write_record(tmp_path, e)
    missing = Archive(tmp_path).select("figure1", "short").missing
    assert {e.epochs for e in missing} == {4}


def test_either_version_of_omniglot_is_shown_and_never_both(tmp_path):
    for version, methods in (("omniglot", "iwae,vae"), ("omniglot-lake", "piwae")):
        for e in plan(methods, dataset=version, profile="short"):
            write_record(tmp_path, e)
    used, missing = Archive(tmp_path).select("figure2", "short")
    assert {r.experiment.dataset for r in used} == {"omniglot"}
    assert {e.dataset for e in missing} == {"omniglot"}


# Verification


def test_verify_reads_every_record_again_and_says_what_is_wrong(tmp_path):
    gaps = {"iwae": -1.0, "piwae": 4.0, "miwae": 2.0, "vae": -1.0}
    for e in plan(",".join(gaps), profile="short"):
        gap = {"minus_kl": {"value": gaps[e.method], "se": 2 * 3**-0.5}}
        log_px = {"log_px": {"value": -90 - gaps[e.method], "se": 3**-0.5}}
        path = write_record(tmp_path, e, se=3**-0.5, also=gap | log_px)
        with np.load(path / "images.npz") as found:
            values = dict(found)
        values["iwae_64"] = values["iwae_64"][::-1]  # so that the gaps of images differ
        np.savez(path / "images.npz", **values)
        with_hashes(path)
    (path / "curve.csv").write_text("epoch\n")
    checked = verify.checked_records(Archive(tmp_path))
    said = {name.split("/")[-1].split("-")[0]: fault for name, fault in checked}
    assert "curve.csv has changed" in said.pop("vae")
    positive = "-KL is 4.000 +- 1.155; it cannot be positive"
    assert said == {"iwae": "", "miwae": "", "piwae": positive}


@pytest.mark.slow
def test_verify_executes_a_notebook_again_and_sees_a_changed_number(tmp_path):
    committed = ROOT / "notebooks" / "table2.ipynb"
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "train.ipynb", tmp_path / "notebooks")
    copy_published(tmp_path / "results")
    changed = tmp_path / "notebooks" / "table2.ipynb"
    changed.write_text(committed.read_text().replace("0.600 ± 0.112", "0.601 ± 0.112"))
    assert verify.fault_of_notebook(committed, Archive()) == ""
    fault = verify.fault_of_notebook(changed, Archive())
    assert "the cell 'table' gives something else" in fault


@pytest.mark.parametrize("kind", ["run", "setting"])
def test_a_link_counts_no_record_twice(tmp_path, experiment, kind):
    path = write_record(tmp_path, experiment)
    (at := path if kind == "run" else path.parent).with_name("again").symlink_to(at)
    with pytest.warns(UserWarning, match="it is the record of"):
        (record,) = Archive(tmp_path).records("smoke")
    assert record.path == path


def test_a_link_to_nothing_beside_a_record_harms_no_record(tmp_path, experiment):
    path = write_record(tmp_path, experiment)
    other = write_record(tmp_path, replace(experiment, seed=1))
    (path / "notes.txt").symlink_to(tmp_path / "nowhere")
    assert [record.path for record in Archive(tmp_path).records("smoke")] == [path, other]


@pytest.mark.parametrize("kind", [CellTimeoutError, DeadKernelError])
def test_a_kernel_that_dies_or_hangs_is_a_fault_of_its_notebook(monkeypatch, kind):
    def execute(self, **how):
        raise kind("it is no more\nand so on")

    monkeypatch.setattr("nbclient.NotebookClient.execute", execute)
    fault = verify.fault_of_notebook(ROOT / "notebooks" / "table2.ipynb", Archive())
    assert fault == f"it cannot be executed ({kind.__name__}: it is no more)"


def test_a_notebook_that_fails_is_a_fault_of_its_own(tmp_path):
    notebook = json.loads((ROOT / "notebooks" / "table2.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["id"] == "imports":
            cell["source"] = ["1 / 0"]
    path = tmp_path / "table2.ipynb"
    path.write_text(json.dumps(notebook))
    fault = verify.fault_of_notebook(path, Archive())
    assert fault == "it cannot be executed (ZeroDivisionError: division by zero)"


def test_a_forged_picture_is_seen(tmp_path):
    drawn = (ROOT / "book" / "bound.svg").read_text()
    path = tmp_path / "bound.svg"
    assert verify.fault_of_picture(path, drawn) == "it is missing; run: make notebooks"
    path.write_text(drawn)
    assert verify.fault_of_picture(path, drawn) == ""
    path.write_text(drawn.replace("#e69f00", "#ff0000"))
    assert "it is not what the records give" in verify.fault_of_picture(path, drawn)


def test_tables_and_arrays_that_were_changed_are_refused(tmp_path):
    archive = Archive(tmp_path)
    about = {"commit": "c"}
    table = archive.write_table("gradients", pd.DataFrame({"theta": [1.0]}), about)
    arrays = archive.write_arrays("pictures", {"kl": np.ones(3)}, about)
    assert archive.table("gradients")[1]["commit"] == "c"
    assert archive.arrays("pictures")[0]["kl"].tolist() == [1, 1, 1]
    for path, read in ((table, archive.table), (arrays, archive.arrays)):
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(ReproError, match="is not as it was written"):
            read(path.stem)


HOSTILE = {
    "device": "<script>alert(1)</script>",
    "date": "\\input{/etc/passwd}",
    "commit": "`rm -rf`",
    "data": {"name": "mnist", "variant": "[x](http://x) & $ {", "sha256": ""},
    "log_px_samples": "5000",
    "seconds": {"training": float("nan")},
    "files": {"../../etc/passwd": "0" * 64},
    "versions": {"torch": "x" * 300},
    "trained_by": "not a list",
    "a new field": 1,
}


@pytest.mark.parametrize("field", HOSTILE)
def test_a_provenance_that_is_not_plain_is_refused_in_one_line(tmp_path, experiment, field):
    path = write_record(tmp_path, experiment)
    edit(path / "provenance.json", field, HOSTILE[field])
    with pytest.raises(ReproError, match="is not as it was written") as refused:
        records.read(path)
    assert "<script>" not in str(refused.value)


def test_every_committed_provenance_fits_the_schema_and_is_written_as_it_is():
    found = [*(ROOT / "results").glob("*/*/*/provenance.json")]
    kept = [path for path in found if path.parts[-4] != "smoke"]
    assert len(kept) >= 60
    for path in kept:
        content = json.loads(path.read_text())
        assert fault_of_provenance(content) == ""
        assert json.dumps(Provenance(**content).as_dict(), indent=2) + "\n" == path.read_text()
    assert is_plain(provenance.device_name("cpu"))


def test_weights_are_as_readable_as_the_other_files(tmp_path, experiment):
    path = write_record(tmp_path, experiment)
    modes = {file.name: file.stat().st_mode for file in path.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
