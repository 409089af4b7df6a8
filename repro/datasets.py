"""Datasets: fetch, verify and split.

A pixel is the probability of a 1; images are binarised afresh at every visit. Files are read from
the folder given; otherwise from ``REPRO_DATA_DIR`` if it is set; otherwise from the user's cache,
into which they are fetched. Their contents are verified each time they are read.
"""

import gzip
import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro import ReproError, as_path, first_line, one_of, own
from repro.catalogue import DATASETS, OTHER_DATASET
from repro.randomness import generator

Split = tuple[np.ndarray, np.ndarray]  # training and test images, each [n, 784]


@dataclass(frozen=True)
class Dataset:
    """Training and test images, float32: [n, 784] in [0, 1], or a user's own [n, ...]."""

    name: str
    variant: str
    train: Tensor
    test: Tensor

    @property
    def pixels(self) -> int:
        """The number of values in an image."""
        return self.train[0].numel()

    def binarised_once(self) -> "Dataset":
        """The same images with fixed binary pixels, each drawn once from its Bernoulli."""
        g = generator(0, "binarise once")
        parts = (torch.bernoulli(part, generator=g) for part in (self.train, self.test))
        return Dataset(self.name, f"{self.variant}, binarised once", *parts)

    def holding_out(self, count: int) -> "Dataset":
        """The same training images, of which the last ``count`` take the test images' place.

        A choice, as of a learning rate, is made by their scores, so that no test image shapes it.
        """
        if count >= len(self.train):
            there = f"{self.name} has {len(self.train)} images to train on"
            raise ReproError(f"held_out is {count}, and {there}; hold out fewer")
        variant = f"{self.variant}, the last {count:,} training images held out"
        return Dataset(self.name, variant, self.train[:-count], self.train[-count:])

    @property
    def sha256(self) -> str:
        """SHA-256 of the two arrays' bytes, training images first."""
        digest = hashlib.sha256()
        for images in (self.train, self.test):
            digest.update(np.ascontiguousarray(images.numpy(), dtype="<f4").tobytes())
        return digest.hexdigest()

    @property
    def provenance(self) -> dict[str, str]:
        """Name, variant and hash, as records keep them."""
        return {"name": self.name, "variant": self.variant, "sha256": self.sha256}


def load(name: str, folder: str | Path | None = None) -> Dataset:
    """The dataset called ``name``, verified.

    Raises ReproError if a file is missing, damaged or cannot be fetched.

    >>> digits = load("digits")  # which need no network
    >>> digits.train.shape, digits.test.shape
    (torch.Size([1500, 784]), torch.Size([297, 784]))
    """
    if own.is_own(name):
        train, test, _ = own.images_in(name)
        shape = "x".join(map(str, train.shape[1:]))
        variant = f"{own.without_hash(name)}, {len(train)} and {len(test)} images of {shape}"
        return Dataset(name, variant, torch.from_numpy(train), torch.from_numpy(test))
    read = READERS[one_of("dataset", name, DATASETS)]
    arrays = [np.ascontiguousarray(a, np.float32) for a in read(folder)]
    return Dataset(name, DATASETS[name], *map(torch.from_numpy, arrays))


def load_other(name: str, folder: str | Path | None = None) -> Dataset | None:
    """Load the second dataset on which models trained on ``name`` are tested.

    Returns None if there is none or, with a printed line that says why, if it is not available.
    """
    if name not in OTHER_DATASET:
        return None
    other = OTHER_DATASET[name]
    try:
        return load(other, folder)
    except ReproError as error:
        print(f"SSIM on {other} will be left out: {error}", flush=True)
        return None


def _digits(folder) -> Split:
    """1,797 handwritten digits, resized bilinearly: the first 1,500 train, the last 297 test."""
    from PIL import Image

    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ReproError(
            "the small digits come with scikit-learn, which is not installed; "
            "pip install scikit-learn, or name another dataset"
        ) from None
    large = []
    for image in load_digits().images.astype(np.float32) / 16:
        resized = Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR)
        large.append(np.asarray(resized).ravel())
    return np.stack(large[:1500]), np.stack(large[1500:])


MNIST_FILES = {  # file -> SHA-256 of its decompressed contents
    "train-images-idx3-ubyte.gz": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
}
MNIST_BYTES = 16 + 60_000 * 784  # of the larger file, unpacked
GZIP_MAGIC = b"\x1f\x8b"  # a file may have been unpacked under its name
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def _mnist(folder) -> Split:
    found = []
    for name, sha256 in MNIST_FILES.items():
        expected = f"decompressed SHA-256 {sha256}"
        read = partial(_mnist_images, sha256)
        found.append(verified_file(folder, "mnist", name, MNIST_URL + name, expected, read))
    train, test = found
    return train, test


def _mnist_images(sha256: str, path: Path) -> np.ndarray:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    with (gzip.open if packed else open)(path, "rb") as file:
        payload = file.read(MNIST_BYTES + 1)  # no more, however large it unpacks
    check_hash(hashlib.sha256(payload).hexdigest(), sha256)
    return np.frombuffer(payload, np.uint8, offset=16).reshape(-1, 784) / np.float32(255)


OMNIGLOT_URL = "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"
OMNIGLOT_BLOB = "016a3536ffe5e1d38e42563a18d7a78bfaf643ec"


def _omniglot(folder) -> Split:
    def images(path: Path) -> Split:
        from scipy.io import loadmat

        raw = path.read_bytes()
        check_hash(git_blob(raw), OMNIGLOT_BLOB)
        return burda_images(loadmat(io.BytesIO(raw)))

    expected = f"git blob id {OMNIGLOT_BLOB}"
    return verified_file(folder, "omniglot", "chardata.mat", OMNIGLOT_URL, expected, images)


def burda_images(arrays: dict[str, np.ndarray]) -> Split:
    """Images [n, 784] in row-major order, from Burda's columns in column-major order."""

    def upright(columns: np.ndarray) -> np.ndarray:
        return columns.T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784)

    return upright(arrays["data"]), upright(arrays["testdata"])


LAKE_FILES = {  # file -> SHA-256 of all drawings' bits, in the order of their paths
    "images_background.zip": "51ca506ce7ea3430a8b51e6e6426a1035e782f1b3fdd7d385232445603f2f4b6",
    "images_evaluation.zip": "57262cc3e42fa55b35985f8f2df924c5716fcf2a372bf410590b5c66b4698ebd",
}
LAKE_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"

# Twenty people drew each character, and its drawings are in the order of their numbers.
DRAWERS = {"train": range(1, 16), "test": range(16, 21)}


def _omniglot_lake(folder) -> Split:
    drawings: list[tuple[int, np.ndarray]] = []
    for name, sha256 in LAKE_FILES.items():
        expected = f"SHA-256 of the drawings {sha256}"
        read = partial(_drawings, sha256)
        drawings += verified_file(folder, "omniglot", name, LAKE_URL + name, expected, read)

    def by(drawers: range) -> np.ndarray:
        return np.stack([image for drawer, image in drawings if drawer in drawers])

    return by(DRAWERS["train"]), by(DRAWERS["test"])


def _drawings(sha256: str, path: Path) -> list[tuple[int, np.ndarray]]:
    """The drawings in one of the two files: the number of the drawer, and the resized image."""
    from PIL import Image

    digest = hashlib.sha256()
    images = []
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".png")):
            png = _drawing(archive, member)
            digest.update(png.tobytes())
            ink = Image.fromarray(1 - np.asarray(png, np.float32))
            small = ink.resize((28, 28), Image.Resampling.BICUBIC)
            drawer = int(member[-6:-4])
            images.append((drawer, np.asarray(small).clip(0, 1).ravel()))
    check_hash(digest.hexdigest(), sha256)
    return images


DRAWING = (105, 105)  # pixels of a drawing
DRAWING_BYTES = 20_000  # at most, of its file


def _drawing(archive: zipfile.ZipFile, member: str):
    """A drawing in black and white. Raises ValueError if it is something else."""
    from PIL import Image

    if archive.getinfo(member).file_size > DRAWING_BYTES:
        raise ValueError(f"{member} is too large for a drawing")
    png = Image.open(io.BytesIO(archive.read(member)))
    if png.size != DRAWING or png.mode != "1":
        raise ValueError(f"{member} is no drawing of 105 by 105 pixels in black and white")
    return png


READERS: dict[str, Callable[[object], Split]] = {
    "digits": _digits,
    "mnist": _mnist,
    "omniglot": _omniglot,
    "omniglot-lake": _omniglot_lake,
}


def git_blob(raw: bytes) -> str:
    """Git's name for a file's contents: sha1("blob <size>\\0" + bytes)."""
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


def check_hash(found: str, expected: str) -> None:
    """Raise ValueError if contents do not have the ``expected`` hash."""
    if found != expected:
        raise ValueError(f"its contents have {found}")


def _pooch():
    """The library that fetches files, which training on files at hand does not need."""
    try:
        import pooch
    except ModuleNotFoundError:
        raise ReproError(
            "pooch, which fetches files, is not installed; install it, or name a folder that has "
            "the files with --data or REPRO_DATA_DIR"
        ) from None
    return pooch


def verified_file(
    folder, dataset: str, name: str, url: str, expected: str, read: Callable[[Path], object]
):
    """Read the file ``dataset/name`` in the folder of data, or in the cache, fetched if missing.

    ``read`` verifies the contents and returns them; ``expected`` describes them in messages.
    """
    given = folder if folder is not None else os.environ.get("REPRO_DATA_DIR") or None
    path = (_cache() if given is None else as_path("data", given)) / dataset / name
    by_hand = f"get {url} by hand ({expected}) and put it at {path}"
    if not path.exists():
        if given:
            unset = "" if folder is not None else ", or unset REPRO_DATA_DIR to have it fetched"
            raise ReproError(f"{path} is missing; {by_hand}{unset}")
        _fetch(url, path, by_hand)
    if not path.is_file():
        raise ReproError(f"{path} is no file; remove it, and {by_hand}")
    try:
        return read(path)
    except PermissionError:
        raise ReproError(
            f"{path} may not be read; change its permissions, or name another folder"
        ) from None
    except Exception as error:  # a reader may raise anything at a damaged file
        again = f"delete it, {by_hand}" if given else "delete it, and it is fetched again"
        raise ReproError(f"{path} is damaged ({first_line(error)}); {again}") from None


def _cache() -> Path:
    """The user's folder of fetched files; ReproError if the user has no home."""
    try:
        return Path(_pooch().os_cache("repro"))
    except RuntimeError:
        raise ReproError(
            "this user has no home folder; name a folder for the data with --data or REPRO_DATA_DIR"
        ) from None


def _fetch(url: str, path: Path, by_hand: str) -> None:
    pooch = _pooch()
    pooch.get_logger().setLevel("WARNING")  # it would print a hash to trust
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, progressbar=True)
    except Exception as error:
        raise ReproError(
            f"{path} could not be fetched ({type(error).__name__}); {by_hand}"
        ) from None
