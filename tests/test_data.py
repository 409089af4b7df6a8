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
@pytest.mark.parametrize(
    ("name", "train", "test", "least", "most"),  # ink is 1 and there is little of it
    [
        ("mnist", 60_000, 10_000, 0.1306, 0.1308),
        pytest.param("omniglot-lake", 24_345, 8_115, 0.05, 0.12, marks=pytest.mark.slow),
    ],
)
def test_real_data_is_read_and_verified(name, train, test, least, most):
    dataset = datasets.load(name, SHARED)
    assert (dataset.train.shape, dataset.test.shape) == ((train, 784), (test, 784))
    assert (dataset.train.min(), dataset.train.max() <= 1) == (0, True)
    assert least < dataset.train.mean() < most


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
    for part in (str(tmp_path), name, "damaged", "by hand", "https://"):
        assert part in str(error.value)


def put_drawing(folder, mode, size, colour, name):
    """An archive of Omniglot that holds one drawing."""
    from PIL import Image

    png = io.BytesIO()
    Image.new(mode, size, colour).save(png, "PNG")
    path = folder / "omniglot" / "images_background.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, png.getvalue())


@pytest.mark.parametrize(
    ("mode", "size", "line"),
    [
        ("1", (105, 105), r"its contents have .*SHA-256 of the drawings 51ca506c"),
        ("RGB", (105, 105), "drawing"),
        ("1", (5000, 5000), "drawing"),
        ("1", (28, 28), "drawing"),
    ],
)
def test_a_drawing_that_was_changed_or_is_none_is_one_line(tmp_path, mode, size, line):
    put_drawing(tmp_path, mode, size, 1, "images_background/A/character01/0001_01.png")
    with pytest.raises(ReproError, match=line):
        datasets.load("omniglot-lake", tmp_path)


def test_a_file_that_is_unpacked_already_is_read_under_its_packed_name(tmp_path, monkeypatch):
    image = bytes([0, 255, *[51] * 782])
    file = b"\0" * 16 + image
    named = dict.fromkeys(datasets.MNIST_FILES, hashlib.sha256(file).hexdigest())
    monkeypatch.setattr(datasets, "MNIST_FILES", named)
    packed = gzip.compress(file)
    for name, content in zip(named, (file, packed), strict=True):
        put(tmp_path, f"mnist/{name}", content)
    found = datasets.load("mnist", tmp_path)
    assert torch.equal(found.train, found.test)
    assert found.train[0, :3].tolist() == pytest.approx([0, 1, 0.2])


def test_without_a_home_folder_there_is_one_line(monkeypatch):
    for name in ("HOME", "REPRO_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ReproError, match="no home folder; name a folder for the data with --data"):
        datasets.load("mnist")


def test_a_missing_file_is_one_line_that_says_where_to_put_it(tmp_path):
    line = r"mnist/train-images.* is missing; get https://.*SHA-256 ba891046.* put it at .*mnist"
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


def test_binarisation_is_fresh_at_every_visit():
    images = torch.full((1, 1, 20_000), 0.3)
    stream = Streams([0], "binarise")
    assert not torch.equal(stream.binarise(images), stream.binarise(images))


def test_what_unpacks_to_more_than_it_should_is_not_unpacked(tmp_path):
    """Two hundred megabytes of zeros: no more is read than the file may hold."""
    import resource

    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    put(tmp_path, "mnist/train-images-idx3-ubyte.gz", bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReproError, match="is damaged"):
        datasets.load("mnist", tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150_000  # kB


def test_a_pipe_in_a_files_place_does_not_hang(tmp_path):
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ReproError, match="is no file; remove it"):
        datasets.load("mnist", tmp_path)
