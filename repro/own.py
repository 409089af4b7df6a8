"""A user's own bound, model, dataset and first weights, each in a file.

What is loaded from a file gets a name that ends in the first digits of a hash of its content, so
that a changed file makes other records. A Python file is executed; nothing is ever executed from a
record.
"""

import hashlib
import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from repro import ReproError, first_line, one_of, own_code
from repro.bounds import METHODS, Objective, both
from repro.own_code import time_limit, users_code

HASHED = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)-[0-9a-f]{16}")
LEAST = {"train": 20, "test": 64}  # images: a batch, and those of figures
TOO_SMALL = 0.01  # the largest value of images that were divided by 255 twice


class Images(NamedTuple):
    """Training and test images, each float32 [n, ...], and remarks on them for the user."""

    train: np.ndarray
    test: np.ndarray
    remarks: tuple[str, ...] = ()

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest pixel value."""
        low = min(self.train.min(), self.test.min())
        high = max(self.train.max(), self.test.max())
        return float(low), float(high)


_sources: dict[str, str] = {}  # method or model -> the text of its file
_models: dict[str, Callable] = {}  # model -> what makes one
_images: dict[str, Images] = {}  # dataset -> its images
_weights: dict[str, dict] = {}  # weights -> tensors by name
_made: weakref.WeakSet = weakref.WeakSet()  # models, each of which is to be new


def is_own(name: str) -> bool:
    """True if ``name`` is that of a user's own bound, model, data or weights: it ends in a hash.

    >>> is_own("renyi-0123456789abcdef"), is_own("iwae")
    (True, False)
    """
    return HASHED.fullmatch(name) is not None


def without_hash(name: str) -> str:
    """The name without the hash at its end, if it has one.

    >>> without_hash("renyi-0123456789abcdef")
    'renyi'
    """
    match = HASHED.fullmatch(name)
    return match.group(1) if match else name


def text_of(name: str) -> str | None:
    """The source of the file that a user's bound or model is from; None for the project's."""
    return _sources.get(name)


def keep_text(name: str, file: Path) -> None:
    """Keep the source in a record's file as that of a user's bound or model, for messages."""
    if is_own(name) and file.is_file():
        _sources.setdefault(name, file.read_text(encoding="utf-8"))


def called_in_file(name: str) -> str:
    """What a user's bound or model is called in its file, as far as its source is known."""
    source = text_of(name) or ""
    words = {*re.findall(r"\w+", source)}
    found = (word for word in words if _name(word, f"{source}:{word}".encode()) == name)
    return next(found, without_hash(name).replace("-", "_"))


def images_in(dataset: str) -> Images:
    """The images of a user's dataset; ReproError if its file was not loaded in this process."""
    if dataset not in _images:
        raise ReproError(f"{dataset} is somebody's own data; name its file, FILE.npz")
    return _images[dataset]


def weights_called(name: str) -> dict:
    """The initial weights ``name``, tensors by name; ReproError if they were not loaded before."""
    if name not in _weights:
        raise ReproError(f"{name} are the weights of a record; name its folder, --weights RECORD")
    return _weights[name]


# Bounds and models


def method_in(word: str) -> str:
    """Load the method in ``word``, FILE.py:NAME, into ``METHODS``; return its name there.

    NAME is a function of log-weights, for both networks, or an ``Objective``. Raises ReproError if
    there is none; ``bound_trial.check`` tries it afterwards.
    """
    thing, name = _named_in(word, "bound")
    METHODS[name] = thing if isinstance(thing, Objective) else both(thing)
    return name


def model_in(word: str) -> str:
    """Load the model in ``word``, FILE.py:NAME, a class or a function; return its name."""
    thing, name = _named_in(word, "model")
    if not isinstance(thing, type) and hasattr(thing, "parameters"):
        wanted = word.rpartition(":")[2]
        raise ReproError(f"{wanted} is a model itself; name its class, or a function that makes it")
    _models[name] = thing
    return name


def made(name: str):
    """Make the user's own model that ``model_in`` has loaded as ``name``.

    Raises ReproError if its file was not loaded in this process, or fails.
    """
    if name not in _models:
        raise ReproError(f"{name} is somebody's own model; name its file, --model FILE.py:NAME")
    called = without_hash(name)
    with users_code(f"the model {called}"), time_limit(f"the model {called}"):
        model = _models[name]()
    if model in _made:
        raise ReproError(f"{called} gives the same model twice; make a new one at each call")
    if hasattr(model, "parameters") and not isinstance(model, type):
        _made.add(model)
        lazy = [n for n, p in model.named_parameters() if hasattr(p, "materialize")]
        if lazy:
            raise ReproError(f"{called} has lazy layers ({lazy[0]}); give them their sizes")
    return model


def _named_in(word: str, kind: str) -> tuple[Callable, str]:
    """The object that ``word``, FILE.py:NAME, stands for, and its name with a hash.

    The hash is of the file and of the modules beside it that it imports.
    """
    file, _, wanted = word.rpartition(":")
    path = _existing(file, f"a {kind}")
    with users_code(str(path)), time_limit(str(path)):
        module, files = own_code.executed(path)
        source = own_code.source_of(files)
        thing = getattr(module, wanted, None)
        found = vars(module).items()
        mine = [n for n, v in found if getattr(v, "__module__", None) == module.__name__]
    if not callable(thing) or wanted.startswith("_"):
        one_of(kind, wanted, mine)
        raise ReproError(f"{wanted} in {file} is no {kind}")
    name = _name(wanted, f"{source}:{wanted}".encode())
    _sources[name] = source
    return thing, name


# Data


def dataset_in(file: str) -> str:
    """Load a dataset from FILE.npz, arrays ``train`` and ``test`` [n, ...]; return its name.

    Bytes are taken as k/255. Raises ReproError if the file holds anything else.
    """
    path = _existing(file, "a dataset")
    try:
        with np.load(path) as arrays:
            names = sorted(arrays)
            parts = {name: arrays[name] for name in LEAST if name in names}
    except Exception as error:
        raise ReproError(
            f"{file} cannot be read ({first_line(error)}); write it by np.savez"
        ) from None
    if parts.keys() != LEAST.keys():
        raise ReproError(f"{file} must hold two arrays, train and test; it holds {names}")
    as_bytes = any(map(_are_bytes, parts.values()))
    images = Images(*(_checked(name, file, array, as_bytes) for name, array in parts.items()))
    remarks = [f"{name} in {file} is ignored" for name in names if name not in LEAST]
    if as_bytes and max(images.train.max(), images.test.max()) > 1:
        raise ReproError(f"{file} has bytes in one array and larger numbers than 1 in the other")
    if as_bytes:
        remarks.append(f"the bytes in {file} are taken as k/255")
    images = images._replace(remarks=(*remarks, *_doubts(images, file)))
    content = images.train.tobytes() + images.test.tobytes()
    shapes = f"{images.train.shape} {images.test.shape}"
    name = _name(path.stem, content + shapes.encode())
    _images[name] = images
    return name


def _are_bytes(array: np.ndarray) -> bool:
    """True of bytes that are more than 0 and 1."""
    return array.dtype == np.uint8 and array.size > 0 and array.max() > 1


def _checked(name: str, file: str, array: np.ndarray, as_bytes: bool) -> np.ndarray:
    """The array in float32, bytes as k/255 if ``as_bytes``; ReproError if it cannot be images."""
    what = f"{name} in {file}"
    if array.dtype.kind not in "fiub":
        raise ReproError(f"{what} is of {array.dtype}; it must be of numbers")
    if array.ndim < 2 or not array.size:
        raise ReproError(f"{what} is {[*array.shape]}; it must be [n, ...], a row for each image")
    if len(array) < LEAST[name]:
        raise ReproError(f"{what} has {len(array)} images; {LEAST[name]} are the least")
    with np.errstate(over="ignore"):  # what is too large is not finite below
        numbers = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(numbers).all():
        raise ReproError(f"{what} has values that are not finite")
    return numbers / np.float32(255) if as_bytes and array.dtype == np.uint8 else numbers


def _doubts(images: Images, file: str) -> list[str]:
    """Remarks on images that may not be what their author means; ReproError if they cannot be."""
    train, test = images.train, images.test
    if train.shape[1:] != test.shape[1:]:
        shapes = f"train is {[*train.shape]} and test {[*test.shape]}"
        raise ReproError(f"{file}: {shapes}; images must have one shape")
    low, high = images.range
    if low == high:
        raise ReproError(f"{file}: every value is {low:g}")
    doubts = []
    if low >= 0 and high < TOO_SMALL:
        doubts.append(f"values in {file} go from {low:.2g} to {high:.2g}: divided twice?")
    if np.array_equal(train, test):
        doubts.append(f"train equals test in {file}: scores are of images that were trained on")
    return doubts


# First weights


def weights_in(folder: str) -> str:
    """Load the trained weights in a record's folder as initial weights; return their name."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(os.path.expanduser(folder)).absolute()
    try:
        content = (path / "model.safetensors").read_bytes()
        written = (path / "provenance.json").read_bytes()
        tensors = load(content)
    except (OSError, ValueError, SafetensorError) as error:  # a ValueError if it can be no path
        why = getattr(error, "strerror", error)
        raise ReproError(f"there is no record with weights in {folder} ({why})") from None
    if hashlib.sha256(content).hexdigest().encode() not in written:
        raise ReproError(f"the weights in {folder} are not as they were written; restore them")
    name = _name(path.name.split("-")[0], content)
    _weights[name] = tensors
    return name


# Files and names


def _existing(file: str, what: str) -> Path:
    path = Path(os.path.expanduser(file)).absolute()
    if not os.path.isfile(path):  # which is false of a name that is too long
        raise ReproError(f"there is no file {file} with {what}")
    return path


def _name(words: str, content: bytes) -> str:
    """A name for a folder: the user's words, and sixteen digits of its content's hash."""
    plain = re.sub("[^a-z0-9]+", "-", words.lower()).strip("-") or "own"
    return f"{plain}-{hashlib.sha256(content).hexdigest()[:16]}"
