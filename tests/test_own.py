"""A bound and a dataset in files of one's own: trained, recorded, shown, or refused in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from repro import ReproError, figures, tables
from repro.bounds import METHODS
from repro.own import dataset_in, images_in, is_own, method_in, without_hash
from repro.records import Archive
from repro.studies import captions
from repro.training import run
from repro.words.experiments import plan

BOUNDS = """
from repro.bounds import Objective, iwae, log_mean_exp

def renyi(log_w):
    return 2 * log_mean_exp(log_w / 2, (-3, -2))

my_mixture = Objective(theta=iwae, phi=renyi)
number = 3

def too_short(log_w):
    return log_w.mean()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with both files, from which a user works; the table of methods stays as it was."""
    monkeypatch.chdir(tmp_path)
    before = dict(METHODS)
    (tmp_path / "my_bounds.py").write_text(BOUNDS)
    g = np.random.default_rng(0)
    np.savez(tmp_path / "My data.npz", train=g.random((60, 28, 28)), test=g.random((70, 28, 28)))
    yield tmp_path
    METHODS.clear()
    METHODS.update(before)


def test_both_are_trained_beside_the_projects_and_recorded(here):
    runs = plan(
        "my_bounds.py:renyi,my_bounds.py:my_mixture,iwae", "My data.npz", profile="smoke", epochs=1
    )
    records = run.train(runs, results=here / "results", engine="eager")
    assert len(records) == 3
    first = records[0]
    assert without_hash(first.experiment.method) == "renyi"
    assert without_hash(first.experiment.dataset) == "my-data"
    assert first.experiment.family == first.experiment.dataset
    assert (first.path / "bound.py").read_text() == BOUNDS
    assert not (records[2].path / "bound.py").exists()
    assert "bound.py" in first.provenance.files
    assert first.provenance.data["variant"] == "my-data, 60 and 70 images of 28x28"
    assert captions.label(first.experiment) == "RENYI(8,8)"
    assert "RENYI(8,8)" in str(tables.metrics(records))
    figures.run_curves(records)
    figures.run_grids(records)


def test_a_record_is_read_without_its_file_and_nothing_of_it_is_executed(here):
    (e,) = plan("my_bounds.py:renyi", profile="smoke", epochs=1)
    (record,) = run.train([e], results=here / "results", engine="eager")
    del METHODS[e.method]
    (record.path / "bound.py").write_text(BOUNDS + "\nraise SystemExit\n")
    with pytest.raises(ReproError, match=r"bound\.py has changed"):
        Archive(here / "results").read(record.path)
    (record.path / "bound.py").write_text(BOUNDS)
    again = Archive(here / "results").read(record.path)
    assert again.experiment == e
    assert "--method FILE.py:renyi" in again.experiment.command
    assert captions.label(again.experiment) == "RENYI(8,8)"


def test_another_content_is_another_name(here):
    first = method_in("my_bounds.py:renyi")
    (here / "my_bounds.py").write_text(BOUNDS + "\n# changed\n")
    assert method_in("my_bounds.py:renyi") != first
    data = dataset_in("My data.npz")
    g = np.random.default_rng(1)
    np.savez(here / "My data.npz", train=g.random((60, 784)), test=g.random((70, 784)))
    assert dataset_in("My data.npz") != data
    assert is_own(first)
    assert is_own(data)


def test_somebodys_mnist_is_not_taken_for_mnist(here):
    (here / "My data.npz").rename(here / "mnist.npz")
    (e,) = plan("iwae", "mnist.npz", profile="short")
    assert e.family != "mnist"
    assert e.setting != "mnist-reference"
    assert e.epochs == 40
    with pytest.raises(ReproError, match="no decoder was released"):
        plan("iwae", "mnist.npz", profile="short", decoder="iwae")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("nowhere.py:renyi", "there is no file nowhere.py with a bound"),
        ("my_bounds.py:reny", "unknown bound 'reny'; did you mean 'renyi'?"),
        ("my_bounds.py:number", "unknown bound 'number'"),
        ("my_bounds.py:", "unknown bound ''"),
        ("my_bounds.py:too_short", "the generative network's bound of 'too-short-"),
        ("syntax.py:f", "syntax.py fails (SyntaxError: "),
        ("leaves.py:f", "leaves.py fails (SystemExit: "),
        ("raises.py:f", "raises.py fails (ZeroDivisionError: "),
        ("needs.py:f", "needs.py fails (ModuleNotFoundError: "),
        ("../my_bounds.py:renyi", "there is no file ../my_bounds.py with a bound"),
    ],
)
def test_a_bound_that_is_none_is_one_line(here, word, line):
    (here / "syntax.py").write_text("def f(:")
    (here / "leaves.py").write_text("raise SystemExit(0)")
    (here / "raises.py").write_text("1 / 0")
    (here / "needs.py").write_text("import no_such_module")
    with pytest.raises(ReproError) as error:
        plan(word, profile="smoke")
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


GOOD = np.eye(80)
BYTES = (GOOD * 250).astype(np.uint8)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"train": GOOD}, "must hold two arrays, train and test; it holds ['train']"),
        ({"train": GOOD, "test": GOOD[:, :9]}, "d.npz: train is [80, 80] and test [80, 9]; images"),
        ({"train": GOOD[0], "test": GOOD}, "train in d.npz is [80]; it must be [n, ...]"),
        ({"train": GOOD[:, :0], "test": GOOD}, "train in d.npz is [80, 0]; it must be [n, ...]"),
        ({"train": GOOD[:3], "test": GOOD}, "train in d.npz has 3 images; 20 are the least"),
        ({"train": GOOD, "test": GOOD[:63]}, "test in d.npz has 63 images; 64 are the least"),
        ({"train": GOOD + 255, "test": GOOD}, "values go from 0 to 256 and are not binarised, and"),
        ({"train": GOOD - 1, "test": GOOD}, "values go from -1 to 1 and are not binarised, and"),
        ({"train": GOOD + 254, "test": GOOD}, "are 0 or 1; divide by 255, or"),
        ({"train": GOOD + 1e-6, "test": GOOD}, "1.00000"),
        ({"train": GOOD * np.nan, "test": GOOD}, "train in d.npz has values that are not finite"),
        ({"train": GOOD * 0, "test": GOOD * 0}, "d.npz: every value is 0"),
        ({"train": GOOD.astype(str), "test": GOOD}, "it must be of numbers"),
        ({"train": np.array([{}], object), "test": GOOD}, "d.npz cannot be read"),
        (b"not an archive", "d.npz cannot be read"),
        (None, "there is no file d.npz with a dataset"),
    ],
)
def test_a_dataset_that_is_none_is_one_line(here, arrays, line):
    if isinstance(arrays, dict):
        np.savez(here / "d.npz", **arrays)
    elif arrays is not None:
        (here / "d.npz").write_bytes(arrays)
    with pytest.raises(ReproError) as error:
        plan("iwae", "d.npz", profile="smoke")
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "remark"),
    [
        ({"train": BYTES, "test": GOOD}, "the bytes in d.npz are taken as k/255"),
        ({"train": GOOD / 255, "test": GOOD / 254}, "go from 0 to 0.0039: divided twice?"),
        ({"train": GOOD, "test": GOOD}, "train equals test in d.npz"),
        ({"train": GOOD, "test": 1 - GOOD, "y": GOOD, "z": GOOD}, "y in d.npz is ignored"),
    ],
)
def test_data_that_may_not_be_what_is_meant_is_remarked_on(here, arrays, remark):
    np.savez(here / "d.npz", **arrays)
    assert any(remark in said for said in images_in(dataset_in("d.npz")).remarks)


def test_advice_on_values_is_of_these_values(here):
    np.savez(here / "D.NPZ.npz", train=GOOD * 3, test=GOOD)
    (here / "D.NPZ.npz").rename(here / "D.NPZ")  # upper case is no other kind of file
    with pytest.raises(
        ReproError, match=r"from 0 to 3, and .* from 0 to 1; bring them from 0 to 1"
    ):
        plan("iwae", "D.NPZ", binarise="fresh", profile="smoke")
    with pytest.raises(ReproError, match=r"from 0 to 1 and are not .*; leave binarise out"):
        plan("iwae", binarise="no", profile="smoke")


def test_bytes_of_zeros_and_ones_are_pixels(here):
    pixels = (GOOD > 0).astype(np.uint8)
    np.savez(here / "d.npz", train=pixels, test=1 - pixels)
    assert np.array_equal(images_in(dataset_in("d.npz")).train, GOOD)


def test_the_projects_network_takes_any_number_of_pixels(here):
    g = np.random.default_rng(0)
    np.savez(here / "d.npz", train=g.random((60, 3, 9, 11)), test=g.random((70, 3, 9, 11)))
    words = {"profile": "smoke", "epochs": 1, "hidden": 7, "latent": 3, "batch_size": 13}
    (e,) = plan("iwae", "d.npz", K=5, learning_rate=3e-4, schedule="constant", **words)
    (record,) = run.train([e], results=here / "results", engine="eager")
    assert record.weights()["decoder.logits.weight"].shape == (297, 7)
    assert record.curve.learning_rate.tolist() == [3e-4]
    assert record.reconstructions[1].shape == (64, 3, 9, 11)
    assert 0 < record.metrics["ssim"]["value"] < 1
    figures.run_grids([record])
    again = plan("iwae", "d.npz", K=5, weights=str(record.path), **words)
    (begun,) = run.train(again, results=here / "results", engine="eager")
    assert begun.experiment.name.startswith("iwae-M1-K5-seed0-epochs1-batch13-from-iwae-")
    assert begun.metrics["elbo"]["value"] > record.metrics["elbo"]["value"]


def test_pixels_binarised_once_are_the_same_at_every_visit(here):
    (e,) = plan("iwae", "My data.npz", profile="smoke", binarise="once", epochs=1)
    images = run.images_for(e, None)
    assert set(images.train.unique().tolist()) == {0, 1}
    assert abs(float(images.train.mean()) - 0.5) < 0.01
    assert torch.equal(images.train, run.images_for(e, None).train)


def test_the_last_training_images_can_take_the_test_images_place(here):
    with pytest.raises(ReproError, match=r"held_out is 60, and .* has 60 images to train on; hold"):
        run.images_for(*plan("iwae", "My data.npz", profile="smoke", held_out=60), None)
    (e,) = plan("iwae", "My data.npz", profile="smoke", held_out=13, epochs=1)
    assert e.setting_folder.endswith("-held-out13")
    images, whole = run.images_for(e, None), run.images_for(replace(e, held_out=None), None)
    assert torch.equal(torch.cat([images.train, images.test]), whole.train)
    (record,) = run.train([e], results=here / "results", engine="eager")
    assert len(record.images["iwae_64"]) == 13
    data = json.loads((record.path / "provenance.json").read_text())["data"]
    assert data["variant"].endswith(", the last 13 training images held out")


def test_the_data_s_content_is_in_the_record(here):
    (e,) = plan("vae", "My data.npz", profile="smoke", epochs=1)
    (record,) = run.train([e], results=here / "results", engine="eager")
    data = json.loads((record.path / "provenance.json").read_text())["data"]
    assert data["name"] == e.dataset
    assert len(data["sha256"]) == 64
