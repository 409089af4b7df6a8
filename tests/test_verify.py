"""What ``verify`` sees, and says that it could not see: a neighbour's git, forged numbers."""

import json
import os
import subprocess

import numpy as np
import pandas as pd
import pytest

from repro import ReproError, verify
from repro.cli import main
from repro.ops import export
from repro.records import Archive, provenance
from repro.words.experiments import experiment_in
from tests.helpers import ROOT, SE, commit_all, exported, git, sound_record, with_hashes

# Git


def code_in(folder, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", folder / "repro")
    code = provenance.code_and_date()
    return code["commit"], code["dirty"]


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_the_git_that_the_environment_names_is_not_asked(project, monkeypatch, name):
    commit = git(project, "rev-parse", "HEAD")
    other = project.parent / "other"
    git(project.parent, "init", "-q", other)
    monkeypatch.setenv(name, str(other / ".git"))
    assert code_in(project, monkeypatch) == (commit, False)


def test_a_neighbours_commit_is_not_the_codes(project, monkeypatch):
    assert code_in(project, monkeypatch) == (git(project, "rev-parse", "HEAD"), False)
    inside = project / "unpacked"
    (inside / "repro").mkdir(parents=True)
    (inside / "repro" / "__init__.py").touch()
    assert code_in(inside, monkeypatch) == (None, None)


@pytest.mark.parametrize("name", ["more.py", "more.so", "more.pyd"])
@pytest.mark.parametrize("ignored", [True, False])
def test_a_module_that_git_does_not_have_is_a_change(project, monkeypatch, ignored, name):
    (project / "repro" / "training").mkdir()
    (project / "repro" / "training" / name).touch()
    if ignored:
        (project / ".git" / "info" / "exclude").write_text("more.*\n")
    _, dirty = code_in(project, monkeypatch)
    assert dirty is True


def test_a_change_anywhere_in_the_package_is_one_of_the_code(project, monkeypatch):
    assert provenance.PACKAGE == ROOT / "repro"
    deep = project / "repro" / "training" / "loop.py"
    deep.parent.mkdir()
    deep.touch()
    commit = commit_all(project)
    assert code_in(project, monkeypatch) == (commit, False)
    deep.write_text("# changed\n")
    assert code_in(project, monkeypatch) == (commit, True)


@pytest.mark.parametrize("how", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_is_told_not_to_look_at_is_a_change(project, monkeypatch, how):
    git(project, "update-index", how, "repro/__init__.py")
    _, dirty = code_in(project, monkeypatch)
    assert dirty is True


def verified(project, monkeypatch, *options):
    monkeypatch.chdir(project)
    monkeypatch.delenv("REPRO_RESULTS_DIR", raising=False)
    return main(["verify", "--records-only", *options])


def another_owner(monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def no_program(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)


@pytest.mark.parametrize(
    ("hidden", "said"), [(another_owner, "dubious ownership"), (no_program, "cannot be run")]
)
def test_verify_says_what_git_could_not_be_asked_and_strictly_fails(
    project, monkeypatch, capsys, hidden, said
):
    assert verified(project, monkeypatch, "--strict") == 0
    assert capsys.readouterr().err == ""
    hidden(monkeypatch)
    assert verified(project, monkeypatch) == 0
    assert said in capsys.readouterr().err
    assert verified(project, monkeypatch, "--strict") == 1


def test_the_public_checks_are_strict():
    places = [*ROOT.glob(".github/workflows/*.yml"), ROOT / "Makefile", *ROOT.glob(".ci/run")]
    lines = [line for path in places for line in path.read_text().splitlines()]
    calls = [line for line in lines if "repro verify" in line]
    assert all("--strict" in line for line in calls)
    assert len(calls) >= len([*ROOT.glob(".github/workflows/test.yml")])


def test_verify_says_so_of_an_archive_that_git_does_not_have(project, monkeypatch, capsys):
    elsewhere = project.parent / "elsewhere"
    (project / "results").rename(elsewhere)
    git(project, "commit", "-qam", "moved")
    assert verified(project, monkeypatch, "--results", str(elsewhere), "--strict") == 1
    assert "is outside repository" in capsys.readouterr().err
    elsewhere.rename(project / "more")
    assert verified(project, monkeypatch, "--results", "more", "--strict") == 1
    assert "it has no file of" in capsys.readouterr().err


def test_a_shallow_clone_is_told(project, monkeypatch, capsys):
    clone = project.parent / "clone"
    git(project, "clone", "-q", "--depth", "1", f"file://{project}", str(clone))
    assert verified(clone, monkeypatch, "--strict") == 1
    assert "git fetch --unshallow" in capsys.readouterr().err


def test_an_export_inside_a_neighbours_git_is_checked_by_its_crate(project, monkeypatch, capsys):
    folder = exported(project, project / "a.zip")
    assert verified(folder, monkeypatch, "--strict") == 0
    assert capsys.readouterr().err == ""
    for name in verify.MADE_BY_EXPORT:
        (folder / name).unlink()
    assert verified(folder, monkeypatch, "--strict") == 1
    assert "it has no file of" in capsys.readouterr().err


def test_verify_names_what_is_missing_or_changed_in_git(project):
    assert dict(verify.unlike_git(project, Archive(project / "results"))) == {}
    (project / "book" / "page.md").write_text("something else")
    (curve,) = project.rglob("curve.csv")
    curve.unlink()
    faults = dict(verify.unlike_git(project, Archive(project / "results")))
    assert faults.pop("book/page.md").startswith("is not as it is committed")
    ((path, fault),) = faults.items()
    assert path.endswith("curve.csv")
    assert fault.startswith("is missing")


def test_verify_names_a_record_of_an_unknown_commit(project):
    (about,) = project.rglob("provenance.json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"commit": "c0ffee" * 6}))
    ((record, fault),) = verify.unknown_commits(project, Archive(project / "results"))
    assert record.endswith("vae-M64-K1-seed0-epochs1")
    assert "is no commit of this repository" in fault


# Numbers


def in_json(name, *keys):
    """Change a number in a JSON file of a record."""

    def change(path, number):
        content = json.loads((path / name).read_text())
        of = content
        for key in keys[:-1]:
            of = of[key]
        of[keys[-1]] = number(of.get(keys[-1])) if callable(number) else number
        (path / name).write_text(json.dumps(content))

    return change


def in_curve(column):
    def change(path, number):
        curve = pd.read_csv(path / "curve.csv")
        curve[column] = [*curve[column].iloc[:-1], number(curve[column].iloc[-1])]
        curve.to_csv(path / "curve.csv", index=False)

    return change


def in_images(name):
    def change(path, number):
        with np.load(path / "images.npz") as found:
            values = dict(found)
        values[name] = number(values.get(name)).astype(np.float32)
        np.savez_compressed(path / "images.npz", **values)

    return change


def again_in_curve(path, name):
    lines = (path / "curve.csv").read_text().splitlines()
    (path / "curve.csv").write_text(f"{lines[0]},{name}\n{lines[1]},1\n")


def garbage_in(name):
    return lambda path, content: (path / name).write_bytes(content)


def more(value):
    return value + 0.01


def without(name):
    return lambda fields: {key: value for key, value in fields.items() if key != name}


FORGED = [
    (in_json("metrics.json", "minus_kl", "value"), lambda v: v - 0.01, "minus_kl is not"),
    (in_json("metrics.json", "elbo", "value"), more, "the mean of elbo"),
    (in_json("metrics.json", "elbo", "se"), more, "the mean of elbo over images.npz, or its error"),
    (in_images("elbo"), lambda v: v * np.nan, "the mean of elbo over images.npz, or its error"),
    (in_images("colour"), lambda v: np.ones(3), "the mean of colour over images.npz, or its error"),
    (in_images("ssim"), more, "the mean of ssim"),
    (in_curve("log_px"), more, "the last log_px"),
    (in_curve("log_px_se"), more, "the last log_px"),
    (in_curve("iwae_64"), lambda v: v + 7 * SE, "the last iwae_64"),
    *[(in_json("config.json", word), str, f"{word} is") for word in ("M", "K", "seed", "epochs")],
    (in_json("config.json", "beta"), "0.5", "beta is"),
    (in_json("config.json", "seed"), False, "seed is"),
    (in_json("metrics.json", "active_units", "value"), True, "a metric is not a finite number"),
    (in_json("metrics.json", "active_units", "se"), -1.0, "a metric is not a finite number"),
    (in_json("metrics.json", "ssim"), without("sd"), "a metric is not"),
    (in_json("metrics.json", "<b>"), lambda v: {"value": 1.0, "se": 1.0}, "a metric is not"),
    (in_json("metrics.json", "ssim", "sd"), more, "the mean of ssim over images.npz, or its error"),
    (in_json("metrics.json", "minus_kl", "se"), more, "the mean of minus_kl over images.npz, or"),
    (in_json("provenance.json", "log_px_samples"), 1000, "log_px_samples in provenance.json is"),
    *[
        (in_curve(column), lambda v, number=number: number, "a number in curve.csv is not finite")
        for column in ("learning_rate", "log_px", "log_px_se", "iwae_64_se", "beta")
        for number in ("nan", "1e400")
    ],
    (in_curve("iwae_64_se"), lambda v: -v, "an error in curve.csv is negative"),
    (again_in_curve, "loss", "curve.csv has a column twice"),
    (garbage_in("model.safetensors"), b"garbage", "model.safetensors holds no weights"),
    (garbage_in("reconstructions.npz"), b"garbage", "reconstructions.npz cannot be read"),
    (in_curve("beta"), lambda v: "much", "cannot be read"),
    (in_json("provenance.json", "dirty"), 0, "dirty in provenance.json"),
    (in_json("provenance.json", "dirty"), None, "it does not say which committed code"),
    (in_json("provenance.json", "data", "name"), "digits", "differ in the data or the precision"),
    (in_json("provenance.json", "precision"), "bf16", "differ in the data or the precision"),
    (in_json("provenance.json", "data"), {}, "data in provenance.json"),
    (in_json("provenance.json", "data"), without("sha256"), "data in provenance.json"),
    (in_json("provenance.json", "seconds"), {}, "seconds in provenance.json"),
    (in_json("provenance.json", "seconds"), without("training"), "no seconds of training"),
]


def test_a_sound_record_passes(tmp_path):
    sound_record(tmp_path)
    assert [fault for _, fault in verify.checked_records(Archive(tmp_path))] == [""]


@pytest.mark.parametrize(("change", "number", "fault"), FORGED)
def test_a_number_that_others_contradict_is_seen_whatever_the_hashes(
    tmp_path, change, number, fault
):
    path = sound_record(tmp_path)
    change(path, number)
    with_hashes(path)
    ((_, said),) = verify.checked_records(Archive(tmp_path))
    assert fault in said
    assert "\n" not in said


@pytest.mark.parametrize("lost", ["config.json", "metrics.json", "provenance.json"])
def test_a_record_that_has_lost_a_file_is_named(tmp_path, lost):
    (sound_record(tmp_path) / lost).unlink()
    ((_, said),) = verify.checked_records(Archive(tmp_path))
    assert f"is not a whole record ({lost} is missing)" in said


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        ("K", 64, "no command makes"),
        ("batch_size", 0, "batch_size is"),
        ("seed", -3, "seed is '-3'"),
        ("tag", "<b>", "tag is '<b>'"),
        ("estimator", "xyz", "unknown estimator"),
        ("dataset", "mist", "unknown dataset"),
    ],
)
def test_a_record_of_a_run_that_no_command_makes_is_named(tmp_path, word, value, said):
    path = sound_record(tmp_path)
    in_json("config.json", word)(path, value)
    if word == "dataset":
        in_json("provenance.json", "data", "name")(path, value)
    with_hashes(path)
    e = experiment_in(json.loads((path / "config.json").read_text()))
    (tmp_path / e.folder).parent.mkdir(exist_ok=True)
    path.rename(tmp_path / e.folder)
    ((_, fault),) = verify.checked_records(Archive(tmp_path))
    assert said in fault


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "'commit'"),
        ({"commit": ["a"], "dirty": False}, "list"),
        ({"commit": "c0ffee"}, "'dirty'"),
        ([], "best.csv is not as it was written"),
        ("text", "best.csv is not as it was written"),
    ],
)
def test_a_table_without_provenance_is_one_line(tmp_path, about, said):
    archive = Archive(tmp_path)
    archive.write_table("best", pd.DataFrame({"a": [1.0]}), {"commit": "c0ffee", "dirty": False})
    assert [fault for _, fault in verify.checked_records(archive)] == [""]
    file = archive.table_path("best").with_suffix(".json")
    files = json.loads(file.read_text())["files"]
    file.write_text(json.dumps(about | {"files": files} if isinstance(about, dict) else about))
    ((_, fault),) = verify.checked_records(archive)
    assert said in fault
    assert "\n" not in fault


# An unpacked export


@pytest.fixture
def unpacked(project):
    folder = exported(project, project.parent / "a.zip")
    assert list(verify.unlike_crate(folder)) == []
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "numpy.py",
        "json/__init__.py",
        "click.so",
        "repro/more.pyc",
        "notebooks/repro.py",
        "notebooks/numpy.pyd",
        "examples/more.py",
        "repro/more.so",
        "repro/training/more.py",
        "notebooks/more.ipynb",
        "notebooks/below/more.ipynb",
        "workflow/more.smk",
        "results/states/more.pt",
        "book/more.md",
        "results/short/mnist-reference/more/config.json",
        "results/published/more.csv",
    ],
)
def test_a_file_that_was_added_to_an_export_is_named(unpacked, name):
    (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
    (unpacked / name).touch()
    ((found, fault),) = verify.unlike_crate(unpacked)
    assert found == name
    assert fault.startswith("was added")


@pytest.mark.parametrize("place", ["json", "book/more.md", "results/short/more"])
def test_a_link_in_an_export_is_named(unpacked, place):
    (unpacked / place).symlink_to(unpacked / "results")
    assert [name for name, _ in verify.unlike_crate(unpacked)] == [place]


@pytest.mark.parametrize(
    "name",
    [".venv/lib/more.py", "repro/__pycache__/more.pyc", "_build/conf.py", "results/smoke/bound.py"],
)
def test_what_using_an_export_leaves_in_it_is_no_fault(unpacked, name):
    (unpacked / name).parent.mkdir(parents=True)
    (unpacked / name).touch()
    assert list(verify.unlike_crate(unpacked)) == []


def a_file(**fields):
    return json.dumps({"@graph": [{"@id": "a", "@type": "File", "sha256": "0" * 64} | fields]})


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "no JSON",
        "[]",
        "{}",
        '{"@graph": []}',
        '{"@graph": {"a": 1}}',
        '{"@graph": [{}]}',
        '{"@graph": [{"@id": "a", "@type": "File"}]}',
        '{"@graph": [{"@type": "File", "sha256": ""}]}',
        '{"@graph": [{"@id": "a"}]}',
        a_file(**{"@id": "../../etc/passwd"}),
        a_file(**{"@id": "/etc/passwd"}),
        a_file(**{"@id": "a\nfault: b"}),
        a_file(**{"@id": 3}),
        a_file(**{"@id": ["a"]}),
        "[" * 100_000,
        "\0\xff",
    ],
)
def test_a_crate_that_is_lost_or_damaged_is_one_line(unpacked, content):
    file = unpacked / verify.CRATE
    file.unlink()
    if content is not None:
        file.write_text(content, encoding="latin-1")
    ((name, fault),) = verify.unlike_crate(unpacked)
    assert name == verify.CRATE
    assert fault.startswith("is missing or damaged (")
    assert "\n" not in fault


def test_a_pipe_in_a_crate_s_place_does_not_hang(unpacked):
    (unpacked / verify.CRATE).unlink()
    os.mkfifo(unpacked / verify.CRATE)
    ((_, fault),) = verify.unlike_crate(unpacked)
    assert fault.startswith("is missing or damaged (ValueError: it is no file")


# Export


@pytest.mark.parametrize("text", ["title: [", "title: a", "3", "authors: [3]"])
def test_a_citation_that_cannot_be_read_is_one_line(project, text):
    (project / "CITATION.cff").write_text(text)
    commit_all(project)
    with pytest.raises(ReproError, match=r"CITATION.cff cannot be read .*; mend it$"):
        export.write_archive(project, project.parent / "a.zip")


def test_no_file_of_the_project_is_replaced_and_a_pipe_is_no_report(project):
    (project / "_build").mkdir()
    os.mkfifo(project / "_build" / "report.pdf")
    with pytest.raises(ReproError, match=r"page.md is a file of the project; name a new one"):
        export.write_archive(project, project / "repro" / ".." / "book" / "page.md")
    assert "without the PDF" in export.write_archive(project, project.parent / "a.zip")


def test_names_of_any_letters_are_exported(project):
    (project / "book" / "größe ß.md").touch()
    commit_all(project)
    export.write_archive(project, project.parent / "a.zip")
    listed = subprocess.check_output(["python", "-m", "zipfile", "-l", "a.zip"], cwd=project.parent)
    assert "größe ß.md" in listed.decode()


def test_a_link_is_refused_and_its_target_is_not_packed(project):
    (project.parent / "secret").write_text("secret")
    (project / "book" / "link").symlink_to(project.parent / "secret")
    commit_all(project)
    with pytest.raises(ReproError, match="'book/link' is a link"):
        export.write_archive(project, project.parent / "a.zip")
    assert not list(project.parent.glob("a.zip*"))


def test_only_a_file_is_replaced(project):
    target = project.parent / "a.zip"
    os.mkfifo(target)
    with pytest.raises(ReproError, match="is no file; name a new one"):
        export.write_archive(project, target)
    assert target.is_fifo()
    target.unlink()
    other = project.parent / "other"
    other.write_text("as it was")
    (project.parent / "a.zip.partial").symlink_to(other)
    export.write_archive(project, target)
    assert other.read_text() == "as it was"


def test_the_export_of_a_project_does_not_depend_on_where_results_are(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("REPRO_RESULTS_DIR", str(project.parent / "elsewhere"))
    sound_record(project.parent / "elsewhere")
    assert main(["export", "a.zip"]) == 0


ENDED = """
import os, runpy, signal, sys
from repro.ops import export
def killed(archive, *what):
    assert os.path.exists("a.zip.partial")
    os.kill(os.getpid(), signal.SIGTERM)
export.zipfile.ZipFile.writestr = killed
sys.argv = ["repro", "export", "a.zip"]
runpy.run_module("repro", run_name="__main__")
"""


def test_an_export_that_is_ended_leaves_nothing(project):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    script = project.parent / "started.py"
    script.write_text(ENDED)
    done = subprocess.run(["python", script], cwd=project, env=env)
    assert done.returncode == 128 + 15
    assert not list(project.glob("a.zip*"))
