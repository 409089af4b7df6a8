"""Do trainings at two precisions end alike? Paired differences of their records.

    python -m benchmarks.equivalence RESULTS --precision tf32,fp16

Two runs are a pair if they differ in nothing but the precision. Rounding sends them apart as chance
would, so that differences of any method and seed are taken as independent.
"""

from dataclasses import replace

import click
import numpy as np
from scipy import stats

from repro import as_path
from repro.records import Archive

METRICS = ("iwae_64", "log_px")
MARGIN = 0.2  # nats


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of their mean, by Student's t."""
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return differences.mean() - half, differences.mean() + half


def paired(archive: Archive, profile: str, one: str, other: str) -> list[tuple]:
    """Pairs of records at the precisions ``one`` and ``other``."""
    found = {r.experiment: r for r in archive.records(profile)}
    pairs = []
    for e, record in found.items():
        partner = found.get(replace(e, precision=other))
        if e.precision == one and partner:
            pairs.append((record, partner))
    return pairs


@click.command()
@click.argument("results")
@click.option("--precision", default="tf32,fp16", show_default=True, help="Two of them.")
@click.option("--profile", default="short", show_default=True)
@click.option("--margin", default=MARGIN, show_default=True, help="In nats.")
def main(results: str, precision: str, profile: str, margin: float) -> None:
    """Print each metric's mean difference, its interval, and whether that is within the margin."""
    one, _, other = precision.partition(",")
    pairs = paired(Archive(as_path("RESULTS", results)), profile, one, other)
    if len(pairs) < 3:
        raise click.ClickException(f"{results} has {len(pairs)} pairs of {one} and {other}")
    alike = True
    for metric in METRICS:
        values = np.array([[r.metrics[metric]["value"] for r in pair] for pair in pairs])
        differences = values[:, 1] - values[:, 0]
        low, high = interval(differences)
        within = -margin < low and high < margin
        alike = alike and within
        said = "within" if within else "NOT within"
        print(
            f"{metric}, {other} - {one}: {differences.mean():+.3f} nats in {len(pairs)} pairs, "
            f"95 % from {low:+.3f} to {high:+.3f}, {said} +-{margin}"
        )
    print(f"train on at {other}" if alike else f"stay at {one}")


if __name__ == "__main__":
    main()
