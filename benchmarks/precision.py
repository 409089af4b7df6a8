"""What a precision of training does to IWAE-64: pairs of runs that share seed, order, binarisation and noise.

    python -m benchmarks.precision --profile short --epochs 1 --method iwae,piwae --seed 0,1,2

Rounding alone sends two trainings apart, so the same is done with another engine in the same precision: what a
difference means is seen beside that.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import click

from repro import data, experiments, records, training
from repro.__main__ import Progress, pick_device


def ends(runs, dataset, device, engine) -> list[float]:
    """IWAE-64 of each run after its last epoch."""
    with Progress(runs[0].epochs, f"{engine}, {runs[0].precision}") as bar:
        fit = training.fit(runs, dataset, device=device, engine=engine, progress=bar.training)
    return [curve[-1]["iwae_64"] for curve in fit.curves]


@click.command()
@click.option("--precision", type=click.Choice(list(experiments.PRECISIONS)), default="bf16", show_default=True)
@click.option("--method", default="iwae,piwae", show_default=True)
@click.option("--seed", default="0,1,2", show_default=True)
@click.option("--epochs", default="1", show_default=True)
@click.option("--profile", default="short", show_default=True)
@click.option("--data", "folder", help="Folder to read datasets from.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "path", type=click.Path(), help="Write the figures here too.")
def main(precision, method, seed, epochs, profile, folder, device, path) -> None:
    """Print the paired difference of each method's IWAE-64 from float32, in nats, with its standard error over seeds."""
    device = pick_device(device)
    runs = experiments.plan(method, profile_name=profile, seed=seed, epochs=epochs)
    dataset = data.load(runs[0].dataset, folder)
    fast = "compiled" if device == "cpu" else "compiled-graph"
    reference = ends(runs, dataset, device, fast)
    table = {}
    for engine, other in ((fast, precision), ("eager" if device == "cpu" else "graph", "float32")):
        differences = [b - a for a, b in zip(reference, ends([replace(e, precision=other) for e in runs], dataset, device, engine), strict=True)]
        for name in dict.fromkeys(e.method for e in runs):
            mine = [d for d, e in zip(differences, runs, strict=True) if e.method == name]
            mean, se = statistics.mean(mine), statistics.stdev(mine) / math.sqrt(len(mine))
            table[f"{name}: {engine} {other} - {fast} float32"] = {"mean": mean, "se": se, "differences": mine}
            print(f"{name:14} {engine} {other} - {fast} float32: {mean:+.3f} +- {se:.3f} nats  ({', '.join(f'{d:+.3f}' for d in mine)})", flush=True)
    if path:
        origin = records.provenance() | {"device": records.device_name(device), "data": dataset.variant}
        result = {"epochs": runs[0].epochs, "seeds": seed, "iwae_64_float32": reference, "differences": table, "provenance": origin}
        Path(path).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
