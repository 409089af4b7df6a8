"""Files that are damaged and carry the right hashes all the same, as somebody else's may."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save

from repro import ReproError, figures, tables
from repro.catalogue import MODELS
from repro.models import Autoencoder
from repro.records import Archive
from repro.training import run
from repro.words.experiments import plan
from tests.helpers import with_hashes, write_record


@pytest.fixture
def record(tmp_path):
    """A record of the smoke profile with whole weights."""
    (e,) = plan("vae", profile="smoke")
    model = Autoencoder(MODELS["reference"], [0])
    return write_record(tmp_path, e, weights=model.run_state(0))


BIAS = "decoder.logits.bias"


def weights_with(name, value):
    """Weights of which one is another; ``None`` leaves it out."""
    state = Autoencoder(MODELS["reference"], [0]).run_state(0) | {name: value}
    return save({part: tensor for part, tensor in state.items() if tensor is not None})


@pytest.mark.parametrize(
    "content",
    [
        weights_with("encoder.hidden2.weight", torch.zeros(784, 200)),
        weights_with(BIAS, torch.zeros(784).index_fill(0, torch.tensor(3), float("nan"))),
        weights_with(BIAS, torch.zeros(1)),  # which would be broadcast
        weights_with(BIAS, torch.zeros(784, dtype=torch.int8)),
        weights_with(BIAS, None),
        weights_with("more", torch.zeros(1)),
        b"",
        b"not weights",
        pickle.dumps({BIAS: [0.0]}),
    ],
)
def test_weights_that_are_none_are_one_line(record, content):
    (record / "model.safetensors").write_bytes(content)
    with_hashes(record)
    again = Archive(record.parents[2]).read(record)
    with pytest.raises(ReproError, match=r"the weights|holds no weights"):
        run.evaluate_again(again, 10, None, "cpu")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("model.safetensors", "no record with weights"),
        ("provenance.json", "not as they were written"),
    ],
)
def test_first_weights_that_are_none_are_one_line(record, name, line):
    (record / name).write_bytes(b"\xff garbage")
    if name != "provenance.json":
        with_hashes(record)
    with pytest.raises(ReproError, match=line):
        plan("vae", profile="smoke", weights=str(record))


def arrays(**values):
    return lambda path: np.savez_compressed(path, **values)


GRID = np.zeros((64, 784), np.uint8)


@pytest.mark.parametrize(
    "write",
    [
        arrays(inputs=GRID),
        arrays(inputs=GRID, reconstructions=GRID[:3]),
        arrays(inputs=GRID, reconstructions=GRID.astype(float)),
        arrays(inputs=GRID, reconstructions=np.array([{}], object)),
        arrays(inputs=GRID, reconstructions=GRID, more=GRID),
        arrays(inputs=GRID, reconstructions=GRID, inputs_elsewhere=GRID),
        lambda path: path.write_bytes(b"PK\x03\x04 and then nothing"),
        lambda path: path.write_bytes(b""),
    ],
)
def test_images_that_are_none_are_one_line(record, write):
    write(record / "reconstructions.npz")
    with_hashes(record)
    again = Archive(record.parents[2]).read(record)
    with pytest.raises(ReproError, match=r"reconstructions\.npz (does not hold|cannot be read)"):
        figures.run_grids([again])


@pytest.mark.parametrize(
    "write",
    [
        arrays(elbo=np.zeros((3, 2), np.float32)),
        arrays(elbo=np.zeros(3, np.float32), ssim=np.zeros(4, np.float32)),
        arrays(elbo=np.array([None], object)),
        arrays(),
    ],
)
def test_numbers_of_images_that_are_none_are_one_line(record, write):
    write(record / "images.npz")
    with_hashes(record)
    with pytest.raises(ReproError, match=r"images.npz (cannot be|does not hold)"):
        _ = Archive(record.parents[2]).read(record).images


DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 400


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", DEEP),
        ("config.json", DEEP),
        ("provenance.json", DEEP),
        ("config.json", "{}"),
        ("metrics.json", f'{{"elbo": {{"value": {LONG}, "se": 1}}}}'),
        ("config.json", "3"),
        ("metrics.json", "[]"),
        ("curve.csv", "epoch,loss\n1," + "x" * 200_000 + "\n"),
        ("curve.csv", "\0\0"),
        ("metrics.json", None),
        ("curve.csv", None),
        ("reconstructions.npz", None),
    ],
)
def test_what_cannot_be_read_is_one_line_and_hides_no_other_record(record, name, content):
    """``None`` puts a folder in the file's place."""
    results = record.parents[2]
    (other,) = plan("iwae", profile="smoke")
    write_record(results, other)
    if content is None:
        (record / name).unlink()
        (record / name).mkdir()
    elif name == "metrics.json" and content.startswith("{"):
        whole = json.loads((record / name).read_text())
        whole |= {"elbo": {"value": int(LONG), "se": 1}}
        (record / name).write_text(json.dumps(whole))
    else:
        (record / name).write_text(content)
    if name != "provenance.json":
        with_hashes(record)
    with pytest.raises(ReproError) as error:
        Archive(results).read(record)
    assert len(str(error.value)) < 600
    with pytest.warns(UserWarning, match="vae"):
        found = Archive(results).records("smoke")
    assert [r.experiment for r in found] == [other]
    tables.metrics(found)
