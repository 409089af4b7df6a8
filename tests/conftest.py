"""Fixtures that several files of tests share."""

import pytest

from repro import datasets
from repro.catalogue import MODELS
from repro.training import loop
from tests.helpers import ROOT, SMALL, commit_all, few_digits, git, sound_record


@pytest.fixture
def small(monkeypatch):
    """The reference model is a small one."""
    monkeypatch.setitem(MODELS, "reference", SMALL)


@pytest.fixture
def few_at_milestones(small, monkeypatch):
    """Twenty test images, of which four are taken at milestones."""
    few = few_digits()
    monkeypatch.setattr(datasets, "load", lambda name, data=None: few)
    monkeypatch.setattr(loop, "IMAGES_AT_MILESTONES", 4)


@pytest.fixture
def project(tmp_path):
    """A project in git, with a sound record of a commit that it has."""
    folder = tmp_path / "project"
    for name in ("repro/__init__.py", "notebooks/train.ipynb", "book/page.md"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "CITATION.cff").write_bytes((ROOT / "CITATION.cff").read_bytes())
    git(tmp_path, "init", "-q", folder)
    sound_record(folder / "results", commit_all(folder))
    commit_all(folder)
    return folder
