"""A bound and a dataset in files of one's own: trained, recorded, shown, or refused in one line."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from repro import ReproError, figures, tables
from repro.bounds import METHODS, both, log_mean_exp
from repro.own import dataset_in, images_in, is_own, method_in, text_of, without_hash
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
def here(tmp_path, monkeypatch, small):
    """A folder with both files, from which a user works; the table of methods stays as it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_bounds.py").write_text(BOUNDS)
    g = np.random.default_rng(0)
    np.savez(tmp_path / "My data.npz", train=g.random((60, 28, 28)), test=g.random((70, 28, 28)))
    with mock.patch.dict(METHODS):
        yield tmp_path


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
    assert first.provenance.data["name"] == first.experiment.dataset
    assert first.provenance.data["variant"] == "my-data, 60 and 70 images of 28x28"
    assert len(first.provenance.data["sha256"]) == 64
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


def test_a_script_stays_what_it_is_and_is_no_part_of_a_bound(here):
    """Of a script in the bound's folder, whose classes must still be found by pickle."""
    script = (
        "import pickle\nfrom repro.words.experiments import plan\nclass Mine: pass\n"
        "for _ in range(2):\n    print(plan('my_bounds.py:renyi', profile='smoke')[0].method)\n"
        "pickle.dumps(Mine())\n"
    )
    (here / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {*done.stdout.split()} == {method_in("my_bounds.py:renyi")}


@pytest.mark.parametrize("name", ["mine", "iwae"])
def test_of_a_bound_of_this_process_it_is_said_that_a_record_may_be_of_another(here, capsys, name):
    METHODS[name] = both(lambda log_w: log_mean_exp(log_w, (-3, -2)))
    runs = plan(name, "My data.npz", profile="smoke", M=1, K=4, epochs=1)
    for _ in range(2):
        run.train(runs, results=here / "results", engine="eager")
    said = f"is there already; if {name} has changed since, give it another name or a tag\n"
    assert said in capsys.readouterr().out


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
        ("nothing.py:f", "unknown bound 'f'; there are none"),
        ("no\nwhere.py:f", r"there is no file no\nwhere.py with a bound"),
        (f"{'a' * 5000}.py:f", f"there is no file {'a' * 5000}.py with a bound"),
        ("lazy.py:f", "lazy.py fails (ValueError: f, lazy.py line 2)"),
        ("signed.py:f", "the generative network's bound of 'f-"),
        ("../my_bounds.py:renyi", "there is no file ../my_bounds.py with a bound"),
    ],
)
def test_a_bound_that_is_none_is_one_line(here, word, line):
    (here / "nothing.py").write_text("")
    (here / "lazy.py").write_text("def __getattr__(name):\n    raise ValueError(name)\n")
    (here / "signed.py").write_text("def f(log_w):\n    pass\nf.__signature__ = 3\n")
    with pytest.raises(ReproError, match=re.escape(line)):
        plan(word, profile="smoke")


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
        ({"train": BYTES, "test": 254 * GOOD}, "d.npz has bytes in one array and larger numbers"),
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
    with pytest.raises(ReproError, match=re.escape(line)):
        plan("iwae", "d.npz", profile="smoke")


def test_bytes_of_zeros_and_ones_are_divided_as_those_beside_them(here):
    np.savez(here / "d.npz", train=BYTES, test=(GOOD > 0).astype(np.uint8))
    assert images_in(dataset_in("d.npz")).test.max() == np.float32(1 / 255)


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
    words["held_out"] = 10
    (e,) = plan("iwae", "d.npz", K=5, learning_rate=3e-4, schedule="constant", **words)
    (record,) = run.train([e], results=here / "results", engine="eager")
    assert record.weights()["decoder.logits.weight"].shape == (297, 7)
    assert record.curve.learning_rate.tolist() == [3e-4]
    assert record.reconstructions[1].shape == (10, 3, 9, 11)
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
    assert record.provenance.data["variant"].endswith(", the last 13 training images held out")


# What a file of one's own brings along


def test_the_modules_that_a_file_imports_are_part_of_it(here):
    (here / "mine.py").write_text(
        "import deeper\nfrom parts.of_it import g\ndef f(log_w):\n    return g(log_w)\n"
    )
    (here / "parts").mkdir()
    (here / "parts" / "__init__.py").write_text("")
    (here / "parts" / "of_it.py").write_text("import helper\ng = helper.mean\n")
    (here / "deeper.py").write_text("def later():\n    import lazy\n")
    (here / "lazy.py").write_text("")
    mean = "from repro.bounds import iwae\ndef mean(log_w):\n    return {} * iwae(log_w)\n"
    (here / "helper.py").write_text(mean.format(1))
    names = [method_in("mine.py:f")]
    for file, text in (("lazy.py", "# other"), ("helper.py", mean.format(2))):
        (here / file).write_text(text)
        names.append(method_in("mine.py:f"))
    assert len({*names}) == 3
    log_w = torch.zeros(1, 3, 5, 7) + 1
    assert [float(METHODS[n].theta(log_w)[0, 0]) for n in names] == pytest.approx([1, 1, 2])
    source = text_of(names[-1])
    assert source.startswith("import deeper\n")
    assert "\n# parts/of_it.py\nimport helper\n" in source
    assert "return 2 * iwae(log_w)" in source


IMPORTS = {  # of a module in another way than by its name beside the file
    "helper.py": "import importlib\nN = importlib.import_module('helper').N",
    "lib/deep.py": "import sys\nsys.path.append(__file__[:-7] + 'lib')\nfrom deep import N",
}


@pytest.mark.parametrize("file", IMPORTS)
def test_a_module_that_is_imported_in_another_way_is_part_of_it_too(here, file):
    rest = "from repro.bounds import iwae\ndef f(log_w):\n    return N * iwae(log_w)\n"
    (here / "mine.py").write_text(f"{IMPORTS[file]}\n{rest}")
    (here / file).parent.mkdir(exist_ok=True)
    names = []
    for number in (1, 2, 2):
        (here / file).write_text(f"N = {number}\n")
        names.append(method_in("mine.py:f"))
    assert names[0] != names[1] == names[2]
    assert [float(METHODS[n].theta(torch.ones(3, 5, 7))[0]) for n in names] == [1, 2, 2]
    assert "N = 2" in text_of(names[1])


def test_what_is_imported_already_is_not_taken_from_beside_a_file(here):
    """As from the project's own folder, where ``repro`` stands beside a user's file."""
    for name in ("repro", "torch", "numpy"):
        (here / name).mkdir()
        (here / name / "__init__.py").write_text("1 / 0")
    (here / "mine.py").write_text(
        "import torch\nfrom repro.bounds import Objective, iwae\nf = Objective(iwae)\n"
    )
    known = ("repro", "repro.bounds", "torch", "numpy")
    before = [sys.modules[name] for name in known]
    (e,) = plan("mine.py:f", profile="smoke")
    assert text_of(e.method) == (here / "mine.py").read_text()
    assert all(a is b for a, b in zip(before, map(sys.modules.get, known), strict=True))


def test_two_folders_may_have_helpers_of_one_name(here):
    values = []
    for number in (1, 2):
        folder = here / f"of-{number}"
        folder.mkdir()
        (folder / "helper.py").write_text(f"NUMBER = {number}\n")
        (folder / "mine.py").write_text(
            "import helper\nfrom repro.bounds import iwae\n"
            "def f(log_w):\n    return helper.NUMBER * iwae(log_w)\n"
        )
        name = method_in(f"{folder.name}/mine.py:f")
        values.append(float(METHODS[name].theta(torch.ones(1, 3, 5, 7))[0, 0]))
    assert values == [1, 2]


def test_files_are_imported_as_python_imports_modules(here):
    (here / "latin.py").write_bytes(
        "# coding: latin-1\nfrom __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom repro.bounds import iwae\n"
        "@dataclass(frozen=True)\nclass Rényi:\n    α: float = 1\n"
        "    def __call__(self, log_w):\n        return self.α * iwae(log_w)\n"
        "f = Rényi()\n".replace("α", "a").encode("latin-1")
    )
    name = method_in("latin.py:f")
    assert "class Rényi" in text_of(name)
    assert float(METHODS[name].phi(torch.ones(1, 3, 5, 7))[0, 0]) == 1


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("from repro.bounds import METHODS\nMETHODS['iwae'] = METHODS['vae']", "changes METHODS"),
        ("from repro.bounds import METHODS\nMETHODS['mine'] = METHODS['vae']", "changes METHODS"),
        ("from repro import bounds\nbounds.iwae = bounds.vae", "changes METHODS or another part"),
        ("import os\nos.chdir('/')", "or the folder to work in; leave them as they are"),
        ("import torch\ntorch.set_default_dtype(torch.float64)", "changes the default type or"),
        ("import torch\ntorch.set_default_device('meta')", "changes the default type or device"),
        ("import sys\nsys.exit(7)", "fails (SystemExit: 7, mine.py line 2)"),
        ("class Own(BaseException):\n    pass\nraise Own('so')", "fails (Own: so, mine.py line 3)"),
        ("def f(:", "mine.py fails (SyntaxError: "),
        ("1 / 0", "mine.py fails (ZeroDivisionError: "),
        ("import no_such_module", "mine.py fails (ModuleNotFoundError: "),
        ("raise GeneratorExit", "mine.py fails (GeneratorExit, mine.py line 1)"),
        (
            "class Silent(Exception):\n    def __str__(self):\n        1 / 0\nraise Silent",
            "mine.py fails (Silent, mine.py line 4)",
        ),
    ],
)
def test_a_file_that_fails_leaves_or_changes_what_all_share_is_one_line(here, code, line):
    shared = dict(METHODS), torch.get_default_dtype(), torch.get_default_device()
    (here / "mine.py").write_text(f"{code}\ndef f(log_w):\n    return log_w.mean((-3, -2))\n")
    with pytest.raises(ReproError, match=re.escape(line)):
        plan("mine.py:f", profile="smoke")
    assert (METHODS, torch.get_default_dtype(), torch.get_default_device()) == shared


def test_a_bound_may_be_scripted_and_a_partial_one_with_wrong_arguments_is_one_line(here):
    (here / "mine.py").write_text(
        "import functools\nimport torch\nfrom repro.bounds import log_mean_exp\n"
        "@torch.jit.script\ndef f(log_w: torch.Tensor):\n    return log_w.mean((-3, -2))\n"
        "g = functools.partial(log_mean_exp, axes=(-3, -2))\n"
    )
    assert plan("mine.py:f", profile="smoke")
    with pytest.raises(ReproError, match=r"fails .TypeError: .* unexpected keyword"):
        plan("mine.py:g", profile="smoke")


@pytest.mark.parametrize(
    "made",
    ["F([-3, -2])", "Objective(iwae, F([-3, -2]))", "Objective(iwae, 3)", "Objective([iwae])"],
)
def test_what_cannot_be_called_or_hashed_is_one_line(here, made):
    (here / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom repro.bounds import Objective, iwae\n"
        "@dataclass(frozen=True)\nclass F:\n    dims: list\n    def __call__(self, log_w):\n"
        f"        return log_w.mean(self.dims)\nf = {made}\n"
    )
    with pytest.raises(ReproError, match="has a bound that cannot be called or hashed"):
        plan("mine.py:f", profile="smoke")


# Tried as it will be used


FLAT = """
import torch
from repro.bounds import iwae, log_mean_exp

def offset(log_w):
    return (log_w.exp().mean((-3, -2)) + 1e-10).log()

def mixed(log_w):
    bound = iwae(log_w)
    return bound.mean(-1, keepdim=True).expand_as(bound) if log_w.shape[-2] == 8 else bound

def random(log_w):
    return iwae(log_w) + (torch.rand(()) if log_w.shape[-2] == 8 else 0)

def detached(log_w):
    return iwae(log_w.detach() if log_w.shape[-2] == 8 else log_w)

def shape(log_w):
    return iwae(log_w)[..., None] if log_w.shape[-2] == 8 else iwae(log_w)

def last(log_w):
    bound = iwae(log_w)
    return torch.cat([bound[..., :9], bound[..., 9:] + bound[..., -1:]], -1)

def spread(log_w):
    return iwae(log_w) + log_w.var((-3, -2)).mean()

def back(log_w):
    bound = iwae(log_w)
    return torch.cat([bound[:1], bound[1:] + bound[:1]]) if len(bound) == 2 else bound

def sparse(log_w):
    return iwae(log_w).to_sparse()

def endless(log_w):
    while True:
        pass

def leaves(log_w):
    raise SystemExit(7)

def variance(log_w):
    return -log_w.flatten(-3, -2).var(-2)

def far(log_w):
    return log_mean_exp(log_w.clamp(min=-520), (-3, -2))

def squeezed(log_w):
    return iwae(log_w).squeeze()

def twenty(log_w):
    return iwae(log_w) + (torch.zeros(21) if log_w.min() < -100 else 0)

def moves(log_w):
    import os
    os.chdir("/") if log_w.min() < -100 else None
    return iwae(log_w)

def lazy(log_w):
    import importlib
    importlib.import_module("unseen") if log_w.min() < -100 else None
    return iwae(log_w)
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("offset", "has no finite gradient at log-weights near -500, as those of images are"),
        ("mixed", "mixes images"),
        ("last", "mixes images"),
        ("spread", "mixes runs"),
        ("back", "mixes runs"),
        ("sparse", "gives a torch.sparse_coo tensor on cpu"),
        ("random", "gives another value each time"),
        ("detached", "has no gradient"),
        ("shape", "gives [2, 20, 1]"),
        ("squeezed", "gives [20] for 1 run; it must map [..., M, K, batch] to [..., batch]"),
        ("endless", "has not returned after 1 s"),
        ("leaves", "fails (SystemExit: 7)"),
    ],
)
def test_a_bound_is_tried_as_it_will_be_used(here, monkeypatch, name, line):
    monkeypatch.setattr("repro.bound_trial.SECONDS", 1)
    (here / "flat.py").write_text(FLAT)
    with pytest.raises(ReproError, match=re.escape(line)):
        plan(f"flat.py:{name}", profile="smoke", M=8, K=8)


def test_a_bound_that_does_not_rise_with_its_weights_is_remarked_on(here, capsys):
    (here / "flat.py").write_text(FLAT)
    assert plan("flat.py:variance", profile="smoke")
    assert "does not rise with all log-weights by as much: no bound, perhaps" in (
        capsys.readouterr().out
    )
    assert plan("my_bounds.py:renyi", profile="smoke")
    assert not capsys.readouterr().out


def test_a_bound_without_a_gradient_on_the_first_images_is_not_trained(here):
    (here / "flat.py").write_text(FLAT)
    runs = plan("iwae,flat.py:far", "My data.npz", profile="smoke", epochs=1)
    with pytest.raises(ReproError, match="inference network is zero on the first images under far"):
        run.train(runs, results=here / "results", engine="eager")
    assert not [*(here / "results").rglob("*.*")]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("twenty", "^twenty, with images, fails .RuntimeError: .*, flat.py line"),
        ("moves", "^moves changes the default type or device of tensors, the precision of their"),
        ("lazy", "^lazy imports unseen while it is used, so that its own name"),
    ],
)
def test_what_a_bound_does_with_real_images_only_is_one_line(here, name, line):
    (here / "unseen.py").write_text("")
    text = FLAT.replace("log_w.min() < -100", "log_w.shape[0] == 1 and log_w.shape[-1] == 10")
    (here / "flat.py").write_text(text)
    runs = plan(f"flat.py:{name}", "My data.npz", profile="smoke", epochs=1, batch_size=10)
    with pytest.raises(ReproError, match=line):
        run.train(runs, results=here / "results", engine="eager")
    assert os.getcwd() == str(here)
    assert not [*(here / "results").rglob("*.*")]


def test_two_helpers_of_one_name_of_which_one_is_imported_late_are_refused(here):
    text = "from repro.bounds import iwae\ndef f(log_w):\n    import late\n    return iwae(log_w)\n"
    for folder in (here / "a", here / "b"):
        folder.mkdir()
        (folder / "mine.py").write_text(text)
        (folder / "late.py").write_text("")
    method_in("a/mine.py:f")
    with pytest.raises(ReproError, match="there are two late"):
        method_in("b/mine.py:f")


def test_a_bound_for_theta_alone_is_trained(here):
    (here / "flat.py").write_text("from repro.bounds import Objective, iwae\nf = Objective(iwae)\n")
    runs = plan("flat.py:f", "My data.npz", profile="smoke", epochs=1)
    assert len(run.train(runs, results=here / "results", engine="eager")) == 1


def test_a_file_that_does_not_end_is_one_line(here, monkeypatch):
    monkeypatch.setattr("repro.own_code.PATIENCE", 1)
    (here / "mine.py").write_text("while True:\n    pass\n")
    with pytest.raises(ReproError, match=r"mine.py has not returned after 1 s"):
        plan("mine.py:f", profile="smoke")
