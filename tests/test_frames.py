"""Tidy frames hold what records hold, and the source that a notebook shows makes its figure."""

import inspect
import math

import pytest

from repro import figures, tables
from repro.records import CURVE, METRICS, Archive
from repro.studies.frames import show_source, with_helpers
from repro.words.experiments import WORDS, plan
from tests.helpers import write_record


@pytest.fixture
def archive(tmp_path):
    """Records of three methods in two profiles."""
    for value, e in zip((-90.0, -91.0), plan("iwae,ciwae", profile="short"), strict=True):
        write_record(tmp_path, e, value)
    write_record(tmp_path, plan("vae", profile="smoke", seed=3)[0], -92.0)
    return Archive(tmp_path)


def test_a_frame_has_every_record_with_its_words_and_metrics(archive):
    frame = archive.frame()
    assert {*WORDS, "run", "setting", "setting_folder", "device", "commit"} < {*frame.columns}
    assert {*METRICS} | {f"{name}_se" for name in METRICS} < {*frame.columns}
    by_method = frame.set_index("method")
    assert by_method.iwae_64.to_dict() == {"vae": -92.0, "ciwae": -91.0, "iwae": -90.0}
    assert by_method.iwae_64_se.tolist() == [0.1] * 3
    assert by_method.seed["vae"] == 3
    assert by_method.beta["ciwae"] == 0.5
    assert math.isnan(by_method.beta["iwae"])
    assert by_method.device["iwae"] == "a machine"
    assert archive.frame("smoke").method.tolist() == ["vae"]


def test_curves_have_every_epoch_and_tell_beta_at_the_start_from_beta_then(archive):
    curves = archive.curves()
    as_word = {"beta", "learning_rate"}
    assert {*CURVE} - as_word | {"beta_now", "learning_rate_now"} < {*curves.columns}
    assert curves.learning_rate.unique().tolist() == [1e-3]
    assert curves.groupby("method").epoch.count().to_dict() == {"ciwae": 40, "iwae": 40, "vae": 3}
    of_ciwae = curves[curves.method == "ciwae"]
    assert of_ciwae.epoch.tolist() == [*range(1, 41)]
    assert of_ciwae.beta.unique().tolist() == [0.5]
    assert of_ciwae.beta_now.isna().all()  # the planted curves do not tell it


def test_frames_of_nothing_have_their_columns(tmp_path):
    empty = Archive(tmp_path)
    assert {"method", "iwae_64"} < {*empty.frame().columns}
    assert {"method", "epoch", "log_px"} < {*empty.curves().columns}
    assert len(empty.frame()) == len(empty.curves()) == 0


def test_a_record_that_was_changed_is_in_no_frame(archive):
    (record,) = archive.records("smoke")
    curve = record.path / "curve.csv"
    curve.write_text(curve.read_text().replace("-92", "-91"))
    again = Archive(archive.folder)
    with pytest.warns(UserWarning, match="has changed"):
        assert again.frame("smoke").empty


@pytest.mark.parametrize(
    "maker",
    [figures.leads, figures.signal_to_noise, figures.by_groups, tables.table1, tables.table2],
)
def test_the_source_that_is_shown_makes_the_same_when_copied(maker, tmp_path):
    """As a reader would copy it: after the import of the module's names."""
    copied = {}
    exec(f"from {maker.__module__} import *", copied)
    for part in with_helpers(maker):
        exec(inspect.getsource(part), copied)
    found = [made() for made in (copied[maker.__name__], maker)]
    if maker in (tables.table1, tables.table2):
        texts = [tables.as_text(table, "csv") for table in found]
    else:
        texts = [figures.save(figure, tmp_path / "f.svg").read_text() for figure in found]
    assert texts[0] == texts[1]


def test_source_is_shown_folded_beside_its_file(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show_source(tables.trained_groups, tables.trained_estimators)
    (html,) = [output.data for output in shown]
    assert html.startswith('<details class="origin"><summary>')
    assert '<a href="../repro/studies/estimator_runs.py">' in html
    assert "def trained_groups(" in html
    assert "def _table(" in html, "of a partial the function is shown"
