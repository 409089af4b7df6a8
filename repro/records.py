"""Results on disk: ``results/<profile>/<group>/<run>/``, written whole or not at all, checked when read.

A record holds ``config.json`` (the Experiment), ``curve.csv`` (a line per epoch), ``metrics.json`` (values with standard
errors), ``reconstructions.npz`` (the grid that figures draw), ``model.safetensors`` (the weights; may be left out) and
``provenance.json`` (commit, versions, device, data, and the SHA-256 of the other files), and ``images.npz`` (the metrics of
every test image). Where the weights are the report's, they are left out, as is the curve.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from repro import ReproError, __version__, experiments
from repro.bounds import METHODS
from repro.experiments import Experiment

METRICS = ("iwae_64", "log_px", "minus_kl", "elbo", "ssim", "ess", "active_units")
CURVE = ("epoch", "learning_rate", "loss", "iwae_64", "iwae_64_se", "log_px", "log_px_se", "beta")
PROVENANCE = ("commit", "dirty", "versions", "device", "seconds", "date", "data", "log_px_samples", "files")
CHANGES = "+changes"  # after a commit's hash: the code held changes that are not in it
FILES = ("config.json", "curve.csv", "metrics.json", "reconstructions.npz")


def root() -> Path:
    """The project's folder: the nearest one upwards that holds ``notebooks/train.ipynb``; else the current one."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "notebooks" / "train.ipynb").exists()), here)


def results_folder(given: str | Path | None = None) -> Path:
    """Where records are: as given, else ``REPRO_RESULTS_DIR``, else ``results`` in the project's folder."""
    return Path(given or os.environ.get("REPRO_RESULTS_DIR") or root() / "results")


@dataclass(frozen=True)
class Record:
    """A finished run, read from ``path``."""

    path: Path
    experiment: Experiment
    metrics: dict[str, dict[str, float]]
    provenance: dict

    @cached_property
    def curve(self):
        """One line per epoch, as a pandas DataFrame with the columns of ``CURVE``."""
        import pandas as pd

        return pd.read_csv(self.path / "curve.csv")

    @cached_property
    def reconstructions(self) -> tuple[np.ndarray, np.ndarray]:
        """Binary inputs and their reconstructions, both [64, 784]; the latter to the nearest 1/255."""
        with np.load(self.path / "reconstructions.npz") as grids:
            return grids["inputs"], grids["reconstructions"] / np.float32(255)

    @cached_property
    def reconstructions_elsewhere(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The same for the dataset it was not trained on (``data.ELSEWHERE``); None where it was not tested there."""
        with np.load(self.path / "reconstructions.npz") as grids:
            if "inputs_elsewhere" not in grids:
                return None
            return grids["inputs_elsewhere"], grids["reconstructions_elsewhere"] / np.float32(255)

    @cached_property
    def images(self) -> dict[str, np.ndarray]:
        """Metrics of every test image, each [n] in the order of the test set; empty where they were not kept."""
        if not (self.path / "images.npz").exists():
            return {}
        with np.load(self.path / "images.npz") as values:
            return {name: values[name].astype(float) for name in values}

    def weights(self) -> dict[str, Tensor]:
        """The trained parameters by name. Raises ReproError where the record was kept without them."""
        from safetensors.torch import load_file

        file = self.path / "model.safetensors"
        if not file.exists():
            if self.experiment.profile == "published":
                raise ReproError(
                    f"{self.path} is of the report's weights, which are not kept here; `python -m repro audit` fetches and measures them"
                )
            raise ReproError(f"{self.path} holds no weights; remove it and train again: {self.experiment.command}")
        return load_file(file)


def path_of(experiment: Experiment, results: str | Path | None = None) -> Path:
    """The folder of an experiment's record, there or not."""
    return results_folder(results) / experiment.profile / experiment.group / experiment.name


def exists(experiment: Experiment, results: str | Path | None = None) -> bool:
    """True where a whole record is in place."""
    return all((path_of(experiment, results) / f).exists() for f in (*FILES, "provenance.json"))


def write(
    experiment: Experiment,
    curve: list[dict],
    metrics: dict[str, dict[str, float]],
    grids: dict[str, Tensor],
    images: dict[str, np.ndarray] | None,
    weights: dict[str, Tensor] | None,
    provenance: dict,
    results: str | Path | None = None,
) -> Path:
    """Write a record under a temporary name and rename it when whole. A whole record is never replaced.

    ``grids``: inputs and reconstructions, and both again with ``_elsewhere``; ``images``: metrics of every test image, each [n].
    """
    from safetensors.torch import save_file

    path = path_of(experiment, results)
    if exists(experiment, results):
        raise ReproError(f"{path} exists and records are never replaced; remove it first to make it again")
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_json(partial / "config.json", experiment.as_dict())
    _write_json(partial / "metrics.json", metrics)
    with open(partial / "curve.csv", "w", newline="") as file:
        table = csv.DictWriter(file, CURVE, lineterminator="\n")
        table.writeheader()
        table.writerows(curve)
    grey = {name: np.round(grid.numpy() * (1 if name.startswith("inputs") else 255)).astype(np.uint8) for name, grid in grids.items()}
    np.savez_compressed(partial / "reconstructions.npz", **grey)
    if weights:
        save_file(weights, partial / "model.safetensors")
    if images:
        np.savez_compressed(partial / "images.npz", **{name: values.astype(np.float32) for name, values in images.items()})
    files = {p.name: _sha256(p) for p in sorted(partial.iterdir())}
    _write_json(partial / "provenance.json", provenance | {"files": files})
    shutil.rmtree(path, ignore_errors=True)  # what is there is not a whole record
    os.replace(partial, path)
    return path


class UnknownMethodError(ReproError):
    """A record is of a bound that is not in ``METHODS``, now."""


def read(path: str | Path) -> Record:
    """The record in ``path``, checked: every file there and unchanged, every field present, every number finite."""
    path, again = Path(path).resolve(), "train again"
    if not (path / "config.json").is_file():
        raise ReproError(f"there is no record in {path}; name the folder of one run, results/PROFILE/GROUP/RUN")
    try:
        experiment = Experiment(**_read_json(path / "config.json"))
        if experiment.method not in METHODS:
            raise UnknownMethodError(
                f"{path} is of a method '{experiment.method}' that repro/bounds.py does not have; put it back, or move the record away"
            )
        again = f"run: {experiment.command}"
        metrics, provenance = _read_json(path / "metrics.json"), _read_json(path / "provenance.json")
        wrong = _faults(path, experiment, metrics, provenance)
    except FileNotFoundError as error:
        raise ReproError(f"{path} is no whole record ({Path(error.filename).name} is missing); remove it and {again}") from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ReproError(f"{path} cannot be read ({type(error).__name__}: {error}); remove it and {again}") from None
    if wrong:
        raise ReproError(f"{path} is not as it was written ({wrong}); restore it, or remove it and {again}")
    return Record(path, experiment, metrics, provenance)


def _faults(path: Path, experiment: Experiment, metrics: dict, provenance: dict) -> str:
    """What is wrong with a record, or an empty string."""
    missing = [k for k in METRICS if k not in metrics] + [k for k in PROVENANCE if k not in provenance]
    if missing:
        return f"no {missing[0]}"
    if (path.parent.parent.name, path.parent.name, path.name) != (experiment.profile, experiment.group, experiment.name):
        return f"it is the record of {experiment.profile}/{experiment.group}/{experiment.name}"
    if not all(math.isfinite(m[k]) for m in metrics.values() for k in ("value", "se")):
        return "a metric is not finite"
    if not {*FILES} <= {*provenance["files"]}:
        return "a file has no hash"
    for name, sha256 in provenance["files"].items():
        there = (path / name).exists()
        if not there and name != "model.safetensors":
            return f"{name} is missing"
        if there and _sha256(path / name) != sha256:
            return f"{name} has changed"
    with open(path / "curve.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    trained = experiments.PROFILES[experiment.profile].trained_here
    if [line["epoch"] for line in lines] != [str(i + 1) for i in range(experiment.epochs if trained else 0)]:
        return f"curve.csv does not have {experiment.epochs} epochs"
    if not all(math.isfinite(float(line[k])) for line in lines for k in ("loss", "iwae_64", "iwae_64_se")):
        return "a number in curve.csv is not finite"
    return ""


def get(experiment: Experiment, results: str | Path | None = None) -> Record:
    """An experiment's record. Raises ReproError with the command that makes it where there is none."""
    if not exists(experiment, results):
        raise ReproError(f"no record of {path_of(experiment, results)}; make it with: {experiment.command}")
    return read(path_of(experiment, results))


def read_all(profile: str, results: str | Path | None = None) -> list[Record]:
    """Every record of a profile, in order of their paths; with a warning, not those of methods that are not there now."""
    folder, found = results_folder(results) / profile, []
    for path in sorted(folder.glob("*/*/config.json")):
        try:
            found += [] if path.parent.name.endswith(".partial") else [read(path.parent)]
        except UnknownMethodError as left_out:
            warnings.warn(str(left_out), stacklevel=2)
    return found


def released(results: str | Path | None = None) -> dict[tuple[str, str, str], Record]:
    """The report's released weights, measured again, by dataset, model and method.

    Omniglot goes by that name whichever version the weights were measured on: the one with more records, Burda's before Lake's.
    """
    found = read_all("published", results)
    versions = [r.experiment.dataset for r in found if r.experiment.dataset.startswith("omniglot")]
    version = max(("omniglot", "omniglot-lake"), key=versions.count)
    of_version = (r for r in found if r.experiment.dataset in ("mnist", version))
    return {(r.experiment.dataset.split("-")[0], r.experiment.model, r.experiment.method): r for r in of_version}


def omniglot_of(runs: Iterable[Record]) -> str:
    """The version of Omniglot that these records were trained on, or measured on; the one that can be had everywhere where none was."""
    return next((r.experiment.dataset for r in runs if r.experiment.dataset.startswith("omniglot")), experiments.OMNIGLOT)


def released_in(exhibit: str, results: str | Path | None = None) -> list[Record]:
    """The records of the report's weights that an exhibit shows; Figure 4's were not released."""
    wanted = [] if exhibit == "figure4" else experiments.exhibit(exhibit, "short")
    found = released(results)
    keys = [(e.dataset.split("-")[0], e.model, e.method) for e in wanted]
    return [found[k] for k in keys if k in found]


def shown(exhibit: str, profile: str = "best", results: str | Path | None = None) -> tuple[list[Record], list[Experiment]]:
    """The records that an exhibit shows, of every seed, and the experiments that it still wants.

    All are of one profile and of one version of Omniglot; ``best`` is the profile with most of the wanted runs, full before
    short. Of one dataset and model, all are of one length of training: the longest with half
    of the wanted runs, else the one with most; what is missing is wanted at that length.
    """
    names = ("full", "short") if profile == "best" else (experiments.profile(profile).name,)
    candidates = [_shown(exhibit, name, version, results) for name in reversed(names) for version in (experiments.OMNIGLOT, "omniglot")]
    most = max(len(wanted) - len(missing) for wanted, _, missing in candidates)
    best = [c for c in candidates if len(c[0]) - len(c[2]) == most]
    _, used, missing = best[0] if most == 0 else max(best, key=lambda c: c[0][0].profile == names[0])
    return used, missing


def _shown(exhibit: str, profile: str, omniglot: str, results) -> tuple[list[Experiment], list[Record], list[Experiment]]:
    """Of one profile and version of Omniglot: what is wanted, what there is of it, what is missing."""
    wanted, used, missing = experiments.exhibit(exhibit, profile, omniglot), [], []
    found = [r for r in read_all(profile, results) if _serves(exhibit, r)]
    for group in dict.fromkeys(e.group for e in wanted):
        runs = [e for e in wanted if e.group == group]
        runs = experiments.with_epochs(runs, runs[0].epochs if exhibit == "figure4" else _length(runs, found))
        used += [r for e in runs for r in of_any_seed(e, found)]
        missing += [e for e in runs if not of_any_seed(e, found)]
    return wanted, used, missing


def _serves(exhibit: str, record: Record) -> bool:
    """Whether a record has what an exhibit draws: Table 2 and Figure 7 want it tested on the other dataset too."""
    return exhibit not in ("table2", "figure7") or any(name.startswith("ssim_on_") for name in record.metrics)


def _length(wanted: list[Experiment], found: list[Record]) -> int:
    """The longest length of training with half of the wanted runs, else the one with most; the profile's where there is none."""
    counts = {n: sum(bool(of_any_seed(e, found)) for e in experiments.with_epochs(wanted, n)) for n in {r.experiment.epochs for r in found}}
    most = min(max(counts.values(), default=0), (len(wanted) + 1) // 2)
    return max(n for n in counts if counts[n] >= most) if most else wanted[0].epochs


def of_any_seed(wanted: Experiment, found: list[Record]) -> list[Record]:
    """The records that are of this experiment but for the seed."""
    return [r for r in found if replace(r.experiment, seed=wanted.seed) == wanted]


def write_table(name: str, table, origin: dict, results: str | Path | None = None, numbers: str = "%.5f") -> Path:
    """A pandas DataFrame as ``results/published/<name>.csv``, and where it comes from, with its SHA-256, as ``<name>.json``.

    ``numbers`` formats them.
    """
    path = results_folder(results) / "published" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    table.to_csv(partial, index=False, float_format=numbers, lineterminator="\n")
    _write_json(path.with_suffix(".json"), origin | {"files": {path.name: _sha256(partial)}})
    os.replace(partial, path)
    return path


def read_table(name: str, results: str | Path | None = None):
    """``write_table``'s DataFrame and provenance, checked. Raises ReproError where it is not there or not as it was written."""
    import pandas as pd

    path, again = results_folder(results) / "published" / f"{name}.csv", f"python -m repro {MADE_BY.get(name, name)}"
    if not path.exists():
        raise ReproError(f"there is no {path}; make it with: {again}")
    try:
        origin = _read_json(path.with_suffix(".json"))
        if origin["files"][path.name] == _sha256(path):
            return pd.read_csv(path), origin
    except (FileNotFoundError, ValueError, KeyError):
        pass
    raise ReproError(f"{path} is not as it was written; restore it, or remove it and run: {again}")


# tables beside the records, and the command that makes each
MADE_BY = {"logs": "audit", "checkpoints": "audit", "drawers": "audit", "gradients": "gradients"}


def provenance() -> dict:
    """Where numbers come from: the code's commit and state, versions, and today's date.

    ``REPRO_COMMIT`` names the commit of a copy that has left its git folder behind; whoever sets it vouches that nothing was changed.
    """
    import torch

    versions = {"repro": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    if named := os.environ.get("REPRO_COMMIT"):
        if not re.fullmatch("[0-9a-f]{40}", named):
            raise ReproError(f"REPRO_COMMIT is '{named}'; give all 40 digits that `git rev-parse HEAD` prints")
        return {"commit": named, "dirty": False, "commit_from": "REPRO_COMMIT", "versions": versions, "date": date}

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", Path(__file__).parent, *words], capture_output=True, text=True)
        except OSError:  # no git here
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no", "--", str(Path(__file__).parent))
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes), "versions": versions, "date": date}


def device_name(device) -> str:
    """The processor's name, with the number of threads on a CPU."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
