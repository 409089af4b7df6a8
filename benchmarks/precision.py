"""Effect of a precision of training on IWAE-64.

    python -m benchmarks.precision --profile short --epochs 1 --method iwae,piwae --seed 0,1,2

Pairs of runs share seed, order, binarisation and noise. Rounding alone sends two trainings apart.
So a difference is printed beside that of another engine in the same precision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import pandas as pd

from repro import datasets
from repro.datasets import Dataset
from repro.records.provenance import code_and_date, device_name
from repro.training import loop
from repro.training.progress import Progress
from repro.training.run import has_precision, pick_device
from repro.words.experiments import PRECISIONS, Experiment, plan


def ends(runs: Sequence[Experiment], dataset: Dataset, device: str, engine: str) -> list[float]:
    """IWAE-64 of each run after its last epoch."""
    with Progress(runs[0].epochs, f"{engine}, {runs[0].precision}") as bar:
        fit = loop.fit(runs, dataset, device=device, engine=engine, progress=bar.training)
    return [curve[-1]["iwae_64"] for curve in fit.curves]


def by_method(runs: Sequence[Experiment], differences: Sequence[float]) -> dict[str, dict]:
    """Paired differences of each method, their mean, and its standard error over seeds."""
    found = {}
    for method, mine in pd.Series(differences).groupby([e.method for e in runs], sort=False):
        found[method] = {"mean": mine.mean(), "se": mine.sem(), "differences": mine.tolist()}
    return found


@click.command()
@click.option("--precision", type=click.Choice(PRECISIONS), default="bf16", show_default=True)
@click.option("--method", default="iwae,piwae", show_default=True)
@click.option("--seed", default="0,1,2", show_default=True)
@click.option("--epochs", default="1", show_default=True)
@click.option("--profile", default="short", show_default=True)
@click.option("--data", "folder", help="Folder to read datasets from.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(
    precision: str,
    method: str,
    seed: str,
    epochs: str,
    profile: str,
    folder: str | None,
    device: str,
    path: Path | None,
) -> None:
    """Print how far each method's IWAE-64 is from that in float32, in nats.

    It is the mean of the paired differences, with its standard error over seeds.
    """
    device = pick_device(device)
    if not has_precision(precision, device):
        raise click.ClickException(f"precision '{precision}' is not available on this {device}")
    runs = plan(method, profile=profile, seed=seed, epochs=epochs)
    dataset = datasets.load(runs[0].dataset, folder)
    fast = "compiled" if device == "cpu" else "compiled-graph"
    reference = ends(runs, dataset, device, fast)
    table = {}
    for engine, other in ((fast, precision), ("eager", "float32")):
        others = [replace(e, precision=other) for e in runs]
        values = ends(others, dataset, device, engine)
        differences = [b - a for a, b in zip(reference, values, strict=True)]
        for name, found in by_method(runs, differences).items():
            what = f"{engine} {other} - {fast} float32"
            table[f"{name}: {what}"] = found
            each = ", ".join(f"{d:+.3f}" for d in found["differences"])
            print(
                f"{name:14} {what}: {found['mean']:+.3f} +- {found['se']:.3f} nats  ({each})",
                flush=True,
            )
    if path:
        result = {
            "epochs": runs[0].epochs,
            "seeds": seed,
            "iwae_64_float32": reference,
            "differences": table,
            "provenance": code_and_date()
            | {"device": device_name(device), "data": dataset.variant},
        }
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
