"""Results on disk: written whole or not at all, checked when read, never replaced.

An ``Archive`` is a folder of records, ``<profile>/<setting>/<run>/``, and of tables beside them. A
run is one training, a setting is a dataset with a model, and a profile says how long runs are. An
exhibit is a table or figure of the report. A record holds

- ``config.json``: the ``Experiment``;
- ``curve.csv``: a line for each epoch;
- ``metrics.json``: values on the test set with their standard errors;
- ``images.npz``: the metrics of every test image;
- ``reconstructions.npz``: the images that figures draw;
- ``model.safetensors``: the weights, which may be left out;
- ``provenance.json``: commit, versions, device, data, and the SHA-256 of the other files.

Records of the report's own weights have neither weights nor a curve.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from itertools import chain, product
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from repro import ReproError, as_path, first_line, in_short, one_of, own, plural
from repro.bounds import METHODS
from repro.catalogue import OMNIGLOT, picture_shape
from repro.records.schema import (
    FILES,
    FILES_OF_RECORDS,
    GRADIENTS,
    IMAGES,
    OWN_BOUND,
    OWN_MODEL,
    WEIGHTS,
    Provenance,
    are_metrics,
    fault_of_provenance,
)
from repro.words import exhibits
from repro.words.experiments import (
    PRECISIONS,
    PROFILES,
    WORDS,
    Experiment,
    experiment_in,
    is_evaluated,
    profiles_of,
    with_epochs,
)

METRICS = ("iwae_64", "log_px", "minus_kl", "elbo", "ssim", "ess", "active_units")
METRICS_OF_ALL = ("iwae_64", "log_px", "minus_kl", "elbo", "ess")  # those of one's own, too
# Of a curve. Log p-hat is of ``log_px_images`` test images, and beside it is IWAE-64 of the same
# ones; both are empty where log p-hat is of all of them.
CURVE = (
    "epoch",
    "learning_rate",
    "loss",
    "iwae_64",
    "iwae_64_se",
    "log_px",
    "log_px_se",
    "log_px_images",
    "iwae_64_same_images",
    "beta",
)

# Tables beside the records, and the command that makes each if it is not called so.
OF_AUDIT = ("logs", "checkpoints", "drawers", "figure4", "best", "proposals")
OF_GRADIENTS = ("estimators", "samples", "looser", "wake", "most")
MADE_BY = dict.fromkeys(OF_AUDIT, "audit") | dict.fromkeys(OF_GRADIENTS, "gradients")
SETTING_COLUMN = "group"  # of committed tables, read as ``setting``
PAIR = {"inputs", "reconstructions"}  # images that figures draw


def root() -> Path:
    """The project's folder: the nearest one upwards with the training notebook, else this one."""
    here = Path.cwd()
    above = (p for p in (here, *here.parents) if (p / "notebooks" / "train.ipynb").exists())
    return next(above, here)


def results_folder(given: str | Path | None = None) -> Path:
    """The folder of records: ``given``, else ``REPRO_RESULTS_DIR``, else the project's ``results``.

    Raises ReproError if that can be no folder.
    """
    if given is None:
        given = os.environ.get("REPRO_RESULTS_DIR") or root() / "results"
    folder = as_path("results", given)
    if folder.exists() and not folder.is_dir():
        raise ReproError(f"results '{given}' is a file; name a folder")
    return folder


@dataclass(frozen=True)
class Record:
    """The results of a finished run, read from the folder ``path``."""

    path: Path
    experiment: Experiment
    metrics: dict[str, dict[str, float]]
    provenance: Provenance

    @property
    def is_tested_elsewhere(self) -> bool:
        """True if SSIM was measured on the dataset that the run was not trained on, too."""
        return any(name.startswith("ssim_on_") for name in self.metrics)

    @cached_property
    def curve(self):
        """The learning curve, a DataFrame with a row for each epoch and columns ``CURVE``."""
        import pandas as pd

        return pd.read_csv(self.path / "curve.csv").reindex(columns=list(CURVE))

    @cached_property
    def gradients(self):
        """Rows of ``signal.row``, gradients at the milestones of training; None if not measured.

        A milestone is an epoch that ends a stage of the learning rate.
        """
        import pandas as pd

        file = self.path / GRADIENTS
        return pd.read_csv(file) if file.exists() else None

    @cached_property
    def reconstructions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Binary inputs and their reconstructions, both [64, 784], the latter in steps of 1/255.

        Those of a user's own data have its shape, and inputs may be grey; None if there are none.
        """
        return self._pair("")

    @cached_property
    def reconstructions_elsewhere(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The same for the dataset that the run was not trained on; None if it was not tested."""
        return self._pair("_elsewhere")

    def _pair(self, ending: str) -> tuple[np.ndarray, np.ndarray] | None:
        grids = self._grids
        if f"inputs{ending}" not in grids:
            return None
        inputs = grids[f"inputs{ending}"]
        if inputs.max(initial=0) > 1:  # they are not binary
            inputs = inputs / np.float32(255)
        return inputs, grids[f"reconstructions{ending}"] / np.float32(255)

    @cached_property
    def _grids(self) -> dict[str, np.ndarray]:
        file = self.path / "reconstructions.npz"
        grids = _arrays_in(file)
        if not grids:  # of images that are no pictures, or a model without reconstructions
            return grids
        whole = grids.keys() in (PAIR, PAIR | {f"{name}_elsewhere" for name in PAIR})
        kinds = {grid.dtype for grid in grids.values()}
        shapes = {grids[name].shape for name in PAIR if name in grids}
        pictures = all(picture_shape(shape[1:]) for shape in shapes)
        if not whole or kinds != {np.dtype(np.uint8)} or len(shapes) != 1 or not pictures:
            raise ReproError(f"{file} does not hold pairs of images as bytes; train again")
        return grids

    @cached_property
    def images(self) -> dict[str, np.ndarray]:
        """Scores of every test image by metric, each [n] in the test set's order; may be empty."""
        file = self.path / IMAGES
        if not file.exists():
            return {}
        values = _arrays_in(file)
        shapes = {v.shape for v in values.values()}
        numbers = all(v.dtype == np.float32 and v.ndim == 1 for v in values.values())
        if not numbers or len(shapes) != 1:
            raise ReproError(f"{file} does not hold a number for each image; train again")
        return {name: array.astype(float) for name, array in values.items()}

    def as_of(self, epoch: int) -> Record:
        """The record as it was after ``epoch`` epochs: IWAE-64 from its curve, and no images."""
        line = self.curve.set_index("epoch").loc[epoch]
        bound = {"value": float(line.iwae_64), "se": float(line.iwae_64_se)}
        then = replace(self.experiment, epochs=epoch)
        return self.measured_as({}, experiment=then, metrics={"iwae_64": bound})

    def measured_as(self, images: dict[str, np.ndarray], **fields) -> Record:
        """The record with other ``fields`` and scores of single ``images``, which no file has."""
        other = replace(self, **fields)
        other.__dict__["images"] = images  # where the cached property keeps them
        return other

    def weights(self) -> dict:
        """Load the trained parameters by name; ReproError if the record was kept without them."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.path / WEIGHTS
        if file.exists():
            try:
                return load_file(file)
            except (SafetensorError, OSError) as error:
                raise ReproError(f"{file} holds no weights ({error}); train again") from None
        if self.experiment.profile == "published":
            raise ReproError(
                f"{self.path} is of the report's weights, which are not kept here; "
                "`python -m repro audit` fetches and measures them"
            )
        raise ReproError(
            f"{self.path} holds no weights; train again: {self.experiment.command} "
            "--results ELSEWHERE"
        )


IDENTITY = ("run", "setting", "setting_folder", *WORDS, "device", "commit")  # tells records apart


def _identity(record: Record) -> dict[str, object]:
    e = record.experiment
    names = {"run": e.folder, "setting": e.setting, "setting_folder": e.setting_folder}
    words = asdict(e) | {"beta": math.nan if e.beta is None else e.beta}
    return names | words | {name: getattr(record.provenance, name) for name in ("device", "commit")}


def frame_of(found: Iterable[Record]):
    """Make a tidy DataFrame of records, a row for each: see ``Archive.frame``."""
    import pandas as pd

    rows = []
    for record in found:
        row = _identity(record)
        for name, metric in record.metrics.items():
            row |= {name: metric["value"], f"{name}_se": metric["se"]}
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else [*IDENTITY, *METRICS])


NOW = {name: f"{name}_now" for name in ("beta", "learning_rate")}  # at an epoch; words at the start


def curves_of(found: Iterable[Record]):
    """Make a tidy DataFrame of the epochs of records, a row for each: see ``Archive.curves``."""
    import pandas as pd

    trained = [record for record in found if len(record.curve)]
    whose = frame_of(trained)[[*IDENTITY]]
    if not trained:
        return whose.reindex(columns=[*IDENTITY, *(NOW.get(name, name) for name in CURVE)])
    epochs = pd.concat([record.curve.assign(run=record.experiment.folder) for record in trained])
    return whose.merge(epochs.rename(columns=NOW), on="run")


class Selection(NamedTuple):
    """The records, of all seeds, that a table or figure shows, and the runs that have no record."""

    used: list[Record]
    missing: list[Experiment]

    @property
    def wanted(self) -> list[Experiment]:
        """Every run that the table or figure shows or still lacks."""
        return [*(r.experiment for r in self.used), *self.missing]

    @property
    def profile(self) -> str:
        """The names of the runs' profiles in words: "full", or "full and short"."""
        return " and ".join(dict.fromkeys(e.profile for e in self.wanted))


class Archive:
    """A folder of records and tables; a record is read and verified once, till its files change."""

    def __init__(self, folder: str | Path | None = None):
        self.folder = results_folder(folder)
        self._listed: dict[str, list[Record]] = {}
        self._selected: dict[tuple[str, str], Selection] = {}

    @classmethod
    def of(cls, given: Archive | str | Path | None) -> Archive:
        """Return an archive as it is, or open the one in a folder; None is the project's own."""
        return given if isinstance(given, Archive) else cls(given)

    @property
    def as_option(self) -> str:
        """The end of a command that is to write here: nothing if it would anyway."""
        usual = self.folder.resolve() == results_folder().resolve()
        return "" if usual else f" --results {shlex.quote(str(self.folder))}"

    # Records

    def path_of(self, experiment: Experiment) -> Path:
        """The folder of an experiment's record, which need not exist."""
        return self.folder / experiment.folder

    def holds(self, experiment: Experiment) -> bool:
        """True if there is a complete record of ``experiment``."""
        return _is_whole(self.path_of(experiment))

    def check_place(self, experiment: Experiment) -> None:
        """Raise ReproError if a file or link is in the place of the experiment's record."""
        path = self.path_of(experiment)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ReproError(
                f"{path} is a file or a link where a record's folder belongs; move it away"
            )

    def get(self, experiment: Experiment) -> Record:
        """Read an experiment's record; without one, ReproError names the command that makes it."""
        path = self.path_of(experiment)
        if not self.holds(experiment):
            raise ReproError(
                f"no record of {path}; make it with: {experiment.command}{self.as_option}"
            )
        return self.read(path)

    def read(self, path: Path) -> Record:
        """Read and verify the record in one of the archive's folders; later calls use a cache."""
        try:
            stamps = _stamps(path)
        except OSError:  # of a dangling link, say, with which the record may still be whole
            return read(path)
        return _read_once(path, stamps)

    def records(self, profile: str) -> list[Record]:
        """Every record of a profile, in the order of their paths; later calls use a cache.

        A record is left out, with a warning, if it cannot be read, is not as it was written, or is
        of a method that does not exist now.
        """
        if profile not in self._listed:
            found = []
            for path in self.folders(profile):
                try:
                    found.append(self.read(path))
                except ReproError as left_out:
                    warnings.warn(f"left out: {left_out}", stacklevel=2)
            self._listed[profile] = found
        return list(self._listed[profile])

    def folders(self, profile: str) -> list[Path]:
        """The folders of a profile's records, complete or damaged, in order."""
        found = {file.parent for file in (self.folder / profile).glob("*/*/*.json")}
        return sorted(folder for folder in found if folder.suffix != ".partial")

    def frame(self, *profiles: str):
        """A DataFrame with a row for each record of some profiles, or of all; records are verified.

        Columns: ``run``, the record's folder; the fields of an ``Experiment`` (method, dataset,
        model, M, K, beta at the start, seed, epochs, profile, ..., estimator, decoder); setting,
        setting_folder, device and commit; each metric, and its standard error over the test images
        as ``<metric>_se``. Bounds, ``log_px`` and ``minus_kl`` are in nats. A record that is not as
        it was written is left out, with a warning.

        >>> full = Archive("results").frame("full")
        >>> of_vae = full.query("method == 'vae' and seed == 0").set_index("setting")
        >>> of_vae.iwae_64.round(1).to_dict()
        {'mnist-reference': -89.8, 'omniglot-reference': -111.3}
        """
        return frame_of(self.of_profiles(*profiles))

    def curves(self, *profiles: str):
        """A DataFrame with a row for each epoch of each record of some profiles, or of all.

        Columns: those of ``frame`` but the metrics, and those of ``CURVE``, of which beta
        and the learning rate at that epoch are ``beta_now`` and ``learning_rate_now``. Losses,
        bounds and ``log_px`` are in nats, errors are over the test images.

        >>> curves = Archive("results").curves("full")
        >>> of_vae = curves.query("method == 'vae' and seed == 0 and epoch == epochs")
        >>> of_vae.set_index("setting").log_px.round(1).to_dict()
        {'mnist-reference': -89.2, 'omniglot-reference': -110.3}
        """
        return curves_of(self.of_profiles(*profiles))

    def of_profiles(self, *names: str) -> list[Record]:
        """Every record of some profiles, or of all."""
        known = [one_of("profile", name, PROFILES) for name in names or PROFILES]
        return [record for name in known for record in self.records(name)]

    def write(
        self,
        experiment: Experiment,
        curve: list[dict],
        metrics: dict[str, dict[str, float]],
        grids: Mapping,
        images: dict[str, np.ndarray] | None,
        weights: dict | None,
        provenance: Provenance,
    ) -> Path:
        """Write a record under a temporary name and rename it when it is whole.

        A line of the curve may have ``gradients``, as ``signal.row``. ``grids`` holds inputs and
        reconstructions, and both again with ``_elsewhere``, as tensors; ``images`` the metrics of
        every test image, each [n]. A whole record is never replaced.
        """
        path = self.path_of(experiment)
        if self.holds(experiment):
            raise _exists(path)
        numbers = [number for metric in metrics.values() for number in metric.values()]
        if not all(map(math.isfinite, numbers)):
            raise ReproError(f"a score of {experiment.name} is not finite, so it has no record")

        def fill(folder: Path) -> None:
            _write_texts(folder, experiment, metrics, curve)
            _write_arrays(folder, grids, images, weights)
            files = {p.name: _sha256(p) for p in sorted(folder.iterdir())}
            facts = replace(provenance, files=files).as_dict()
            _write_json(folder / "provenance.json", facts)

        _write_folder(path, fill)
        self._listed.clear()
        self._selected.clear()
        self.__dict__.pop("released", None)
        return path

    # Records of exhibits

    @cached_property
    def released(self) -> dict[tuple[str, str, str], Record]:
        """Records of the report's released weights by (family of dataset, model, method).

        Of Omniglot, the version with more records is taken; of two as good, Burda's.
        """
        found = self.records("published")
        versions = [r.experiment.dataset for r in found if r.experiment.family == "omniglot"]
        version = max(("omniglot", "omniglot-lake"), key=versions.count)
        of_version = [r for r in found if r.experiment.dataset in ("mnist", version)]
        keys = [(r.experiment.family, r.experiment.model, r.experiment.method) for r in of_version]
        return dict(zip(keys, of_version, strict=True))

    def released_of(self, family: str, model: str) -> list[Record]:
        """The records of the report's released weights of one family of dataset and one model."""
        return [r for key, r in self.released.items() if key[:2] == (family, model)]

    def released_in(self, exhibit: str) -> list[Record]:
        """The records of the report's released weights that a table or figure shows."""
        if exhibit == "figure4":
            return []
        keys = [(e.family, e.model, e.method) for e in exhibits.runs_of(exhibit, "short")]
        return [self.released[k] for k in keys if k in self.released]

    def select(self, exhibit: str, profile: str = "best") -> Selection:
        """Select the records that a table or figure shows, of all seeds, and name missing runs.

        In one setting, all are of one profile, one version of Omniglot, one precision and one
        length of training: the longest with half of the wanted runs, else the one with most.
        ``best`` is the profile with most of the wanted runs; of two as good, full. A missing run is
        wanted at that length. The archive is searched once, and again after a ``write``.

        >>> import tempfile
        >>> selection = Archive(tempfile.mkdtemp()).select("figure1", "short")
        >>> len(selection.used), len(selection.missing)
        (0, 5)
        """
        key = (exhibit, profile)
        if key not in self._selected:
            names = profiles_of(profile)
            settings = dict.fromkeys(e.setting for e in exhibits.runs_of(exhibit, names[0]))
            parts = [self._select(exhibit, setting, names) for setting in settings]
            used = [record for part in parts for record in part.used]
            missing = [e for part in parts for e in part.missing]
            self._selected[key] = Selection(used, missing)
        return self._selected[key]

    def _select(self, exhibit: str, setting: str, names: Sequence[str]) -> Selection:
        """Select what an exhibit shows of one setting, in the best of some profiles."""
        candidates = []
        for name in names:
            found = [r for r in self.records(name) if r.experiment.setting == setting]
            if exhibit in ("table2", "figure7"):
                found = [r for r in found if r.is_tested_elsewhere]
            versions = _in_use((OMNIGLOT, "omniglot"), [r.experiment.dataset for r in found])
            precisions = _in_use(PRECISIONS, [r.experiment.precision for r in found])
            for version, precision in product(versions, precisions):
                runs = exhibits.runs_of(exhibit, name, version)
                wanted = [replace(e, precision=precision) for e in runs if e.setting == setting]
                if exhibit != "figure4":
                    wanted = with_epochs(wanted, _length(wanted, found))
                of_each = [records_of_any_seed(e, found) for e in wanted]
                missing = [e for e, runs in zip(wanted, of_each, strict=True) if not runs]
                candidates.append(Selection([*chain.from_iterable(of_each)], missing))

        def merit(candidate: Selection) -> tuple[int, bool]:
            of_last = bool(candidate.used) and candidate.profile == names[-1]
            return -len(candidate.missing), of_last

        return max(candidates, key=merit)

    # Tables beside the records

    def table_path(self, name: str) -> Path:
        """The CSV file of the table ``name``."""
        return self.folder / "published" / f"{name}.csv"

    def arrays_path(self, name: str) -> Path:
        """The NPZ file of the arrays called ``name``, which belong to no single record."""
        return self.folder / "published" / f"{name}.npz"

    def write_table(self, name: str, table, provenance: dict, numbers: str = "%.5f") -> Path:
        """Write a DataFrame, its ``numbers`` formatted, and its provenance beside it."""
        as_kept = table.rename(columns={"setting": SETTING_COLUMN})
        write = partial(as_kept.to_csv, index=False, float_format=numbers, lineterminator="\n")
        return _write_beside(self.table_path(name), write, provenance)

    def table(self, name: str):
        """Read the DataFrame of ``write_table`` and its provenance, and verify them."""
        import pandas as pd

        path = self.table_path(name)
        provenance = self._verified_provenance(path, name)
        return pd.read_csv(path).rename(columns={SETTING_COLUMN: "setting"}), provenance

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray], provenance: dict) -> Path:
        """Write arrays by name to one file, and their provenance beside it."""
        path = self.arrays_path(name)
        return _write_beside(path, lambda f: np.savez_compressed(f, **arrays), provenance)

    def arrays(self, name: str) -> tuple[dict[str, np.ndarray], dict]:
        """Read the arrays of ``write_arrays`` and their provenance, and verify them."""
        path = self.arrays_path(name)
        provenance = self._verified_provenance(path, name)
        return _arrays_in(path), provenance

    def _verified_provenance(self, path: Path, name: str) -> dict:
        """Read the provenance of a table or arrays, as they were written, or ReproError."""
        study = name.split("/")[0]
        command = f"python -m repro {MADE_BY.get(study, study)}"
        if not path.exists():
            raise ReproError(f"there is no {path}; make it with: {command}{self.as_option}")
        try:
            provenance = _read_json(path.with_suffix(".json"))
            if provenance["files"][path.name] == _sha256(path):
                return provenance
        except Exception:  # whatever a file may raise that is not as this project writes it
            pass
        raise ReproError(
            f"{path} is not as it was written; restore it, or run: {command} --results ELSEWHERE"
        )


def _write_beside(path: Path, write: Callable[[IO[bytes]], None], provenance: dict) -> Path:
    """Let ``write`` write a file, and write its provenance beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    with open(unfinished, "wb") as file:
        write(file)
    files = {path.name: _sha256(unfinished)}
    _write_json(path.with_suffix(".json"), provenance | {"files": files})
    os.replace(unfinished, path)
    return path


def _in_use(known: Iterable[str], found: Sequence[str]) -> list[str]:
    """The first of the known names, which is the usual one, and those that are found."""
    usual, *others = known
    return [usual, *(name for name in others if name in found)]


def _length(wanted: list[Experiment], found: list[Record]) -> int:
    """The longest training of half of the wanted runs, else that of most, else the profile's."""
    counts = {}
    for epochs in {r.experiment.epochs for r in found}:
        runs = with_epochs(wanted, epochs)
        counts[epochs] = len([e for e in runs if records_of_any_seed(e, found)])
    enough = min(max(counts.values(), default=0), (len(wanted) + 1) // 2)
    if not enough:
        return wanted[0].epochs
    return max(epochs for epochs, count in counts.items() if count >= enough)


def records_of_any_seed(wanted: Experiment, found: Iterable[Record]) -> list[Record]:
    """The records in ``found`` that differ from the experiment ``wanted`` in the seed at most."""
    sought = vars(wanted) | {"seed": None}
    return [r for r in found if vars(r.experiment) | {"seed": None} == sought]


def omniglot_of(records: Iterable[Record]) -> str:
    """The version of Omniglot that ``records`` are of; if there are none, Lake's."""
    versions = (r.experiment.dataset for r in records if r.experiment.family == "omniglot")
    return next(versions, OMNIGLOT)


def read(path: str | Path) -> Record:
    """Read the record in ``path``, and verify its files, fields and numbers."""
    path = Path(os.path.abspath(path))  # a link is not the folder that its record names
    if not any((path / name).is_file() for name in ("config.json", "provenance.json")):
        raise ReproError(
            f"there is no record in {path}; name the folder of one run, results/PROFILE/GROUP/RUN"
        )
    again = "train again with --results ELSEWHERE"
    try:
        experiment = _experiment_in(path)
        again = f"run: {experiment.command} --results ELSEWHERE"
        metrics = _read_json(path / "metrics.json")
        facts = _read_json(path / "provenance.json")
        fault = _fault(path, experiment, metrics, facts)
    except ReproError:
        raise
    except FileNotFoundError as error:
        fault = f"is not a whole record ({Path(error.filename).name} is missing)"
    except Exception as error:  # whatever files may raise that are not as this project writes them
        fault = f"cannot be read ({in_short(error)})"
    else:
        if not fault:
            own.keep_text(experiment.method, path / OWN_BOUND)
            own.keep_text(experiment.model, path / OWN_MODEL)
            return Record(path, experiment, metrics, Provenance(**facts))
        fault = f"is not as it was written ({fault})"
    raise ReproError(f"{path} {fault}; restore it, or {again}")


@cache
def _read_once(path: Path, stamps: tuple) -> Record:
    """``read``, once for a record whose files have these ``stamps``."""
    return read(path)


def _stamps(path: Path) -> tuple:
    """Names, sizes and times of the files in a folder, which change as they do."""
    if not path.is_dir():
        return ()
    facts = [(file.name, file.stat()) for file in path.iterdir()]
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in facts))


def records_below(folder: str | Path) -> dict[Path, Record]:
    """The record in ``folder``, else those below it, by their paths from there.

    Raises ReproError if there is none, or if one is not as it was written.

    >>> [str(path) for path in records_below("results/short/mnist-reference/iwae-M1-K64-seed2")]
    ['.']
    """
    folder = as_path("the folder", folder)
    files = [f for levels in range(4) for f in sorted(folder.glob("*/" * levels + "config.json"))]
    found = [f.parent for f in files if f.parent.suffix != ".partial"]
    return {path.relative_to(folder): read(path) for path in found or [folder]}


def pairs_in(a: str | Path, b: str | Path) -> list[tuple[Record, Record]]:
    """Pair two records, or records with the same path below two folders.

    Raises ReproError if there is no pair, or if one is not scored on the same images.
    """
    first, second = records_below(a), records_below(b)
    pairs = [(record, second[name]) for name, record in first.items() if name in second]
    if not pairs:
        raise ReproError(
            f"no run is in both {a} and {b}; name two records, or folders with runs of one name"
        )
    for x, y in pairs:
        if len({(r.provenance.data["sha256"], r.experiment.binarise) for r in (x, y)}) == 2:
            raise ReproError(f"{x.path} and {y.path} are not scored on the same images")
    if alone := len(first) + len(second) - 2 * len(pairs):
        print(f"left out: {plural(alone, 'run')} in one of the two only", flush=True)
    return pairs


def _experiment_in(path: Path) -> Experiment:
    experiment = experiment_in(_read_json(path / "config.json"))
    if experiment.method not in METHODS and not own.is_own(experiment.method):
        raise ReproError(
            f"{path} is of a method '{experiment.method}' that repro/bounds.py does not have; "
            "put it back, or move the record away"
        )
    return experiment


def _fault(path: Path, experiment: Experiment, metrics: dict, facts: dict) -> str:
    """Name the first fault of a record, or none."""
    is_own = own.is_own(experiment.model) or own.is_own(experiment.dataset)
    for metric in METRICS_OF_ALL if is_own else METRICS:
        if metric not in metrics:
            return f"no {metric}"
    if fault := fault_of_provenance(facts):
        return fault
    if PROFILES[experiment.profile].trained_here and "training" not in facts["seconds"]:
        return "no seconds of training"
    if path.parts[-3:] != Path(experiment.folder).parts:
        return f"it is the record of {experiment.folder}"
    if not are_metrics(metrics):
        return "a metric is not a finite number with its error"
    return _fault_of_files(path, facts["files"]) or _fault_of_curve(path, experiment)


def _fault_of_files(path: Path, hashes: dict[str, str]) -> str:
    """Name the first fault of a record's files, given their hashes."""
    there = {name for name in FILES_OF_RECORDS if (path / name).exists()}
    if not {*FILES} | there <= {*hashes}:
        return "a file has no hash"
    for name, sha256 in hashes.items():
        file = path / name
        if not file.exists():
            if name != WEIGHTS:
                return f"{name} is missing"
        elif not file.is_file():
            return f"{name} is no file"
        elif _sha256(file) != sha256:
            return f"{name} has changed"
    return ""


def _fault_of_curve(path: Path, experiment: Experiment) -> str:
    """Name the first fault of a record's curve: a line for each epoch, every number finite."""
    with open(path / "curve.csv", newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        lines = list(table)
    names = table.fieldnames or []
    if len({*names}) < len(names):
        return "curve.csv has a column twice"
    epochs = experiment.epochs if PROFILES[experiment.profile].trained_here else 0
    if [line["epoch"] for line in lines] != [str(i + 1) for i in range(epochs)]:
        return f"curve.csv does not have {experiment.epochs} epochs"
    for line in lines:
        needed = {"loss"}
        if line["iwae_64"] or is_evaluated(int(line["epoch"])):
            needed |= {"iwae_64", "iwae_64_se"}
        there = {name: float(line[name]) for name in CURVE if line.get(name) or name in needed}
        if not all(map(math.isfinite, there.values())):
            return "a number in curve.csv is not finite"
        if min((n for name, n in there.items() if name.endswith("_se")), default=0) < 0:
            return "an error in curve.csv is negative"
    return ""


def _write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a folder that takes its place when it is whole.

    Raises ReproError, and leaves nothing behind, if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if partial.is_file() or partial.is_symlink():
            partial.unlink()
        partial.mkdir(parents=True)
        fill(partial)
        for written in (*partial.iterdir(), partial):
            _sync(written)
        _make_room(path)
        os.replace(partial, path)  # it fails if another process put a record there now
        _sync(path.parent)
    except OSError as error:
        if _is_whole(path):
            raise _exists(path) from None
        raise ReproError(
            f"{path} could not be written ({error.strerror}); is the disk full? "
            "The same command tries again"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_room(path: Path) -> None:
    """Remove what is in a record's place and is not a whole record.

    It is moved aside first, so that no other process can put a record there meanwhile.
    """
    if not path.exists():
        return
    aside = path.with_name(path.name + ".aside.partial")
    path.rename(aside)
    if _is_whole(aside):
        aside.rename(path)
        raise _exists(path)
    shutil.rmtree(aside)


def _is_whole(path: Path) -> bool:
    """True if every file that a record must have is in a folder."""
    return all((path / f).exists() for f in (*FILES, "provenance.json"))


def _exists(path: Path) -> ReproError:
    return ReproError(
        f"{path} exists and records are never replaced; make it again in another folder"
    )


def _sync(path: Path) -> None:
    """Let a file, or the list of a folder's files, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_texts(
    folder: Path, experiment: Experiment, metrics: dict, curve: Sequence[dict]
) -> None:
    _write_json(folder / "config.json", experiment.as_dict())
    _write_json(folder / "metrics.json", metrics)
    write_csv(folder / "curve.csv", CURVE, curve)
    if rows := [row for line in curve for row in line.get("gradients", ())]:
        write_csv(folder / GRADIENTS, rows[0], rows)
    for file, name in ((OWN_BOUND, experiment.method), (OWN_MODEL, experiment.model)):
        if source := own.text_of(name):
            (folder / file).write_text(source, encoding="utf-8")


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[dict], mode: str = "w") -> None:
    """Write a file of ``rows``; with the ``mode`` "a" they are added to it."""
    with open(path, mode, newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        if mode == "w":
            table.writeheader()
        table.writerows(rows)


def _write_arrays(folder: Path, grids: Mapping, images: dict | None, weights: dict | None) -> None:
    """Write weights, metrics by image, and images as bytes: to 255, or 0 and 1 if binary."""
    from safetensors.torch import save

    grey = {}
    for name, grid in grids.items():
        binary = name.startswith("inputs") and bool(((grid == 0) | (grid == 1)).all())
        steps = 1 if binary else 255
        grey[name] = np.round(grid.numpy() * steps).astype(np.uint8)
    np.savez_compressed(folder / "reconstructions.npz", **grey)
    if weights:
        # save_file would make it readable to one user only
        (folder / WEIGHTS).write_bytes(save(weights))
    if images:
        single = {name: values.astype(np.float32) for name, values in images.items()}
        np.savez_compressed(folder / IMAGES, **single)


def _arrays_in(file: Path) -> dict[str, np.ndarray]:
    """The arrays in a file, of plain numbers; ReproError if there is anything else."""
    try:
        with np.load(file) as found:
            return dict(found)
    except Exception as error:  # whatever a file may raise that np.savez did not write
        raise ReproError(
            f"{file} cannot be read ({first_line(error)}); restore it, or train again"
        ) from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
