"""The cost of our runs, and of stacks, runs trained side by side, beside ``training.costs``."""

import re
from typing import NamedTuple

import numpy as np

from repro.records import Archive, Record, records_of_any_seed
from repro.records.estimates import number
from repro.studies.estimator_runs import USUAL_LAYOUTS
from repro.studies.frames import from_to
from repro.training.costs import DEVICE_COSTS
from repro.words.experiments import TABLE_METHODS, plan

SEEDS_AT_A_TIME = 5  # of the test that was fixed in advance
LEAST_SECONDS = 60.0  # of a stack that is compared: a record gives a run's seconds to a tenth


class Stack(NamedTuple):
    """Runs that were trained side by side, with the seconds of training, measured and expected."""

    records: tuple[Record, ...]
    measured: float
    expected: float


def stacks_on_gpu(archive: Archive) -> list[Stack]:
    """The stacks that were trained on a GPU in TensorFloat-32, in order of their size.

    A record holds its share of the stack's time. So the records of one stack agree in that share,
    in their code and in what stacked runs share.
    """
    found: dict[tuple, list[Record]] = {}
    for record in archive.of_profiles("short", "full"):
        if record.experiment.precision == "tf32":
            found.setdefault(_stack_of(record), []).append(record)
    stacks = []
    for records in found.values():
        seconds = len(records) * records[0].provenance.seconds["training"]
        expected = DEVICE_COSTS["cuda"].training([record.experiment for record in records])
        if seconds >= LEAST_SECONDS:
            stacks.append(Stack(tuple(records), seconds, expected))
    return sorted(stacks, key=lambda stack: len(stack.records))


def _stack_of(record: Record) -> tuple:
    """The key that records of one stack share, and no two stacks."""
    e = record.experiment
    p = record.provenance
    seeds_apart = 0
    in_table1 = e.method in TABLE_METHODS and USUAL_LAYOUTS[e.method] == (e.M, e.K)
    if in_table1 and e.estimator == "rep":
        seeds_apart = e.seed // SEEDS_AT_A_TIME
    return (e.shared, p.seconds["training"], p.commit, p.device, seeds_apart)


def table_of_costs(archive: Archive) -> str:
    """A Markdown table of each stack's training time, measured and by the model of costs."""
    lines = [
        "| runs | epochs | dataset | minutes | expected | error |",
        "|---|---|---|---|---|---|",
    ]
    for stack in stacks_on_gpu(archive):
        e = stack.records[0].experiment
        minutes = [f"{seconds / 60:.2f}" for seconds in (stack.measured, stack.expected)]
        error = f"{number(100 * (stack.expected / stack.measured - 1), 0)} %"
        cells = [len(stack.records), e.epochs, e.family, *minutes, error]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def largest_error(archive: Archive) -> str:
    """The largest relative error of the model of costs on these stacks, in percent, rounded up."""
    errors = [abs(stack.expected / stack.measured - 1) for stack in stacks_on_gpu(archive)]
    return f"{np.ceil(100 * max(errors)):.0f} %"


def minutes_without_gpu(archive: Archive, part: str) -> str:
    """The range of minutes that IWAE on MNIST took on processors, as text.

    ``part`` is "training", of which it is that of an epoch, or "evaluation".
    """
    (e,) = plan("iwae", "mnist", profile="short")
    parts = e.epochs if part == "training" else 1
    runs = records_of_any_seed(e, archive.records("short"))
    ours = [r.provenance for r in runs if "NVIDIA" not in r.provenance.device]
    return from_to([made.seconds[part] / parts / 60 for made in ours], 1)


def compute(archive: Archive) -> str:
    """Text on the hours of training and evaluation of all our records, and on the devices."""
    ours = archive.of_profiles("short", "full")
    if not ours:
        return "no runs yet"
    hours = sum(map(_hours, ours))
    devices = " and ".join({r.provenance.device for r in ours})
    processors = set(re.sub(r", \d+ threads?", "", devices).split(" and "))
    return f"{len(ours)} runs, {hours:.1f} hours on {', '.join(sorted(processors))}"


def energy(archive: Archive) -> str:
    """An upper bound of the energy that all our records took, in kWh."""
    watt_hours = 0
    for record in archive.of_profiles("short", "full"):
        kind = "cuda" if "NVIDIA" in record.provenance.device else "cpu"
        watt_hours += DEVICE_COSTS[kind].watts * _hours(record)
    return f"{watt_hours / 1000:.1f} kWh"


def _hours(record: Record) -> float:
    """The hours of a run, its share of a stack."""
    return sum(record.provenance.seconds.values()) / 3600
