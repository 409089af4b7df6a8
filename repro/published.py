"""The report's released weights and logs: fetch, load without running anything from the files, measure again.

They are at github.com/madhubabuv/TightIWAE, commit a03f441, under plotting_utils/. A file is trusted by its git blob id.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.data import verified_file
from repro.experiments import PROFILES, TABLE_METHODS, Experiment

URL = "https://raw.githubusercontent.com/madhubabuv/TightIWAE/a03f441/plotting_utils/"
BLOBS = {  # file -> git's name for it: sha1("blob <size>\\0" + bytes)
    "1_reference_model/log_CIVAE_beta0.5_repeat10.h5": "49f9a4e497b36ca4f6f7133ac6976658d256d04e",
    "1_reference_model/log_MIVAE_M1_k1_repeat10.h5": "3d62b234e577817a642f67727aa13e06693aca64",
    "1_reference_model/log_MIVAE_M1_k64_repeat10.h5": "88db56961a397d409019c4bbed1aec67e677a9c0",
    "1_reference_model/log_MIVAE_M8_k8_repeat10.h5": "217cfd82c02d22a8db1c592015abdda36697472c",
    "1_reference_model/log_PIWAE_M8_k8_repeat10.h5": "ca3b44cf6e7027ce54063ef8e0070eadc9353188",
    "1_reference_model/model_CIVAE_beta0.5_repeat10.pt": "0f59f9d23ff0ca363f15c527e88421ba5edb47df",
    "1_reference_model/model_MIVAE_M1_k1_repeat10.pt": "f4ccee16888e00a195a63012eb0da03bd6dc8b19",
    "1_reference_model/model_MIVAE_M1_k64_repeat10.pt": "fe8f06354a45a84d19ec56c0d9984f5fb2eb410c",
    "1_reference_model/model_MIVAE_M8_k8_repeat10.pt": "98ae2ae0ebfc4ad64920877287a27c4b0977f858",
    "1_reference_model/model_PIWAE_M8_k8_repeat10.pt": "b1fce7fec78fdff22376175e4cf03c6d5c4265a1",
    "2_bigger_model/log_CIVAE_beta0.5.h5": "9b62b15332d5b2ab68ddad6ca5980591e0ea9642",
    "2_bigger_model/log_MIVAE_M1_k1.h5": "004668436268a1dc2177383c82d9bed45987bfbd",
    "2_bigger_model/log_MIVAE_M1_k64.h5": "4ebec20be73514eccc0eb4e4bc561da1b009ee03",
    "2_bigger_model/log_MIVAE_M8_k8.h5": "3aebcc7f2ad3855ba7e5d66cf4716191c06ed934",
    "2_bigger_model/log_PIWAE_M8_k8.h5": "b9716fdb78529a677138f0bd4b561ae39acf6f5d",
    "2_bigger_model/model_CIVAE_beta0.5.pt": "8f42f37d91f3e0faad17ee7b873cf9cabe5d4f8c",
    "2_bigger_model/model_MIVAE_M1_k1.pt": "decaf7d208d28898499874f0b752c0d82085b0f7",
    "2_bigger_model/model_MIVAE_M1_k64.pt": "18e30a7267f067fffe2942919ed94388a1d25645",
    "2_bigger_model/model_MIVAE_M8_k8.pt": "6be4e39e4311b6501d0708a2e6800037dfce3f44",
    "2_bigger_model/model_PIWAE_M8_k8.pt": "2e3f3ce7f019f2b7ac857b0fd1a1c3be3536271b",
    "3_other_datasets/log_CIVAE_beta0.5_omniglot.h5": "5a5900339f57072e8b743f1a6050aac5fb1d87a6",
    "3_other_datasets/log_MIVAE_M1_k1_omniglot.h5": "9f3f657b0590389a2ca61867248d3e6c27db13c6",
    "3_other_datasets/log_MIVAE_M1_k64_omniglot.h5": "db935ae8c24a83edc9c37bd124f06c34a3c8ac0f",
    "3_other_datasets/log_MIVAE_M8_k8_omniglot.h5": "60c1c71e1eb1711bef911158dd885d3e3fe8879b",
    "3_other_datasets/log_PIWAE_M8_k8_omniglot.h5": "41d43e18b53f99a23c57db9f9c6b9f6938a0f362",
    "3_other_datasets/model_CIVAE_beta0.5_omniglot.pt": "985d911ca42e32a02cb408c5cc3fab4a96d5bd14",
    "3_other_datasets/model_MIVAE_M1_k1_omniglot.pt": "27535da3238459d1d946e5d0409f52a2b4361da6",
    "3_other_datasets/model_MIVAE_M1_k64_omniglot.pt": "b11913cddebe6a704944928365e58a359d355b3c",
    "3_other_datasets/model_MIVAE_M8_k8_omniglot.pt": "ece2d43b59d5f77ac050d83c65cec4c1d2ceee37",
    "3_other_datasets/model_PIWAE_M8_k8_omniglot.pt": "5817690183f5b183a29f4520dec92e68cdad6319",
}
GROUPS = {("mnist", "reference"): "1_reference_model", ("mnist", "larger"): "2_bigger_model", ("omniglot", "reference"): "3_other_datasets"}
BATCHES = {"iwae": 64, "piwae": 8, "miwae": 8, "ciwae": 1, "vae": 1}  # --k, of the commands that made them
STEMS = {"iwae": "MIVAE_M1_k64", "piwae": "PIWAE_M8_k8", "miwae": "MIVAE_M8_k8", "ciwae": "CIVAE_beta0.5", "vae": "MIVAE_M1_k1"}
SUFFIX = {"1_reference_model": "_repeat10", "2_bigger_model": "", "3_other_datasets": "_omniglot"}
LAYERS = {"fc11": "hidden1", "fc12": "hidden2", "fc21": "mu", "fc22": "sigma", "fc31": "hidden1", "fc32": "hidden2", "fc4": "logits"}


def experiments(omniglot: str = "omniglot-lake") -> list[Experiment]:
    """The fifteen released runs, under the names that the report gives them; ``omniglot``: the version they are measured on."""
    runs = []
    for dataset, model in GROUPS:
        dataset = omniglot if dataset == "omniglot" else dataset
        for method in TABLE_METHODS:
            M, K = {"iwae": (1, 64), "ciwae": (1, 64), "vae": (64, 1)}.get(method, (8, 8))
            beta = 0.5 if method == "ciwae" else None
            runs.append(Experiment(method, dataset, model, M, K, beta, 0, PROFILES["published"].epochs[dataset], "published"))
    return runs


def file_of(e: Experiment, kind: str) -> str:
    """The released file of a run: ``kind`` is model or log."""
    folder = GROUPS[e.dataset.split("-")[0], e.model]
    return f"{folder}/{kind}_{STEMS[e.method]}{SUFFIX[folder]}{'.pt' if kind == 'model' else '.h5'}"


def _read(e: Experiment, kind: str, folder: str | Path | None, parse):
    name = file_of(e, kind)
    group, file = name.split("/")

    def checked(path: Path):
        raw = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
        if found != BLOBS[name]:
            raise ValueError(f"its contents have {found}")
        return parse(raw)

    return verified_file(folder, f"published/{group}", file, f"{URL}{group}/logs/{file}", f"git blob id {BLOBS[name]}", checked)


def weights(e: Experiment, folder: str | Path | None = None) -> dict[str, Tensor]:
    """The released parameters of a run under our names, as ``Autoencoder.load_run_state`` takes them."""
    return _read(e, "model", folder, parameters)


def log(e: Experiment, folder: str | Path | None = None) -> dict[str, np.ndarray]:
    """What the released code wrote each epoch, in nats: ``iwae_64`` and ``log_px`` as it calls them, each [epochs].

    ``choice``: log p-hat of the first ``BATCHES`` shuffled batches of 20 test images, by which it chooses its best checkpoint.
    """
    import h5py

    names = {"iwae_64": "metrics_iwae_64", "log_px": "metrics_iwae_5000", "choice": "metrics_iwae_k"}

    def parse(raw: bytes) -> dict[str, np.ndarray]:
        with h5py.File(io.BytesIO(raw)) as file:
            return {ours: -file[theirs][:].astype(float) for ours, theirs in names.items()}

    return _read(e, "log", folder, parse)


BLOCK = 20  # epochs that the report averages for its tables


def log_blocks(runs: list[Experiment], folder: str | Path | None = None):
    """Means and standard deviations of blocks of 20 epochs of each run's log, as a pandas DataFrame.

    ``gap`` is the log's IWAE-64 minus its log p-hat. Of logs that are one epoch longer than the others the report's plots
    leave the last one out, and so does this.
    """
    import pandas as pd

    rows = []
    for e in runs:
        logged = log(e, folder)
        values = {name: logged[name][: e.epochs].reshape(-1, BLOCK) for name in ("iwae_64", "log_px")}
        values["gap"] = values["iwae_64"] - values["log_px"]
        for i in range(e.epochs // BLOCK):
            row = {"group": f"{e.dataset.split('-')[0]}-{e.model}", "method": e.method, "last_epoch": BLOCK * (i + 1)}
            rows.append(row | {f"{n}_mean": v[i].mean() for n, v in values.items()} | {f"{n}_sd": v[i].std(ddof=1) for n, v in values.items()})
    return pd.DataFrame(rows)


EARLY = (40, 100)  # epochs; 100 is the released code's default


def checkpoints(runs: list[Experiment], folder: str | Path | None = None):
    """How each run ended and when it saved the checkpoint that the released code calls its best, by its log: a pandas DataFrame.

    One row a run. Whether the log has a line too many, the mark of a training that was continued: its best was then chosen anew
    and is not told. The slope of log p-hat over the last eighth of the epochs, in nats per 1000 epochs, with its standard error.
    The epoch of the highest ``choice``, and log p-hat in the mean of the 20 epochs around it and of the last 20; the standard
    deviation of (choice - log p-hat) over the last 200; the highest of all epochs of each score, and of the choice's first ``EARLY``.
    """
    import pandas as pd
    from scipy.stats import linregress

    rows = []
    for e in runs:
        logged = log(e, folder)
        v = {name: values[: e.epochs] for name, values in logged.items()}
        continued, best, last = len(logged["choice"]) > e.epochs, int(v["choice"].argmax()), e.epochs // 8
        line = linregress(np.arange(last) / 1000, v["log_px"][-last:])
        row = {"group": f"{e.dataset.split('-')[0]}-{e.model}", "method": e.method, "epochs": e.epochs, "batches": BATCHES[e.method]}
        row |= {"continued": continued, "slope": line.slope, "slope_se": line.stderr, "best_epoch": None if continued else best + 1}
        there = v["log_px"][max(best - BLOCK // 2, 0) : best + BLOCK // 2].mean()
        row |= {"log_px_there": None if continued else there, "log_px_end": v["log_px"][-BLOCK:].mean()}
        row |= {"choice_sd": (v["choice"] - v["log_px"])[-200:].std(ddof=1)}
        row |= {f"highest_{name}": values.max() for name, values in v.items()}
        rows.append(row | {f"highest_choice_by_{n}": v["choice"][:n].max() for n in EARLY})
    return pd.DataFrame(rows).astype({"best_epoch": "Int64", "log_px_there": float})


def parameters(raw: bytes) -> dict[str, Tensor]:
    """The parameters in a file that torch 1.4 pickled whole. Nothing named in the file is imported or run.

    Raises ValueError where it names anything but the classes that such a model is made of.
    """
    file = io.BytesIO(raw)
    try:
        for _ in range(3):  # magic number, protocol, the writer's system
            _Inert(file).load()
        reader = _Inert(file)
        model = reader.load()
        for key in _Inert(file).load():
            storage = reader.storages[key]
            (size,) = np.frombuffer(file.read(8), "<i8")
            storage.copy_(torch.from_numpy(np.frombuffer(file.read(4 * size), "<f4").copy()))
    except (pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"no model of the report: {error}") from None
    named = {}
    for network in ("encoder", "decoder"):
        for theirs, layer in vars(model)["_modules"][network].__dict__["_modules"].items():
            for name, tensor in layer.__dict__["_parameters"].items():
                named[f"{network}.{LAYERS[theirs]}.{name}"] = tensor.clone()
    return named


class _Thing:
    """Stands for an object of any class that the files name; keeps what it is given and does nothing."""

    def __init__(self, *given):
        self.given = given


class _Inert(pickle.Unpickler):
    """Reads a pickle into ``_Thing`` and tensors; refuses every name but those in ``names``."""

    def __init__(self, file):
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Tensor] = {}
        modules = [("model", "VAE"), ("model", "Encoder"), ("model", "Decoder"), ("torch.nn.modules.linear", "Linear")]
        others = [("torch", "FloatStorage"), ("torch", "device"), ("torch", "Size"), ("torch.distributions.normal", "Normal")]
        self.names = dict.fromkeys(modules + others, _Thing) | {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *rest: storage.as_strided(size, stride, offset),
            ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
        }

    def find_class(self, module: str, name: str):
        """Only what ``names`` holds."""
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused")
        return self.names[module, name]

    def persistent_load(self, what):
        """A module's class, with its source that is ignored, or a storage to be filled later."""
        if what[0] == "module":
            return what[1]
        _, _, key, _, size, _ = what
        return self.storages.setdefault(key, torch.zeros(size))
