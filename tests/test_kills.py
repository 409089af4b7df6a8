"""Whatever moment a run is killed at, the same command ends with the same record.

``REPRO_KILLS`` says how many moments are tried; they are drawn with a seed, evenly among training,
saving, evaluating and writing.
"""

import json
import os
import random
import signal
import subprocess
import sys

import pytest

from repro.records import Archive

KILLS = int(os.environ.get("REPRO_KILLS", "5"))
PARTS = ("training", "saving", "evaluating", "writing")

# A process that trains two runs for an epoch, and then for one more. Its arguments are the folder
# of results, and the part of the work and the number of the call, of Python or C, at which it kills
# itself. At its end it prints how many calls each part has had.
CHILD = """
import json, os, signal, sys
import torch
from repro.words.experiments import plan
from repro import datasets
from repro.training import loop, run, states
from repro.catalogue import MODELS
from repro.records import Archive
from tests.helpers import SMALL, few_digits

results, part, moment = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
MODELS["reference"] = SMALL
few = few_digits()
datasets.load = lambda name, data=None: few
loop.SAVE_EVERY = 0.0
BEGIN = {
    states.save_state.__code__: "saving",
    run.assess.__code__: "evaluating",
    Archive.write.__code__: "writing",
}
now = ["training"]
calls = dict.fromkeys(["training", *BEGIN.values()], 0)

def count(frame, event, argument):
    if event == "return":
        if frame.f_code in BEGIN:
            now.pop()
        return
    if event == "call" and frame.f_code in BEGIN:
        now.append(BEGIN[frame.f_code])
    if event in ("call", "c_call"):
        calls[now[-1]] += 1
        if now[-1] == part and calls[part] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(count)
for epochs in (1, 2):
    runs = plan("piwae,ciwae-learned", profile="smoke", epochs=epochs)
    run.train(runs, results=results, device="cpu", engine="eager", keep_state=True)
sys.setprofile(None)
print(json.dumps(calls))
"""


def train(results, part="none", moment=0):
    return subprocess.run(
        [sys.executable, "-c", CHILD, results, part, str(moment)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def content(results):
    """The bytes of all that a record says, but for its provenance."""
    records = Archive(results).records("smoke")
    assert len(records) == 4
    files = [file for record in records for file in sorted(record.path.iterdir())]
    told = [file for file in files if file.name != "provenance.json"]
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in told}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a run ends with that nobody kills, and how many calls each part has."""
    results = tmp_path_factory.mktemp("undisturbed")
    done = train(results)
    assert done.returncode == 0, done.stderr
    return content(results), json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_any_moment_it_ends_bit_for_bit_the_same(tmp_path, undisturbed, number):
    expected, calls = undisturbed
    part = PARTS[number % len(PARTS)]
    moment = random.Random(number).randint(1, calls[part])
    killed = train(tmp_path, part, moment)
    assert killed.returncode == -signal.SIGKILL, (part, moment, killed.stderr)
    again = train(tmp_path)
    assert again.returncode == 0, again.stderr
    assert content(tmp_path) == expected
    group = tmp_path / "smoke" / "digits-reference"
    assert not list(group.glob("unfinished-*")), "a state or a lock is left"
    assert not list(group.glob("*.partial"))
