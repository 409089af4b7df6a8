"""Sweeps: many runs, packed into jobs for a scheduler; each job trains its runs side by side.

A job trains those of its runs that have no record, and goes on from its state if it was stopped. So
a scheduler need only submit a job again until it is done. Measured costs say beforehand how much
time and memory it takes.
"""

from collections.abc import Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import NamedTuple

from repro import ReproError, as_path, one_of, plural
from repro.training.costs import DEVICE_COSTS, Cost, DeviceCosts
from repro.words.experiments import OF_GPUS, TRAINED_PROFILES, WORDS, Experiment, plan


class Job(NamedTuple):
    """A job for a scheduler: runs that are trained side by side, with their time and memory."""

    name: str
    runs: tuple[Experiment, ...]
    cost: Cost


LISTED_IN_PLAN = ("method", "beta", "seed")  # words of which ``plan`` takes several at a time


def listed_runs(path: str | Path) -> list[Experiment]:
    """The runs in a YAML file, a list of dictionaries, each the arguments of ``plan`` by name.

    Where a word has a list, every combination is meant. A file of ``defaults`` and ``runs`` says
    first what holds for each group that does not say otherwise. Raises ReproError, one line, if the
    file or an entry is wrong.
    """
    runs: list[Experiment] = []
    for words in _groups_in(as_path("the file of runs", path)):
        for word in words:
            one_of(f"word in {path}", word, WORDS)
        # auto may be smoke where jobs are planned, and full where they run
        one_of(f"profile in {path}", words.get("profile"), TRAINED_PROFILES)
        lists = {w: v for w, v in words.items() if isinstance(v, list) and w not in LISTED_IN_PLAN}
        if [] in lists.values():
            raise ReproError(f"a list in {path} is empty; give a value, or leave the word out")
        for values in product(*lists.values()):
            runs += plan(**words | dict(zip(lists, values, strict=True)))
    if not runs:
        raise ReproError(f"{path} lists no runs; see workflow/sweeps")
    return list(dict.fromkeys(runs))


def _groups_in(path: Path) -> list[dict]:
    """The groups of runs in a file, each with the file's defaults."""
    from repro.words.core_yaml import read_yaml  # here, because a bare machine trains without it

    try:
        groups = read_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise ReproError(f"{path}: {error.strerror}; name a file that lists runs") from None
    defaults: object = {}
    if isinstance(groups, dict) and groups.keys() == {"defaults", "runs"}:
        defaults, groups = groups["defaults"], groups["runs"]
    if not isinstance(groups, list) or not all(isinstance(g, dict) for g in [defaults, *groups]):
        raise ReproError(f"{path} is no list of groups of runs; see workflow/sweeps")
    return [defaults | words for words in groups]


def jobs_of(
    runs: Sequence[Experiment], device: str = "cpu", slot: float = 60, memory: float = 16
) -> list[Job]:
    """Pack runs into jobs of at most ``slot`` minutes, where that is possible, and ``memory`` GB.

    Runs of a job share their dataset, model, number of samples and length. The packing depends on
    the list alone, whatever is done already, so that a job keeps its name.

    >>> [len(job.runs) for job in jobs_of(plan("all", profile="smoke"))]
    [5]
    """
    costs = DEVICE_COSTS[one_of("device", device, DEVICE_COSTS)]
    if not slot >= 0.01 or not memory > 0:
        raise ReproError("a slot must have 0.01 minutes, and its memory must be above 0; give more")
    for e in runs if device == "cpu" else ():
        if e.precision in OF_GPUS:
            raise ReproError(
                f"precision '{e.precision}' is not available on cpu; say float32, or --device cuda"
            )
    alike: dict[tuple, list[Experiment]] = {}
    for e in runs:
        alike.setdefault(e.shared, []).append(e)
    stacks: list[list[Experiment]] = []
    for shared in alike.values():
        size = _most(costs, shared, slot, memory)
        count = ceil(len(shared) / size)
        stacks += [shared[place::count] for place in range(count)]
    return [
        Job(f"job{number:03}", tuple(stack), costs.cost(stack))
        for number, stack in enumerate(stacks, start=1)
    ]


def _most(costs: DeviceCosts, alike: Sequence[Experiment], slot: float, memory: float) -> int:
    """Count how many of runs that share a program one job may hold.

    A run that is longer than a slot takes several, and then its job may as well hold all the runs
    that have room, if that saves time.
    """

    def largest(fits) -> int:
        sizes = range(1, len(alike) + 1)
        return max((size for size in sizes if fits(costs.cost(alike[:size]))), default=0)

    with_room = largest(lambda cost: cost.memory <= memory)
    if not with_room:
        needed = costs.cost(alike[:1]).memory
        raise ReproError(
            f"one run of {alike[0].name} needs {needed:.1f} GB, and a job may have {memory:g}; "
            "give --memory more"
        )
    in_time = largest(lambda cost: cost.seconds <= 60 * slot)
    if in_time:
        return min(with_room, in_time)
    return with_room if costs.in_stacks else 1


def jobs_as_text(jobs: Sequence[Job], device: str, slot: float) -> str:
    """Format the jobs as a table in text, with the time and memory of each and of all."""
    from tabulate import tabulate

    rows = []
    for job in jobs:
        first = job.runs[0]
        minutes = job.cost.seconds / 60
        slots = ceil(minutes / slot)
        what = f"{first.setting_folder}, {plural(first.epochs, 'epoch')}"
        memory = f"{job.cost.memory:.1f}"
        methods = ",".join(dict.fromkeys(e.method for e in job.runs))
        words = [what, methods, _seeds_of(job)]
        rows.append([job.name, len(job.runs), *words, f"{minutes:.1f}", slots, memory])
    heads = ["job", "runs", "of", "methods", "seeds", "minutes", "slots", "GB"]
    table = tabulate(rows, heads, disable_numparse=True)
    hours = sum(job.cost.seconds for job in jobs) / 3600
    energy = hours * DEVICE_COSTS[device].watts / 1000
    kind = "GPU" if device == "cuda" else "core"
    runs = sum(len(job.runs) for job in jobs)
    whole = f"{plural(runs, 'run')} in {plural(len(jobs), 'job')}: {hours:.2f} {kind}-hours"
    return f"{table}\n{whole}, at most {energy:.2f} kWh, by measured costs"


def _seeds_of(job: Job) -> str:
    """The seeds of a job's runs; where they are many, how many."""
    seeds = sorted({e.seed for e in job.runs})
    named = ",".join(map(str, seeds))
    return named if len(named) < 20 else f"{len(seeds)} from {seeds[0]} to {seeds[-1]}"
