"""The report's released weights and logs, measured again."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from repro import ReproError, datasets, scores
from repro.catalogue import OMNIGLOT
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.records import Archive, Record
from repro.records.provenance import code_and_date, device_name
from repro.training import released_files
from repro.training.engines import fastest
from repro.training.program import model_of
from repro.training.progress import Progress
from repro.training.run import assess, pick_device, write_record
from repro.words import exhibits
from repro.words.experiments import PROFILES, Experiment

SHAPED_IMAGES = 1000  # of the test set, whose k-hat is taken
DEEP_IMAGES = 200  # of the test set, whose log p-hat is taken with many samples
DEEP_SAMPLES = (5000, 50_000)
TRUSTED_KHAT = 0.7  # above it, a mean of importance weights is not to be trusted
BINARISATIONS = 5  # of the test set, to see how much the choice of one matters


def released_model(e: Experiment, data: str | Path | None, device: str) -> Autoencoder:
    """The model with the report's released weights of a run."""
    model = model_of(e, released_files.released_weights(e, data)).to(device)
    model.prepare = fastest()
    return model


def remeasure(
    e: Experiment, archive: Archive, data: str | Path | None = None, device: str = "auto"
) -> Record:
    """Measure the report's released weights of a run with this project's evaluation; record it."""
    origin = code_and_date()
    begun = time.monotonic()
    device = pick_device(device)
    dataset = datasets.load(e.dataset, data)
    other = datasets.load_other(e.dataset, data)
    samples = PROFILES[e.profile].log_px_samples
    model = released_model(e, data, device)
    (found,) = assess(model, dataset, other, [e.seed], samples, f"{e.group} {e.method}")
    (spread,) = scores.other_binarisations(model, dataset.test, [e.seed], BINARISATIONS)
    for name, sd in spread.items():
        found.metrics[name]["binarisation_sd"] = sd
    origin |= {
        "device": device_name(device),
        "data": dataset.origin,
        "log_px_samples": samples,
        "precision": "float32",
        "seconds": {"evaluation": round(time.monotonic() - begun, 1)},
        "binarisations": BINARISATIONS,
        "weights": released_files.origin_of_weights(e),
    }
    write_record(archive, e, [], found, None, origin)
    return archive.get(e)


def sum_up_logs(archive: Archive, runs: list[Experiment], data: str | Path | None) -> None:
    """Write what the report's logs say, unless it is there: in blocks, and of checkpoints."""
    summaries: dict[str, Callable] = {
        "logs": released_files.log_blocks,
        "checkpoints": released_files.log_checkpoints,
    }
    for name, summary in summaries.items():
        if not archive.table_path(name).exists():
            origin = code_and_date() | {
                "blobs": released_files.blobs(exhibits.released_runs(), "log")
            }
            path = archive.write_table(name, summary(runs, data), origin)
            print(f"wrote {path}", flush=True)


def measure_best(archive: Archive, data: str | Path | None, device: str) -> None:
    """Write SSIM of the checkpoints that the released code calls best, unless it is there."""
    _measure_each(ssim_of_best, "best", "best", archive, data, device)


def check_proposals(archive: Archive, data: str | Path | None, device: str) -> None:
    """Write how far log p-hat of the report's weights can be trusted, unless it is there."""
    _measure_each(check_of_proposal, "proposals", "model", archive, data, device)


def _measure_each(
    row_of: Callable[[Experiment, str | Path | None, str], dict],
    name: str,
    kind: str,
    archive: Archive,
    data: str | Path | None,
    device: str,
) -> None:
    """Write the table called ``name`` with a row for each released run, unless it is there.

    ``kind`` is that of the released files that are designs.
    """
    import pandas as pd

    if archive.table_path(name).exists():
        return
    origin = code_and_date()
    device = pick_device(device)
    runs = exhibits.released_runs()
    with Progress(1, name) as bar:
        rows: list[dict] = []
        for e in runs:
            rows.append(row_of(e, data, device))
            bar.fraction(len(rows) / len(runs))
    origin |= {"device": device_name(device), "blobs": released_files.blobs(runs, kind)}
    print(f"wrote {archive.write_table(name, pd.DataFrame(rows), origin)}", flush=True)


def check_of_proposal(e: Experiment, data: str | Path | None, device: str) -> dict:
    """Pareto's k-hat of a run's importance weights, and log p-hat with ten times the samples.

    ``predicted`` is by how much log p-hat should rise with them: its bias to first order is minus
    half the relative variance of the mean weight, 1/ESS - 1/K.
    """
    model = model_of(e, released_files.released_weights(e, data)).to(device)
    images = datasets.load(e.dataset, data).test
    khat = scores.pareto_shapes(model, images[:SHAPED_IMAGES], [e.seed])
    log_px = []
    biases = []
    for K in DEEP_SAMPLES:
        sums = scores.log_px_and_ess(model, images[:DEEP_IMAGES], [e.seed], K)
        log_px.append(sums["iwae"][0])
        biases.append(float((1 / K - 1 / sums["ess"][0]).mean() / 2))
    rise = log_px[1] - log_px[0]
    return {
        "group": e.setting,
        "method": e.method,
        "images": len(khat),
        "khat_median": float(np.median(khat)),
        "khat_above": float((khat > TRUSTED_KHAT).mean()),
        "deep_images": len(rise),
        "rise": float(rise.mean()),
        "rise_se": float(rise.std() / len(rise) ** 0.5),
        "predicted": biases[1] - biases[0],
    }


def ssim_of_best(e: Experiment, data: str | Path | None, device: str) -> dict:
    """SSIM of a run's best checkpoint, and whether its weights are the last epoch's."""
    best = released_files.best_weights(e, data)
    last = released_files.released_weights(e, data)
    model = model_of(e, best)
    images = datasets.load(e.dataset, data).test
    (here,) = scores.ssim_here(model.to(device), images, [e.seed])
    other = datasets.load_other(e.dataset, data)
    (elsewhere,) = scores.ssim_elsewhere(model, other.test, [e.seed])
    return {
        "group": e.setting,
        "method": e.method,
        "is_the_last": all(torch.equal(best[name], last[name]) for name in last),
        "ssim": here["value"],
        "ssim_sd": here["sd"],
        "ssim_elsewhere": elsewhere["value"],
        "ssim_elsewhere_sd": elsewhere["sd"],
    }


def sum_up_figure4(archive: Archive, data: str | Path | None) -> None:
    """Write what the two curves of the report's Figure 4 are, unless it is there."""
    if archive.table_path("figure4").exists():
        return
    try:
        table = released_files.figure4_parabolas(data)
    except ReproError as error:
        print(f"Figure 4 will be left out: {error}", flush=True)
        return
    origin = code_and_date() | {
        "from": "the vectors of Figure 4 in the report's PDF",
        "sha256": released_files.FIGURE4_SHA256,
    }
    print(f"wrote {archive.write_table('figure4', table, origin)}", flush=True)


def tell_drawers_apart(archive: Archive, data: str | Path | None, device: str) -> None:
    """Write IWAE-64 of the report's Omniglot models by drawer, unless it is there."""
    import pandas as pd

    if archive.table_path("drawers").exists():
        return
    origin = code_and_date()
    device = pick_device(device)
    dataset = datasets.load(OMNIGLOT, data)
    runs = [e for e in exhibits.released_runs() if e.dataset == OMNIGLOT]
    rows: list[dict] = []
    with Progress(1, "drawers") as bar:
        for e in runs:
            rows += iwae_64_by_drawer(e, dataset, data, device)
            bar.fraction(len(rows) / (20 * len(runs)))
    origin |= {
        "device": device_name(device),
        "blobs": released_files.blobs(runs, "model"),
        "data": dataset.origin,
    }
    print(f"wrote {archive.write_table('drawers', pd.DataFrame(rows), origin)}", flush=True)


def iwae_64_by_drawer(
    e: Experiment, dataset: Dataset, data: str | Path | None, device: str
) -> Iterator[dict]:
    """IWAE-64 of released Omniglot weights by drawer, on the drawings of each third character."""
    model = released_model(e, data, device)
    for split, drawers in datasets.DRAWERS.items():
        images = getattr(dataset, split)
        of_characters = images.unflatten(0, (-1, len(drawers)))[::3]  # [character, drawer, pixels]
        flat = of_characters.flatten(0, 1)
        values = scores.iwae_bound(model, flat, [e.seed], f"drawers: {split}")
        values = values.view(-1, len(drawers))
        means = values.mean(0).tolist()
        spreads = values.std(0).tolist()
        for drawer, mean, sd in zip(drawers, means, spreads, strict=True):
            yield {
                "method": e.method,
                "drawer": drawer,
                "split": split,
                "images": len(values),
                "iwae_64": mean,
                "iwae_64_sd": sd,
            }
