"""The signal and noise of gradients, measured: in the linear Gaussian model and in networks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from repro import ReproError, datasets
from repro.bounds import Layout
from repro.catalogue import MODELS
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.records import Archive, Record
from repro.records.provenance import code_and_date, device_name
from repro.signal import bias_of_bound, gradient_estimates, in_network, row
from repro.studies.designs import (
    AS_RECORDED,
    DESIGNS,
    LAYOUTS,
    LINEAR_GAUSSIAN,
    NETWORKS_OF_ESTIMATORS,
    PROBLEMS,
    SWEPT_REPLICATES,
    offset_title,
)
from repro.training import released_files
from repro.training.progress import Progress
from repro.training.run import pick_device
from repro.words import exhibits
from repro.words.experiments import plan


def in_linear_gaussian(where: str) -> Iterator[dict]:
    """Rows for every layout in ``PROBLEMS`` problems, as ``LINEAR_GAUSSIAN[where]`` says."""
    offset, replicates = LINEAR_GAUSSIAN[where]
    for seed, layout in product(range(PROBLEMS), LAYOUTS):
        yield row(where, layout, seed, gradient_estimates(layout, replicates, seed, offset))


def at_offset(
    offset: float, layouts: Sequence[Layout], estimators: Sequence[str]
) -> Iterator[dict]:
    """Rows for layouts and estimators, in ``PROBLEMS`` linear Gaussian problems.

    The estimators see the same samples. ``bias`` is that of the bound, E L - log p(x), in nats.
    MIWAE's estimate is the mean of M independent ones of IWAE, so that its signal and its bias are
    IWAE's with K samples, and its squared noise is that over M.
    """
    where = offset_title(offset)
    for seed, layout, estimator in product(range(PROBLEMS), layouts, estimators):
        found = gradient_estimates(layout, SWEPT_REPLICATES, seed, offset, estimator)
        more = {"estimator": estimator, "bias": bias_of_bound(layout, seed, offset)}
        yield row(where, layout, seed, found) | more


def measure_signal(name: str, archive: Archive, data: str | Path | None, device: str) -> Path:
    """Write a table of the signal and noise of gradients, as ``DESIGNS`` says."""
    import pandas as pd

    design = DESIGNS[name]
    networks = _Networks(archive, data, device)
    parts = [in_linear_gaussian(where) for where in design.linear_gaussian]
    parts += [at_offset(offset, *design.at_offsets) for offset in design.offsets]
    parts += [in_network(*networks.place(where), *design.in_networks) for where in design.networks]
    rows: list[dict] = []
    with Progress(1, name) as bar:
        for done, part in enumerate(parts, 1):
            rows += part
            bar.fraction(done / len(parts))
    return archive.write_table(name, pd.DataFrame(rows), networks.origin(), numbers="%.7g")


def _of_full_length(archive: Archive, dataset: str, method: str) -> Record:
    """Our record of a full training with seed 0, at whichever precision, here or in the project."""
    (wanted,) = plan(method, dataset, profile="full")
    for record in [*archive.records("full"), *Archive().records("full")]:
        if replace(record.experiment, precision=wanted.precision) == wanted:
            return record
    raise ReproError(f"there is no record of {method} at full length on {dataset}")


class _Networks:
    """The networks in which gradients are measured, and where they come from."""

    def __init__(self, archive: Archive, data: str | Path | None, device: str):
        self.code = code_and_date()
        self.begun = time.monotonic()
        self.archive = archive
        self.data = data
        self.device = pick_device(device)
        self.datasets: dict[str, Dataset] = {}
        self.weights: dict[str, dict] = {}

    def place(self, name: str) -> tuple[str, Autoencoder, torch.Tensor]:
        """A place's name, model and training images."""
        dataset, whose, method = NETWORKS_OF_ESTIMATORS[name]
        if dataset not in self.datasets:
            self.datasets[dataset] = datasets.load(dataset, self.data)
        model = Autoencoder(MODELS["reference"], [0])
        if whose == "report":
            group = f"{dataset}-reference"
            runs = {(e.group, e.method): e for e in exhibits.released_runs()}
            e = runs[group, method]
            model.load_run_state(0, released_files.released_weights(e, self.data))
            self.weights[name] = released_files.origin_of_weights(e)
        if whose == "ours":
            record = _of_full_length(self.archive, dataset, method)
            model.load_run_state(0, record.weights())
            self.weights[name] = {"record": "/".join(record.path.parts[-3:])}
        return name, model.to(self.device), self.datasets[dataset].train.to(self.device)

    def origin(self) -> dict:
        """The provenance of what was measured."""
        return self.code | {
            "device": device_name(self.device),
            "weights": self.weights,
            "data": [d.origin | {"split": "train"} for d in self.datasets.values()],
            "seconds": {"evaluation": round(time.monotonic() - self.begun, 1)},
            **AS_RECORDED,
        }
