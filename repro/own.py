"""A user's own bound and own dataset, each in a file.

Its name ends in the first digits of a hash of its content, so that a changed file makes other
records. A bound's file is Python and is executed, as its author means it to be; nothing is ever
executed from a record.
"""

import hashlib
import re
import runpy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from repro import ReproError, first_line, in_short, one_of
from repro.bounds import METHODS, Objective, both
from repro.catalogue import PIXELS

HASHED = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)-[0-9a-f]{8}")
LEAST = {"train": 20, "test": 64}  # images: a batch, and those of figures


class Images(NamedTuple):
    """Training and test images, each float32 [n, 784] from 0 to 1."""

    train: np.ndarray
    test: np.ndarray


_sources: dict[str, str] = {}  # method -> the text of its file
_images: dict[str, Images] = {}  # dataset -> its images


def is_own(name: str) -> bool:
    """True of the name of a bound or a dataset of somebody's own.

    >>> is_own("renyi-0123abcd"), is_own("iwae")
    (True, False)
    """
    return HASHED.fullmatch(name) is not None


def without_hash(name: str) -> str:
    """The name without the digits at its end, if it has them.

    >>> without_hash("renyi-0123abcd")
    'renyi'
    """
    match = HASHED.fullmatch(name)
    return match.group(1) if match else name


def text_of_bound(method: str) -> str | None:
    """The text of an own bound's file; None of the project's methods."""
    return _sources.get(method)


def images_in(dataset: str) -> Images:
    """The images of an own dataset. Raises ReproError if its file was not named in this process."""
    if dataset not in _images:
        raise ReproError(f"{dataset} is somebody's own data; name its file, FILE.npz")
    return _images[dataset]


# A bound


def method_of(word: str) -> str:
    """The method that FILE.py:NAME stands for, put into ``METHODS``.

    NAME is a function of log-weights, for both networks, or an ``Objective``. Raises ReproError if
    there is none; ``bound_trial.check`` tries it afterwards.
    """
    file, _, wanted = word.rpartition(":")
    path = _existing(file, "a bound")
    source = path.read_bytes()
    try:
        found = runpy.run_path(str(path), run_name=f"own_{path.stem}")
    except (Exception, SystemExit) as error:
        raise ReproError(f"{path} fails ({in_short(error)})") from None
    callables = [n for n, v in found.items() if callable(v) and not n.startswith("_")]
    thing = found[one_of("bound", wanted, callables)]
    name = _name(wanted, source)
    METHODS[name] = thing if isinstance(thing, Objective) else both(thing)
    _sources[name] = source.decode()
    return name


# A dataset


def dataset_of(file: str) -> str:
    """The dataset that is in FILE.npz: arrays ``train`` and ``test`` of numbers from 0 to 1.

    Each is [n, 784] or [n, 28, 28]. Raises ReproError if it is not that.
    """
    path = _existing(file, "a dataset")
    try:
        with np.load(path) as arrays:
            parts = {name: arrays[name] for name in arrays}
    except Exception as error:
        raise ReproError(
            f"{file} cannot be read ({first_line(error)}); write it by np.savez"
        ) from None
    if set(parts) != {"train", "test"}:
        raise ReproError(f"{file} must hold two arrays, train and test; it holds {sorted(parts)}")
    images = Images(*(_checked_images(name, file, parts[name]) for name in Images._fields))
    name = _name(path.stem, images.train.tobytes() + images.test.tobytes())
    _images[name] = images
    return name


def _checked_images(name: str, file: str, array: np.ndarray) -> np.ndarray:
    what = f"{name} in {file}"
    if array.dtype.kind not in "fiub":
        raise ReproError(f"{what} is of {array.dtype}; it must be of numbers")
    if array.shape[1:] not in ((PIXELS,), (28, 28)):
        raise ReproError(f"{what} is {[*array.shape]}; it must be [n, 784] or [n, 28, 28]")
    if len(array) < LEAST[name]:
        raise ReproError(f"{what} has {len(array)} images; {LEAST[name]} are the least")
    flat = np.ascontiguousarray(array.reshape(len(array), PIXELS), np.float32)
    if not (np.isfinite(flat).all() and flat.min() >= 0 and flat.max() <= 1):
        raise ReproError(f"{what} has values outside [0, 1]; divide, by 255 perhaps")
    return flat


# Both


def _existing(file: str, what: str) -> Path:
    path = Path(file).absolute()
    if not path.is_file():
        raise ReproError(f"there is no file {file} with {what}")
    return path


def _name(words: str, content: bytes) -> str:
    """A name for a folder: the user's words, and eight digits of its content's hash."""
    plain = re.sub("[^a-z0-9]+", "-", words.lower()).strip("-") or "own"
    return f"{plain}-{hashlib.sha256(content).hexdigest()[:8]}"
