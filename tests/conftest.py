"""Fixtures that several files of tests share."""

import pytest

from repro import datasets
from repro.catalogue import MODELS
from repro.training import loop
from tests.helpers import SMALL, few_digits


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
