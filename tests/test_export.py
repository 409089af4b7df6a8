"""The archive that others check: whole, described, and the same again."""

import json
import os

import pytest
import yaml

from repro import ReproError, verify
from repro.ops import export
from tests.helpers import exported


def test_every_committed_file_is_there_with_its_hash_and_the_record_with_its_action(project):
    folder = exported(project, project.parent / "a.zip")
    crate = json.loads((folder / verify.CRATE).read_text())
    graph = {entity["@id"]: entity for entity in crate["@graph"]}
    files = {i for i, entity in graph.items() if entity["@type"] == "File"}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == there - {verify.CRATE}
    assert "notebooks/train.ipynb" in files
    (action,) = (e for e in graph.values() if e["@type"] == "CreateAction")
    record = graph[action["result"]["@id"]]
    assert record["name"] == "short/mnist-reference/vae-M64-K1-seed0-epochs1"
    assert {part["@id"] for part in record["hasPart"]} <= files
    for reference in (action["instrument"], action["object"], action["agent"]):
        assert reference["@id"] in graph
    assert graph["./"]["mentions"] == [{"@id": action["@id"]}]


def test_a_change_or_a_loss_in_the_archive_is_seen(project):
    folder = exported(project, project.parent / "a.zip")
    assert list(verify.unlike_crate(folder)) == []
    (folder / "notebooks" / "train.ipynb").write_text("something else")
    (folder / "book" / "page.md").unlink()
    faults = dict(verify.unlike_crate(folder))
    assert faults["notebooks/train.ipynb"].startswith("is not as it was exported")
    assert faults["book/page.md"].startswith("is missing")


def test_the_same_commit_is_the_same_archive(project, monkeypatch):
    """At another time, and of a checkout that was made at another time."""
    first, second = (project.parent / name for name in ("a.zip", "b.zip"))
    export.write_archive(project, first)
    monkeypatch.setattr("time.time", lambda: 2e9)
    os.utime(project / "book" / "page.md", (1e9, 1e9))
    export.write_archive(project, second)
    assert first.read_bytes() == second.read_bytes()


def test_other_descriptions_are_what_their_readers_expect(project):
    folder = exported(project, project.parent / "a.zip")
    codemeta, zenodo = (
        json.loads((folder / name).read_text()) for name in ("codemeta.json", ".zenodo.json")
    )
    assert codemeta["@type"] == "SoftwareSourceCode"
    assert zenodo["creators"] == [{"name": "The repro authors"}]
    assert {"version", "paper", "manifest"} <= {
        *yaml.safe_load((folder / "codecheck.yml").read_text())
    }


def test_what_is_not_committed_is_not_exported(project):
    (project / "notebooks" / "train.ipynb").write_text("a change")
    with pytest.raises(ReproError, match="commit them first"):
        export.write_archive(project, project.parent / "a.zip")
    assert not list(project.parent.glob("*.zip*"))


def test_without_git_there_is_one_line(tmp_path):
    with pytest.raises(ReproError, match="has no git"):
        export.write_archive(tmp_path, tmp_path / "a.zip")
