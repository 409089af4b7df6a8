"""The smoke sweep on a real Slurm: jobs that are killed go on, and the records are the same.

It installs and starts a cluster, and takes a quarter of an hour: REPRO_CLUSTER=1 asks for it, and
REPRO_CLUSTER=10 for ten jobs that are cancelled instead of one.
"""

import importlib.util
import os
import random
import subprocess
import sys
import time

import pytest

from repro.ops import sweep
from repro.training import run
from tests.cluster import local_slurm
from tests.helpers import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("REPRO_CLUSTER"), reason="REPRO_CLUSTER is not set"),
]
FILE = ROOT / "workflow" / "sweeps" / "smoke.yaml"
PLUGINS = ("snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep")


@pytest.fixture
def slurm(tmp_path):
    """A running cluster."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    try:
        with local_slurm.cluster(folder):
            yield
    except local_slurm.NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture
def environment(tmp_path):
    """The environment of a workflow, with Snakemake's plugin for Slurm."""
    here = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        return here
    target = tmp_path / "plugins"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
    if subprocess.run([*pip, *PLUGINS], check=False, capture_output=True).returncode:
        pytest.skip(f"pip cannot install {PLUGINS[0]} here")
    return here | {"PYTHONPATH": f"{ROOT}:{target}"}


def snakemake(environment, log, **config):
    """The sweep as jobs of Slurm, begun."""
    words = [f"{name}={value}" for name, value in config.items()]
    workflow = ["-s", "workflow/sweep.smk", "--profile", "workflow/profiles/slurm"]
    command = [sys.executable, "-m", "snakemake", *workflow, "--config", *words]
    with open(log, "w") as file:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)


def running():
    """The numbers of the jobs that run now, with the seconds for which they have run."""
    said = subprocess.run(
        ["squeue", "-h", "-t", "R", "-o", "%i %M"], capture_output=True, text=True
    )
    found = {}
    for line in said.stdout.splitlines():
        number, clock = line.split()
        minutes, seconds = clock.split(":")[-2:]
        found[number] = 60 * int(minutes) + int(seconds)
    return found


def cancel_some(process, count):
    """Cancel so many jobs, each after as many seconds as chance will have it."""
    chance = random.Random(0)
    cancelled = []
    moment = chance.uniform(5, 40)
    while len(cancelled) < count:
        assert process.poll() is None, f"only {len(cancelled)} jobs ran for long enough"
        for number, seconds in running().items():
            if seconds > moment and number not in cancelled:
                subprocess.run(["scancel", number], check=True)
                cancelled.append(number)
                moment = chance.uniform(5, 40)
                break
        time.sleep(1)
    return cancelled


def test_a_sweep_survives_a_cancelled_job_and_time_limits(slurm, environment, tmp_path):
    """Slurm ends every job after a minute, without a limit of the job's own, and some before."""
    jobs = sweep.jobs_of(sweep.listed_runs(FILE), slot=1)
    assert len(jobs) > 2
    results = tmp_path / "results"
    log = tmp_path / "snakemake.log"
    name = f"sweep{os.getpid()}"
    copy = tmp_path / f"{name}.yaml"
    copy.write_text(FILE.read_text())
    process = snakemake(environment, log, sweep=copy, slot=1, limit=600, results=results)
    cancelled = cancel_some(process, int(os.environ["REPRO_CLUSTER"]))
    assert process.wait(timeout=1500) == 0, log.read_text()[-4000:]
    said = log.read_text()
    restarts = said.count("Trying to restart job")
    assert restarts >= max(len(cancelled), 2), "with one cancelled job, another is out of time"
    assert all(number in said for number in cancelled)

    runs = [e for job in jobs for e in job.runs]
    at_once = tmp_path / "at-once"
    records = run.train(runs, results=at_once, device="cpu")
    assert len(records) == len(runs)
    for record in records:
        other = results / record.path.relative_to(at_once.resolve())
        for file in ("config.json", "curve.csv", "metrics.json", "images.npz"):
            assert (other / file).read_bytes() == (record.path / file).read_bytes(), other
    assert not list(results.rglob("unfinished-*"))
