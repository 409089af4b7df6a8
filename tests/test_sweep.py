"""Many runs, packed into jobs."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from repro import ReproError
from repro.__main__ import main
from repro.catalogue import OMNIGLOT
from repro.ops import sweep
from repro.records import Archive
from repro.studies.stacks import stacks_on_gpu
from repro.training import costs
from repro.training.costs import DEVICE_COSTS, log_weights_to_evaluate
from repro.words.experiments import PROFILES, plan
from tests.helpers import ROOT, write_record


def listed(tmp_path, text):
    file = tmp_path / "runs.yaml"
    file.write_text(text)
    return file


def test_a_file_lists_runs_in_the_words_of_train(tmp_path):
    file = listed(tmp_path, "- {profile: smoke, method: 'piwae,miwae', M: 4, K: 16, seed: '3,5'}\n")
    expected = plan("piwae,miwae", M=4, K=16, seed="3,5", profile="smoke")
    assert sweep.listed_runs(file) == expected


def test_a_number_with_a_zero_before_it_is_in_tens_and_no_is_a_word(tmp_path):
    (e,) = sweep.listed_runs(listed(tmp_path, "- {profile: smoke, method: vae, seed: 010}"))
    assert e.seed == 10
    with pytest.raises(ReproError, match="are not binarised"):
        sweep.listed_runs(listed(tmp_path, "- {profile: smoke, method: vae, binarise: no}"))


def test_lists_are_every_combination_and_defaults_hold_for_all_groups(tmp_path):
    file = listed(
        tmp_path,
        """
        defaults: {profile: smoke, seed: [0, 1], epochs: 2}
        runs:
        - {method: piwae, M: [4, 8], batch_size: [20, 50]}
        - {method: [vae, ciwae], beta: [0.1, 0.9], epochs: 1}
        """,
    )
    runs = sweep.listed_runs(file)
    assert len(runs) == 2 * 2 * 2 + 2 * (1 + 2)
    assert runs[:2] == plan("piwae", M=4, batch_size=20, seed="0,1", epochs=2, profile="smoke")
    assert {e.epochs for e in runs if e.method != "piwae"} == {1}


def test_a_file_of_runs_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    listed(tmp_path, "- {profile: smoke, method: vae}")
    assert len(sweep.listed_runs("~/runs.yaml")) == 1


def test_the_plan_names_methods_and_seeds(tmp_path):
    file = listed(tmp_path, "- {profile: smoke, method: 'iwae,vae', seed: [3, 7]}")
    said = sweep.jobs_as_text(sweep.jobs_of(sweep.listed_runs(file)), "cpu", 60)
    assert "iwae,vae" in said
    assert "3,7" in said
    many = plan("vae", seed=list(range(100, 140)), profile="smoke")
    assert "40 from 100 to 139" in sweep.jobs_as_text(sweep.jobs_of(many), "cpu", 60)


def dry_run(folder, *config):
    """What Snakemake says that it would do, and by which commands."""
    words = ["-s", ROOT / "workflow" / "sweep.smk", "-n", "-p", "--cores", "1", "--config", *config]
    command = [sys.executable, "-m", "snakemake", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["my runs.yaml", "$(touch X).yaml", "it's {mine}.yaml"])
def test_a_sweep_s_file_may_have_any_name(tmp_path, name):
    """As Snakemake's dry run prints them, its commands are those that a shell carries out."""
    (tmp_path / name).write_text("- {profile: smoke, method: vae, epochs: 1}")
    said = dry_run(tmp_path, f"sweep={name}", "results=my results")
    (command,) = [line for line in said.splitlines() if "-m repro sweep" in line]
    assert {name, "my results"} <= {*shlex.split(command)}
    assert not (tmp_path / "X").exists()


def test_jobs_of_other_runs_or_of_records_elsewhere_are_not_done_with_these(tmp_path):
    """As Snakemake names the file that says so."""
    done = set()
    for seeds, results in (("0", "a"), ("[0, 1]", "a"), ("0", "b")):
        (tmp_path / "my.yaml").write_text(f"- {{profile: smoke, method: vae, seed: {seeds}}}")
        said = dry_run(tmp_path, "sweep=my.yaml", f"results={results}")
        done |= {*re.findall(r"_build/sweeps/my-\w{16}", said)}
    assert len(done) == 3


def test_a_run_that_two_groups_name_is_listed_once(tmp_path):
    file = listed(tmp_path, "- {profile: smoke, method: vae}\n- {profile: smoke, method: all}\n")
    runs = sweep.listed_runs(file)
    assert len(runs) == len(set(runs)) == 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- {profile: smoke, metod: vae}", "unknown word in .*; did you mean 'method'?"),
        ("- {profile: smoke, method: vea}", "unknown method 'vea'; did you mean 'vae'?"),
        ("- {method: vae}", "unknown profile in .* 'None'; there are smoke, short, full"),
        ("method: vae", "is no list of groups of runs"),
        ("- vae", "is no list of groups of runs"),
        ("[]", "lists no runs"),
        ("- {method: [", "cannot be read"),
        ("- {profile: smoke, method: vae, seed: 1:20}", "cannot be read"),
        ("- {profile: smoke, seed: 1, seed: 2}", "seed is there twice"),
        ("[" * 5000, "nested too deeply"),
        ("- {profile: smoke, M: []}", "a list in .* is empty"),
        ("{defaults: 3, runs: []}", "is no list of groups of runs"),
        ("{defaults: {metod: vae}, runs: [{profile: smoke}]}", "did you mean 'method'"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, text, line):
    with pytest.raises(ReproError, match=line):
        sweep.listed_runs(listed(tmp_path, text))


def test_a_file_that_is_not_there_is_one_line(capsys):
    assert main(["sweep", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == (
        "repro: nowhere.yaml: No such file or directory; name a file that lists runs\n"
    )


def test_every_run_is_in_one_job_with_runs_that_share_its_stack():
    runs = plan("all", "mnist", seed="0,1,2", profile="short")
    runs += [replace(e, epochs=4) for e in runs] + plan("all", model="larger", profile="short")
    for device in costs.DEVICE_COSTS:
        jobs = sweep.jobs_of(runs, device, slot=60)
        assert sorted(e.name for job in jobs for e in job.runs) == sorted(e.name for e in runs)
        assert all(len({e.shared for e in job.runs}) == 1 for job in jobs)
        assert len({job.name for job in jobs}) == len(jobs)


def test_jobs_keep_within_their_slot_and_memory_and_are_of_one_size():
    runs = plan("all", "mnist", seed=",".join(map(str, range(20))), profile="short")
    runs = [replace(e, precision="tf32") for e in runs]
    jobs = sweep.jobs_of(runs, "cuda", slot=15, memory=40)
    assert all(job.cost.seconds <= 15 * 60 and job.cost.memory <= 40 for job in jobs)
    sizes = [len(job.runs) for job in jobs]
    assert max(sizes) - min(sizes) <= 1
    assert len(sweep.jobs_of(runs, "cuda", slot=15, memory=20)) > len(jobs)
    assert len(sweep.jobs_of(runs, "cuda", slot=6, memory=40)) > len(jobs)


def test_runs_longer_than_a_slot_are_alone_on_a_processor_and_together_on_a_gpu():
    runs = plan("all", "mnist", profile="full")
    assert [len(job.runs) for job in sweep.jobs_of(runs, "cpu", slot=60)] == [1] * 5
    (together,) = sweep.jobs_of(runs, "cuda", slot=10)
    assert len(together.runs) == 5
    assert together.cost.seconds > 600


def test_without_room_for_one_run_there_is_one_line():
    with pytest.raises(ReproError, match=r"needs 2\.7 GB, and a job may have 1; give"):
        sweep.jobs_of(plan("vae", profile="short"), "cuda", memory=1)
    for slot in (0, 1e-310, float("nan")):
        with pytest.raises(ReproError, match="must be above 0"):
            sweep.jobs_of(plan("vae", profile="short"), slot=slot)


def test_the_command_prints_the_jobs_and_trains_one(tmp_path, capsys, small):
    file = listed(tmp_path, "- {profile: smoke, method: vae, epochs: 1}\n")
    assert main(["sweep", str(file)]) == 0
    said = capsys.readouterr().out
    assert "job001  1       digits-reference, 1 epoch" in said
    assert "1 run in 1 job" in said
    words = ["sweep", str(file), "--job", "job001", "--results", str(tmp_path)]
    assert main([*words, "--time-limit", "0"]) == 3
    assert main(words) == 0
    assert (tmp_path / "smoke/digits-reference/vae-M64-K1-seed0-epochs1/metrics.json").exists()
    assert main(["sweep", str(file), "--job", "job002"]) == 2
    assert "unknown job 'job002'; did you mean 'job001'?" in capsys.readouterr().err


# cluster.md


@pytest.fixture(scope="module")
def thousand():
    return sweep.listed_runs(ROOT / "workflow" / "sweeps" / "thousand.yaml")


def hours(runs, device, **room):
    return sum(job.cost.seconds for job in sweep.jobs_of(runs, device, **room)) / 3600


def test_a_thousand_trainings_take_what_the_chapter_says(thousand):
    assert len(thousand) == 1000
    on_gpu = hours(thousand, "cuda", slot=30, memory=70)
    assert 2 < on_gpu < 3
    assert 1 < on_gpu * costs.DEVICE_COSTS["cuda"].watts / 1000 < 2
    in_float32 = [replace(e, precision="float32") for e in thousand]
    assert 800 < hours(in_float32, "cpu") < 900


def test_the_model_of_costs_is_as_near_to_the_records_as_the_chapter_says():
    stacks = stacks_on_gpu(Archive())
    assert max(len(stack.records) for stack in stacks) == 36
    assert {len(stack.records) for stack in stacks} == {5, 7, 25, 36}
    assert all(abs(stack.expected / stack.measured - 1) < 0.04 for stack in stacks)


def test_evaluation_is_counted_from_where_a_training_is():
    (e,) = plan("vae", profile="short", epochs=13)
    samples = PROFILES["short"].log_px_samples
    at_end = 10_000 * (64 + samples)
    every_epoch = 10_000 * 64
    at_milestone = 1000 * (64 + samples)
    assert log_weights_to_evaluate(e, 10_000) == 13 * every_epoch + 2 * at_milestone + at_end
    assert log_weights_to_evaluate(e, 10_000, done=4) == 9 * every_epoch + at_end
    assert log_weights_to_evaluate(e, 10_000, at_milestones=False) == 13 * every_epoch + at_end


def test_late_in_training_every_eighth_epoch_is_evaluated():
    (e,) = plan("vae", profile="short", epochs=364)
    late = len(range(128, 364, 8)) + 1  # and the milestone at the end
    before = log_weights_to_evaluate(e, 1, done=0, at_milestones=False)
    after = log_weights_to_evaluate(e, 1, done=121, at_milestones=False)
    assert before - after == 64 * 121
    assert after == 64 * (late + 1) + PROFILES["short"].log_px_samples


def test_both_versions_of_omniglot_cost_about_the_same():
    machine = DEVICE_COSTS["cpu"]
    seconds = [
        machine.cost(plan("vae", name, profile="full")).seconds for name in ("omniglot", OMNIGLOT)
    ]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.01)


def test_records_of_one_stack_share_its_time_and_those_of_two_do_not(tmp_path):
    """Five seeds at a time are one stack of the test that was fixed in advance."""
    words = {"profile": "short", "precision": "tf32", "epochs": 2}
    for e in plan("vae,iwae", seed="10,11,15", **words):
        write_record(tmp_path, e)
    for path in tmp_path.rglob("provenance.json"):
        told = json.loads(path.read_text())
        told["seconds"]["training"] = 40.0
        path.write_text(json.dumps(told))
    stacks = stacks_on_gpu(Archive(tmp_path))
    assert [len(stack.records) for stack in stacks] == [2, 4]
    assert [stack.measured for stack in stacks] == [80, 160]
