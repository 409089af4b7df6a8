"""Datasets are verified before they are used, and random numbers do not depend on company."""

import gzip
import hashlib
import io
import os
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from repro import ReproError, datasets
from repro.randomness import Streams

SHARED = Path(os.environ.get("REPRO_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
real = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real files: set REPRO_DATA_DIR")


def test_digits_need_no_network_and_are_probabilities():
    digits = datasets.load("digits")
    assert digits.train.shape == (1500, 784)
    assert digits.test.shape == (297, 784)
    assert digits.train.min() == 0
    assert digits.train.max() <= 1
    assert digits.sha256 == datasets.load("digits").sha256


@real
def test_mnist_is_read_and_verified():
    mnist = datasets.load("mnist", SHARED)
    assert mnist.train.shape == (60_000, 784)
    assert mnist.test.shape == (10_000, 784)
    assert mnist.train.max() == 1
    assert abs(mnist.train.mean().item() - 0.1307) < 1e-4


@real
@pytest.mark.slow
def test_omniglot_from_the_drawings_is_read_and_verified():
    omniglot = datasets.load("omniglot-lake", SHARED)
    assert omniglot.train.shape == (24_345, 784)
    assert omniglot.test.shape == (8_115, 784)
    assert omniglot.train.min() >= 0
    assert omniglot.train.max() <= 1
    assert 0.05 < omniglot.train.mean() < 0.12  # ink is 1 and there is little of it


def test_burdas_columns_become_upright_images():
    image = np.arange(784.0).reshape(28, 28)
    columns = {
        "data": np.stack([image.ravel(order="F")] * 3, 1),
        "testdata": image.reshape(784, 1, order="F"),
    }
    train, test = datasets.burda_images(columns)
    assert train.shape == (3, 784)
    assert np.array_equal(train[2], image.ravel())
    assert np.array_equal(test[0], image.ravel())


def put(folder, name, content):
    (folder / Path(name).parent).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


ANOTHER_FILE = gzip.compress(b"\0" * 1000, mtime=0)  # the same in every process
TRUNCATED_FILE = gzip.compress(random.Random(0).randbytes(1000), mtime=0)[:500]


@pytest.mark.parametrize(
    ("dataset", "name", "content"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", ANOTHER_FILE),
        ("mnist", "train-images-idx3-ubyte.gz", TRUNCATED_FILE),
        ("mnist", "train-images-idx3-ubyte.gz", b"<html>not found</html>"),
        ("omniglot", "chardata.mat", b"MATLAB"),
        ("omniglot-lake", "images_background.zip", b"PK\3\4"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_to_do(tmp_path, dataset, name, content):
    put(tmp_path, f"{dataset.split('-')[0]}/{name}", content)
    with pytest.raises(ReproError) as error:
        datasets.load(dataset, tmp_path)
    line = str(error.value)
    assert "\n" not in line
    for part in (str(tmp_path), name, "damaged", "by hand", "https://"):
        assert part in line


def test_a_drawing_that_was_changed_is_noticed(tmp_path):
    from PIL import Image

    png = io.BytesIO()
    Image.new("1", (105, 105), 1).save(png, "png")
    (tmp_path / "omniglot").mkdir()
    with zipfile.ZipFile(tmp_path / "omniglot" / "images_background.zip", "w") as archive:
        archive.writestr("images_background/A/character01/0001_01.png", png.getvalue())
    with pytest.raises(ReproError, match=r"its contents have .*SHA-256 of the drawings 51ca506c"):
        datasets.load("omniglot-lake", tmp_path)


def test_a_missing_file_is_one_line_that_says_where_to_put_it(tmp_path):
    line = (
        r"mnist/train-images.* is missing; "
        r"get https://.*SHA-256 ba891046.* put it at .*mnist"
    )
    with pytest.raises(ReproError, match=line):
        datasets.load("mnist", tmp_path)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("REPRO_DATA_DIR", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path)
    monkeypatch.setattr(datasets, "MNIST_URL", "http://127.0.0.1:9/")
    with pytest.raises(ReproError, match=r"could not be fetched .* put it at"):
        datasets.load("mnist")


def test_a_fetched_file_is_kept_and_read_again(tmp_path, monkeypatch):
    import pooch

    content = b"\0" * (16 + 784)
    sha256 = hashlib.sha256(content).hexdigest()
    calls = []
    monkeypatch.delenv("REPRO_DATA_DIR", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path)
    monkeypatch.setattr(datasets, "MNIST_FILES", dict.fromkeys(datasets.MNIST_FILES, sha256))

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append(url)
        assert progressbar
        put(Path(path), fname, gzip.compress(content))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    for _ in range(2):
        assert datasets.load("mnist").train.shape == (1, 784)
    assert [url.rsplit("/", 1)[1] for url in calls] == list(datasets.MNIST_FILES)


def test_without_pooch_files_that_are_not_at_hand_are_one_line(monkeypatch):
    monkeypatch.delenv("REPRO_DATA_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ReproError, match=r"pooch.* is not installed; .* --data or REPRO_DATA_DIR"):
        datasets.load("mnist")


def test_an_unknown_dataset_is_one_line_with_a_suggestion():
    with pytest.raises(ReproError, match="unknown dataset 'omniglott'; did you mean 'omniglot'"):
        datasets.load("omniglott")


def test_random_numbers_do_not_depend_on_companions():
    alone = Streams([3], "noise")
    company = Streams([1, 3, 3, 2], "noise")
    probabilities = torch.rand(1, 7, 13)
    for draw in (lambda s: s.normal((5, 7, 2)), lambda s: s.binarise(probabilities)):
        one = draw(alone)
        many = draw(company)
        assert torch.equal(one[0], many[1])
        assert torch.equal(many[1], many[2])
        assert not torch.equal(many[0], many[1])
    assert torch.equal(alone.permutations(11)[0], company.permutations(11)[1])
    assert not torch.equal(Streams([3], "order").normal((4,)), Streams([3], "noise").normal((4,)))


def test_binarisation_is_fresh_at_every_visit_and_has_the_right_mean():
    images = torch.full((1, 1, 20_000), 0.3)
    stream = Streams([0], "binarise")
    first = stream.binarise(images)
    second = stream.binarise(images)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert abs(first.mean().item() - 0.3) < 0.02


def test_what_unpacks_to_more_than_it_should_is_not_unpacked(tmp_path, monkeypatch):
    """Two hundred megabytes of zeros: no more is read than the file may hold."""
    import resource

    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    put(tmp_path, "mnist/train-images-idx3-ubyte.gz", bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReproError, match="is damaged"):
        datasets.load("mnist", tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150_000  # kB


@pytest.mark.parametrize(
    ("size", "mode"), [((105, 105), "RGB"), ((5000, 5000), "1"), ((28, 28), "1")]
)
def test_a_picture_that_is_no_drawing_is_one_line(tmp_path, size, mode):
    from PIL import Image

    png = io.BytesIO()
    Image.new(mode, size).save(png, "PNG")
    path = tmp_path / "omniglot" / "images_background.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/0001_01.png", png.getvalue())
    with pytest.raises(ReproError, match="drawing") as refused:
        datasets.load("omniglot-lake", tmp_path)
    assert "\n" not in str(refused.value)


def test_a_pipe_in_a_files_place_does_not_hang(tmp_path):
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ReproError, match="is no file; remove it"):
        datasets.load("mnist", tmp_path)
