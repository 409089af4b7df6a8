"""The test that was fixed in advance: its analysis, on records that are made up."""

import ast
import re
import subprocess

import numpy as np
import pytest
from scipy import stats

from repro.records import Archive
from repro.studies import headline, preregistered
from repro.studies.preregistered import HYPOTHESES, SEEDS, Fate, Interval, family_interval
from tests import helpers
from tests.helpers import ROOT, write_record

PLAN = "1d60196"


def test_an_interval_is_students_with_the_level_shared_among_ten():
    differences = np.array([0.1, 0.2, 0.6])
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(1 - 0.05 / 10)
    assert len(HYPOTHESES) == 10
    assert family_interval(differences) == pytest.approx((0.3, low, high))


@pytest.mark.parametrize(
    ("low", "high", "fate"),
    [
        (0.11, 0.3, Fate.HOLDS),
        (-0.3, 0.09, Fate.REFUTED),
        (0.05, 0.2, Fate.UNDECIDED),
        (0.1, 0.2, Fate.UNDECIDED),
        (-0.1, 0.1, Fate.UNDECIDED),
    ],
)
def test_a_hypothesis_is_judged_by_where_its_interval_lies(low, high, fate):
    assert Interval((low + high) / 2, low, high).fate(0.1) == fate


def test_before_the_last_run_no_verdict_no_interval_and_no_time_are_told(tmp_path):
    archive = Archive(tmp_path)
    title, rule, first, *_, gap, left = preregistered.table_of_outcomes(archive).splitlines()
    assert title == "| statement | score | must exceed | nats ahead of IWAE | outcome |"
    assert rule == "|---|---|---|---|---|"
    assert first == "| MIWAE's gap is smaller than IWAE's | −KL(Q‖P) | 0.10 | – | not run yet |"
    assert gap == ""
    assert left == f"100 of 100 runs are still to come: `{preregistered.COMMAND}`"
    assert preregistered.interval_of(archive, "miwae", "minus_kl") == "not run"
    assert preregistered.cost(archive) == "no time yet"


def test_the_time_is_the_sum_of_what_the_records_took(tmp_path, monkeypatch):
    seconds = {"training": 1800.0, "evaluation": 30.0}
    for number, e in enumerate(preregistered.trainings_of("iwae")[:2]):
        took = {"seconds": seconds, "device": ("B", "A")[number]}
        monkeypatch.setitem(helpers.__dict__, "PROVENANCE", helpers.PROVENANCE | took)
        write_record(tmp_path, e)
    said = preregistered.cost(Archive(tmp_path))
    assert said == "60.0 minutes of training and 1.0 minutes of evaluation on A and B"


def test_with_every_run_the_differences_are_paired_by_seed(tmp_path):
    """PIWAE is 0.5 nats ahead of IWAE in everything, whatever the seed, and MIWAE 0.5 behind."""
    ahead = {"iwae": 0.0, "piwae": 0.5, "miwae": -0.5, "ciwae": 0.0, "vae": 0.0}
    rng = np.random.default_rng(0)
    of_seed = rng.normal(-90, 5, len(SEEDS))
    for method, lead in ahead.items():
        for e, base in zip(preregistered.trainings_of(method), of_seed, strict=True):
            write_record(tmp_path, e, value=base + lead + rng.normal(0, 0.01))
    archive = Archive(tmp_path)
    text = preregistered.table_of_outcomes(archive)
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    interval = family_interval(preregistered.differences(archive, HYPOTHESES[0]))
    _, _, first, *_ = text.splitlines()
    gap = "MIWAE's gap is smaller than IWAE's"
    assert first == f"| {gap} | −KL(Q‖P) | 0.10 | {interval} | **refuted** |"
    assert "**holds**" in lines["PIWAE's IWAE-64 is higher"]
    assert "**refuted**" in lines["MIWAE's IWAE-64 is higher"]
    assert "**holds**" in lines["The VAE's generative network is not worse"]
    assert "**refuted**" in lines["CIWAE(0.5)'s gap is smaller"]
    assert "still to come" not in text
    assert preregistered.interval_of(archive, "miwae", "minus_kl") == str(interval)
    (ax,) = headline.piwae_beside_iwae(archive).axes
    of_seeds, longest = (text.get_text() for text in ax.get_yticklabels())  # and no Omniglot
    assert of_seeds == longest == f"MNIST, 40 epochs,\n{len(SEEDS)} trainings each"


def test_what_is_analysed_is_what_was_committed_before_the_first_run():
    """Constants and interval, from the commit that the page names, but for names changed since.

    Those are the file's folder, ``profile_name`` as a word of a run, and ``interval``.
    """
    git = {"cwd": ROOT, "capture_output": True, "text": True}
    if subprocess.run(["git", "cat-file", "-e", PLAN], **git).returncode:
        pytest.skip(f"this copy has no commit {PLAN}")
    file = f"{PLAN}:repro/report/preregistered.py"
    shown = subprocess.run(["git", "show", file], **git, check=True)
    assert PLAN in (ROOT / "book" / "preregistered.md").read_text()
    planned = _parts(shown.stdout.replace("profile_name", "profile"))
    now = _parts((ROOT / "repro" / "studies" / "preregistered.py").read_text())
    for name in ("SEEDS", "LEVEL", "RUNS", "COMMAND", "HYPOTHESES"):
        assert planned[name] == now[name]
    assert planned["interval"] == now["family_interval"]
    listed = subprocess.run(["git", "ls-tree", "-r", "--name-only", PLAN, "results"], **git)
    trained = {int(seed) for seed in re.findall(r"-seed(\d+)", listed.stdout)}
    assert trained
    assert not trained & {*SEEDS}


def _parts(source: str) -> dict[str, list[str]]:
    """Every constant's value and every function's body, as syntax trees in text."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            found[node.targets[0].id] = [ast.dump(node.value)]
        if isinstance(node, ast.FunctionDef):
            found[node.name] = [ast.dump(statement) for statement in node.body]
    return found
