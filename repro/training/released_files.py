"""The report's released files: fetch them, and load weights without running anything from them.

They are at github.com/madhubabuv/TightIWAE, commit a03f441, under plotting_utils/. The table
``released_files.csv`` lists the files of each run. A file is trusted by its git blob id.
"""

import csv
import functools
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.datasets import check_hash, git_blob, verified_file
from repro.words.experiments import Experiment

URL = "https://raw.githubusercontent.com/madhubabuv/TightIWAE/a03f441/plotting_utils/"
LAYERS = {  # their name for a layer -> ours
    "fc11": "hidden1",
    "fc12": "hidden2",
    "fc21": "mu",
    "fc22": "sigma",
    "fc31": "hidden1",
    "fc32": "hidden2",
    "fc4": "logits",
}

CANNOT_BE_READ = (  # what a file raises that is no such model
    pickle.UnpicklingError, EOFError, LookupError, AttributeError, TypeError, RuntimeError,
)  # fmt: skip


@functools.cache
def _files() -> dict[tuple[str, str, str], tuple[str, str]]:
    """(setting, method, kind) -> file and its git blob id."""
    with open(Path(__file__).with_suffix(".csv"), newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    return {(r["setting"], r["method"], r["kind"]): (r["file"], r["blob"]) for r in rows}


def file_and_blob(e: Experiment, kind: str = "model") -> tuple[str, str]:
    """The name of the released file of experiment ``e``, and its git blob id.

    ``kind`` is "model", "best" (the checkpoint that the released code calls so) or "log".
    """
    return _files()[e.setting, e.method, kind]


def provenance_of_weights(e: Experiment) -> dict[str, str]:
    """The released file of the weights of ``e`` and its blob id, as provenance of a record."""
    return dict(zip(("file", "blob"), file_and_blob(e), strict=True))


def verified(
    e: Experiment, kind: str, folder: str | Path | None, parse: Callable[[bytes], Any]
) -> Any:
    """Read and verify the released file of ``e`` and ``kind``, and ``parse`` its contents."""
    name, blob = file_and_blob(e, kind)
    model_folder, file = name.split("/")

    def checked(path: Path):
        raw = path.read_bytes()
        check_hash(git_blob(raw), blob)
        return parse(raw)

    url = f"{URL}{model_folder}/logs/{file}"
    expected = f"git blob id {blob}"
    return verified_file(folder, f"published/{model_folder}", file, url, expected, checked)


def released_weights(
    e: Experiment, folder: str | Path | None = None, kind: str = "model"
) -> dict[str, Tensor]:
    """The released weights of experiment ``e``, as ``Autoencoder.load_run_state`` takes them."""
    return verified(e, kind, folder, parameters_in)


def parameters_in(raw: bytes) -> dict[str, Tensor]:
    """The parameters of a model that torch 1.4 pickled whole; no code that it names is executed.

    Raises ValueError if it names anything but the classes that such a model is made of.
    """
    try:
        model = _unpickled(io.BytesIO(raw))
    except CANNOT_BE_READ as error:
        raise ValueError(f"not a model of the report: {error}") from None
    named = {}
    for network in ("encoder", "decoder"):
        for theirs, layer in vars(model)["_modules"][network].__dict__["_modules"].items():
            for name, tensor in layer.__dict__["_parameters"].items():
                named[f"{network}.{LAYERS[theirs]}.{name}"] = tensor.clone()
    return named


def _unpickled(file: io.BytesIO) -> object:
    """The object in a legacy file of torch, its storages filled."""
    for _ in range(3):  # magic number, protocol, the writer's system
        _Inert(file).load()
    reader = _Inert(file)
    model = reader.load()
    for key in _Inert(file).load():
        storage = reader.storages[key]
        (size,) = np.frombuffer(file.read(8), "<i8")
        numbers = np.frombuffer(file.read(4 * size), "<f4").copy()
        storage.copy_(torch.from_numpy(numbers))
    return model


class _Thing:
    """A stand-in for an object of any class that the files name, with its arguments."""

    def __init__(self, *given):
        self.given = given


def _rebuild_tensor(storage, offset, size, stride, *rest):
    return storage.as_strided(size, stride, offset)


def _rebuild_parameter(data, *rest):
    return data


class _Inert(pickle.Unpickler):
    """Reads a pickle into ``_Thing`` and tensors; refuses every name but those in ``NAMES``."""

    NAMES: dict[tuple[str, str], object] = {  # noqa: RUF012  (never changed)
        ("model", "VAE"): _Thing,
        ("model", "Encoder"): _Thing,
        ("model", "Decoder"): _Thing,
        ("torch.nn.modules.linear", "Linear"): _Thing,
        ("torch", "FloatStorage"): _Thing,
        ("torch", "device"): _Thing,
        ("torch", "Size"): _Thing,
        ("torch.distributions.normal", "Normal"): _Thing,
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    }

    def __init__(self, file):
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str):
        """Find a name in ``NAMES`` only."""
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused")
        return self.NAMES[module, name]

    def persistent_load(self, what):
        """Return a module's class, whose source is ignored, or a storage to be filled later."""
        if what[0] == "module":
            return what[1]
        _, _, key, _, size, _ = what
        return self.storages.setdefault(key, torch.zeros(size))
