"""Datasets (fetch, verify, split) and every random number that training and evaluation see.

A pixel is the probability of a 1; images are binarised afresh at every visit. Files are read from the folder given, else
from ``REPRO_DATA_DIR`` where it is set, else from the user's cache, into which they are fetched. Their contents are
verified each time they are read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro import ReproError, one_of


@dataclass(frozen=True)
class Dataset:
    """Images as float32 [n, 784] in [0, 1]."""

    name: str
    variant: str
    train: Tensor
    test: Tensor

    @property
    def sha256(self) -> str:
        """SHA-256 of the two arrays' bytes, train then test."""
        digest = hashlib.sha256()
        for images in (self.train, self.test):
            digest.update(np.ascontiguousarray(images.numpy(), dtype="<f4").tobytes())
        return digest.hexdigest()


def load(name: str, folder: str | Path | None = None) -> Dataset:
    """The dataset called ``name``, verified. Raises ReproError where a file is missing, damaged or cannot be fetched."""
    variant, read = DATASETS[one_of("dataset", name, DATASETS)]
    train, test = read(folder)
    return Dataset(name, variant, *(torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (train, test)))


def _digits(folder) -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits, 8x8 resized bilinearly to 28x28: the first 1,500 to train, the last 297 to test."""
    from PIL import Image
    from sklearn.datasets import load_digits

    small = load_digits().images.astype(np.float32) / 16
    large = [np.asarray(Image.fromarray(im).resize((28, 28), Image.Resampling.BILINEAR)).ravel() for im in small]
    return np.stack(large[:1500]), np.stack(large[1500:])


MNIST = {  # file -> SHA-256 of its decompressed contents
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def _mnist(folder) -> tuple[np.ndarray, np.ndarray]:
    def images(path: Path, sha256: str) -> np.ndarray:
        payload = gzip.decompress(path.read_bytes())
        _check(hashlib.sha256(payload).hexdigest(), sha256)
        return np.frombuffer(payload, np.uint8, offset=16).reshape(-1, 784) / np.float32(255)

    train, test = (
        verified_file(folder, "mnist", f, MNIST_URL + f, f"decompressed SHA-256 {h}", lambda p, h=h: images(p, h)) for f, h in MNIST.items()
    )
    return train, test


OMNIGLOT_URL = "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"
OMNIGLOT_BLOB = "016a3536ffe5e1d38e42563a18d7a78bfaf643ec"  # git's name for Burda's file: sha1("blob <size>\0" + bytes)


def _omniglot(folder) -> tuple[np.ndarray, np.ndarray]:
    def images(path: Path) -> tuple[np.ndarray, np.ndarray]:
        from scipy.io import loadmat

        raw = path.read_bytes()
        _check(hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest(), OMNIGLOT_BLOB)
        return burda_images(loadmat(io.BytesIO(raw)))

    return verified_file(folder, "omniglot", "chardata.mat", OMNIGLOT_URL, f"git blob id {OMNIGLOT_BLOB}", images)


def burda_images(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Train and test images [n, 784] in row-major pixel order from 784 x n columns in column-major order."""
    train, test = (arrays[key].T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784) for key in ("data", "testdata"))
    return train, test


LAKE = {  # file -> SHA-256 of all drawings' bits, in order of their paths
    "images_background.zip": "51ca506ce7ea3430a8b51e6e6426a1035e782f1b3fdd7d385232445603f2f4b6",
    "images_evaluation.zip": "57262cc3e42fa55b35985f8f2df924c5716fcf2a372bf410590b5c66b4698ebd",
}
LAKE_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"


DRAWERS = {"train": range(1, 16), "test": range(16, 21)}  # of Lake's twenty; each character's drawings stand in this order


def _omniglot_lake(folder) -> tuple[np.ndarray, np.ndarray]:
    def drawings(path: Path, sha256: str) -> list[tuple[int, np.ndarray]]:
        from PIL import Image

        digest, images = hashlib.sha256(), []
        with zipfile.ZipFile(path) as archive:
            for member in sorted(n for n in archive.namelist() if n.endswith(".png")):
                png = Image.open(io.BytesIO(archive.read(member)))
                digest.update(png.tobytes())
                ink = Image.fromarray(1 - np.asarray(png, np.float32)).resize((28, 28), Image.Resampling.BICUBIC)
                drawer = int(member[-6:-4])
                images.append((drawer, np.asarray(ink).clip(0, 1).ravel()))
        _check(digest.hexdigest(), sha256)
        return images

    images = [
        d
        for f, h in LAKE.items()
        for d in verified_file(folder, "omniglot", f, LAKE_URL + f, f"SHA-256 of the drawings {h}", lambda p, h=h: drawings(p, h))
    ]
    train, test = (np.stack([im for drawer, im in images if drawer in drawers]) for drawers in DRAWERS.values())
    return train, test


DATASETS: dict[str, tuple[str, Callable]] = {
    "digits": ("scikit-learn's 8x8 handwritten digits, resized bilinearly to 28x28", _digits),
    "mnist": ("MNIST, pixel/255", _mnist),
    "omniglot": ("Omniglot, Burda's 28x28 (chardata.mat)", _omniglot),
    "omniglot-lake": ("Omniglot, Lake's drawings resized bicubically to 28x28, drawers 1-15 / 16-20", _omniglot_lake),
}

ELSEWHERE = {"mnist": "omniglot-lake", "omniglot": "mnist", "omniglot-lake": "mnist"}  # trained on one, tested on the other too


def _check(found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"its contents have {found}")


def cache() -> Path:
    """Where fetched files are kept."""
    import pooch

    return Path(pooch.os_cache("repro"))


def verified_file(folder, dataset: str, name: str, url: str, expected: str, read: Callable[[Path], object]):
    """``read`` the verified file ``dataset/name`` from the first place that has it, else fetch it into the cache."""
    given = folder or os.environ.get("REPRO_DATA_DIR")
    path = Path(given) / dataset / name if given else cache() / dataset / name
    by_hand = f"get {url} by hand ({expected}) and put it at {path}"
    if not path.exists():
        if given:
            raise ReproError(f"{path} is missing; {by_hand}" + ", or unset REPRO_DATA_DIR to have it fetched" * (not folder))
        _fetch(url, path, by_hand)
    try:
        return read(path)
    except PermissionError:
        raise ReproError(f"{path} may not be read; change its permissions, or name another folder") from None
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise ReproError(f"{path} is damaged ({error}); delete it, {by_hand}") from None


def _fetch(url: str, path: Path, by_hand: str) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would print a hash to trust; what is read is checked against a known one
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, progressbar=True)
    except Exception as error:
        raise ReproError(f"{path} could not be fetched ({type(error).__name__}); {by_hand}") from None


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of its own for each seed and purpose, so that no use of random numbers disturbs another."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Streams:
    """Random numbers for stacked runs. Runs with the same seed see the same numbers, whoever their companions are."""

    def __init__(self, seeds: Sequence[int], purpose: str, device: str | torch.device = "cpu"):
        distinct = list(dict.fromkeys(seeds))
        self.device = torch.device(device)
        self.generators = [generator(seed, purpose, device) for seed in distinct]
        self.index = torch.tensor([distinct.index(seed) for seed in seeds], device=device)

    def runs(self, per_seed: Tensor) -> Tensor:
        """[seed, ...] -> [run, ...], without a copy where all runs share one seed."""
        return per_seed.expand(len(self.index), *per_seed.shape[1:]) if len(self.generators) == 1 else per_seed[self.index]

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal, ``[run, *shape]``."""
        return self.runs(torch.stack([torch.randn(*shape, generator=g, device=self.device) for g in self.generators]))

    def binarise(self, images: Tensor) -> Tensor:
        """A Bernoulli draw of every pixel: probabilities [seed or 1, n, pixels] -> 0 or 1 [run, n, pixels]."""
        images = images.expand(len(self.generators), *images.shape[1:])
        return self.runs(torch.stack([torch.bernoulli(p, generator=g) for p, g in zip(images, self.generators, strict=True)]))

    def permutations(self, n: int) -> Tensor:
        """A fresh order of n items for each distinct seed: [seed, n]."""
        return torch.stack([torch.randperm(n, generator=g, device=self.device) for g in self.generators])

    def get_state(self) -> list[Tensor]:
        """Where each seed's generator stands."""
        return [g.get_state() for g in self.generators]

    def set_state(self, states: list[Tensor]) -> None:
        """Go on from ``get_state``'s list."""
        for g, state in zip(self.generators, states, strict=True):
            g.set_state(state.cpu())
