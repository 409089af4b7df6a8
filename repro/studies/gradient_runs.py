"""Measurements of gradients' signal and noise, in the linear Gaussian model and in networks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from repro import ReproError, datasets
from repro.bounds import Layout
from repro.catalogue import MODELS
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.records import Archive, Record
from repro.records.provenance import code_and_date, device_name
from repro.signal import bias_of_bound, gradient_estimates, in_network, row
from repro.studies import designs
from repro.training import released_files
from repro.training.networks import model_of
from repro.training.progress import Progress
from repro.training.run import pick_device
from repro.words import exhibits
from repro.words.experiments import plan


def in_linear_gaussian(where: str) -> Iterator[dict]:
    """Rows for every layout in ``PROBLEMS`` linear Gaussian models at the offset of ``where``."""
    offset, replicates = designs.LINEAR_GAUSSIAN[where]
    for seed, layout in product(range(designs.PROBLEMS), designs.LAYOUTS):
        yield row(where, layout, seed, gradient_estimates(layout, replicates, seed, offset))


def at_offset(
    offset: float, layouts: Sequence[Layout], estimators: Sequence[str]
) -> Iterator[dict]:
    """Rows for layouts and estimators, in ``PROBLEMS`` linear Gaussian problems.

    The estimators see the same samples. ``bias`` is that of the bound, E L - log p(x), in nats.
    MIWAE's estimate is the mean of M independent ones of IWAE, so that its signal and its bias are
    IWAE's with K samples, and its squared noise is that over M.
    """
    where = designs.offset_title(offset)
    for seed, layout, estimator in product(range(designs.PROBLEMS), layouts, estimators):
        found = gradient_estimates(layout, designs.SWEPT_REPLICATES, seed, offset, estimator)
        more = {"estimator": estimator, "bias": bias_of_bound(layout, seed, offset)}
        yield row(where, layout, seed, found) | more


def measure_signal(name: str, archive: Archive, data: str | Path | None, device: str) -> Path:
    """Measure and write the table ``name`` of gradients' signal and noise, by ``DESIGNS[name]``."""
    design = designs.DESIGNS[name]
    provenance = code_and_date()
    begun = time.monotonic()
    device = pick_device(device)
    weights: dict[str, dict] = {}
    found: dict[str, Dataset] = {}
    parts = [in_linear_gaussian(where) for where in design.linear_gaussian]
    parts += [at_offset(offset, *design.at_offsets) for offset in design.offsets]
    for where in design.networks:
        which = designs.NETWORKS_OF_ESTIMATORS[where]
        if which.dataset not in found:
            found[which.dataset] = datasets.load(which.dataset, data)
        images = found[which.dataset].train.to(device)
        model, weights[where] = network(which, archive, data)
        parts.append(in_network(where, model.to(device), images, *design.in_networks))
    rows: list[dict] = []
    with Progress(1, name) as bar:
        for done, part in enumerate(parts, 1):
            rows += part
            bar.fraction(done / len(parts))
    provenance |= {
        "device": device_name(device),
        "weights": {where: source for where, source in weights.items() if source},
        "data": [d.provenance | {"split": "train"} for d in found.values()],
        "seconds": {"evaluation": round(time.monotonic() - begun, 1)},
        **designs.AS_RECORDED,
    }
    return archive.write_table(name, pd.DataFrame(rows), provenance, numbers="%.7g")


def network(
    which: designs.Weights, archive: Archive, data: str | Path | None
) -> tuple[Autoencoder, dict]:
    """Load the reference model with the weights ``which``, and what their provenance says.

    ``data`` is the folder of datasets and released files.
    """
    dataset, whose, method = which
    if whose == "nobody":
        return Autoencoder(MODELS["reference"], [0]), {}
    if whose == "ours":
        record = _of_full_length(archive, dataset, method)
        source = {"record": "/".join(record.path.parts[-3:])}
        return model_of(record.experiment, record.weights()), source
    wanted = (f"{dataset}-reference", method)
    (e,) = (e for e in exhibits.released_runs() if (e.setting_folder, e.method) == wanted)
    weights = released_files.released_weights(e, data)
    return model_of(e, weights), released_files.provenance_of_weights(e)


def _of_full_length(archive: Archive, dataset: str, method: str) -> Record:
    """Our record of a full training with seed 0, at whichever precision, here or in the project."""
    (wanted,) = plan(method, dataset, profile="full")
    for record in [*archive.records("full"), *Archive().records("full")]:
        if replace(record.experiment, precision=wanted.precision) == wanted:
            return record
    raise ReproError(f"there is no record of {method} at full length on {dataset}")
