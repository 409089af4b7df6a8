"""How many kernels a step launches, counted in the code that is made for a GPU."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytest.importorskip("triton", reason="pip install -e '.[launches]'")


@pytest.fixture(scope="module")
def counted():
    """What the benchmark says of each engine: the launches of a phase, and the longest chain."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.launches"]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=threads, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {"compiled-graph": {}, "fused-graph": {}}
    for line in done.stdout.splitlines():
        engine, phase, *numbers = re.split(r" {2,}", line.replace("-graph ", "-graph  "))
        found[engine][phase] = [float(n) for n in re.findall(r"\d[\d.]*", " ".join(numbers))]
    return found


@pytest.mark.slow
def test_the_count_is_near_what_an_h200_launched(counted):
    """It was 69 in TensorFloat-32, with an earlier PyTorch: benchmarks/results/h200-check.txt."""
    every, _ = counted["compiled-graph"]["all"]
    assert abs(every - 69) <= 4


@pytest.mark.slow
def test_the_fused_step_launches_fewer_kernels_and_waits_for_far_fewer(counted):
    before, after = counted["compiled-graph"], counted["fused-graph"]
    assert after["bounds"][0] <= 0.5 * before["bounds"][0]
    assert after["all"][0] <= 0.75 * before["all"][0]
    assert after["all"][1] <= 0.65 * before["all"][1]
    (one_of_ten,) = after["a step of ten in one graph"]
    assert one_of_ten <= after["all"][1] - 2  # the draws wait for nothing
    assert before["a step of ten in one graph"] == [before["all"][1]]
