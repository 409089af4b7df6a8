"""The command line and the papermill command, as a person types them."""

import errno
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from repro import ReproError, __version__, datasets, figures, records
from repro.cli import main, repro_command
from repro.jupyter.papermill_plugin import STOPPED, CheckedCommand, default_parameters
from repro.records import Archive
from repro.records.estimates import number
from repro.training import run as lab_run
from repro.words.experiments import AT_MILESTONES, plan
from tests.helpers import ROOT, write_record

PAPERMILL = Path(sys.executable).with_name("papermill")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the notebooks and no results."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "results").mkdir()
    monkeypatch.delenv("REPRO_RESULTS_DIR", raising=False)
    monkeypatch.delenv("REPRO_PROFILE", raising=False)
    return tmp_path


def run(*words, cwd, **options):
    """A process that has ended; nothing is on its standard input, unless ``input`` is given."""
    how = {"capture_output": True, "text": True}
    if "input" not in options:
        how["stdin"] = subprocess.DEVNULL
    return subprocess.run([*map(str, words)], cwd=cwd, **how, **options)


def repro(*words, cwd):
    return run(sys.executable, "-m", "repro", *words, cwd=cwd)


def test_train_evaluate_and_tables(here):
    done = repro("train", "--method", "vae", "--epochs", 1, "--profile", "smoke", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "smoke profile: vae-M64-K1-seed0-epochs1" in done.stdout
    assert "should take about" in done.stdout
    (experiment,) = plan("vae", epochs=1, profile="smoke")
    path = Archive(here / "results").path_of(experiment)
    assert str(path) in done.stdout
    assert not list(here.rglob("unfinished-*"))
    provenance = records.read(path).provenance
    assert provenance.data["sha256"]
    assert provenance.seconds["training"] > 0

    again = repro("train", "--method", "vae", "--epochs", 1, "--profile", "smoke", cwd=here)
    assert again.returncode == 0
    assert "epoch" not in again.stdout.replace("epochs1", "")
    for said in (done.stdout, again.stdout):
        assert said.splitlines()[-8] == str(path)
        assert said.splitlines()[-1].startswith("  active_units")

    assert "the curves so far are in " in done.stdout
    evaluated = repro("evaluate", path, cwd=here)
    assert evaluated.returncode == 0, evaluated.stderr
    now, recorded, _, *scores, last = evaluated.stdout.splitlines()
    assert now.removeprefix("now") == recorded.removeprefix("recorded")
    assert last.startswith("they agree within their errors")
    assert len(scores) == len(records.METRICS)
    for line in scores:
        name, value, _, se, was, _, was_se, *_ = line.split()
        assert (value, se) == (was, was_se), name

    shown = number(records.read(path).metrics["log_px"]["value"])
    assert shown in repro("tables", "--profile", "smoke", cwd=here).stdout
    assert "Usage" in repro(cwd=here).stdout


def test_scores_that_are_not_those_recorded_have_exit_status_1(here, monkeypatch, capsys):
    few = {"profile": "smoke", "epochs": 1, "K": 2, "hidden": 10, "latent": 3}
    (record,) = lab_run.train(plan("iwae", **few), results=here / "results")
    digits = datasets.load("digits")
    np.savez(here / "mine.npz", train=digits.train, test=digits.train[:100])
    np.savez(here / "small.npz", train=digits.train[:, :100], test=digits.test[:, :100])
    command = ["evaluate", str(record.path), "--samples", "10"]
    capsys.readouterr()
    assert main([*command, "--dataset", str(here / "mine.npz")]) == 0
    said = capsys.readouterr().out
    assert "these are other images than the recorded ones" in said
    assert "agree" not in said
    assert main([*command, "--dataset", str(here / "small.npz")]) == 2
    line = "have not the model's 784 pixels\n"
    assert capsys.readouterr().err.endswith(line)
    weights = record.weights()
    weights["decoder.logits.bias"] += 0.1
    monkeypatch.setattr(records.Record, "weights", lambda self: weights)
    assert main(command) == 1
    assert "they differ in iwae_64, elbo" in capsys.readouterr().out


WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder


class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not to be imported")


sys.meta_path.insert(0, NoTorch())
from repro.__main__ import main
from repro.records import Archive

assert main(["--help"]) == main(["train", "--help"]) == 0
assert not sys.modules.keys() & {"pandas", "scipy", "matplotlib", "safetensors"}
assert main(["status", "--profile", "full"]) == main(["tables", "table1"]) == 0
assert not sys.modules.keys() & {"matplotlib", "seaborn"}
record = Archive().records("full")[0]
assert len(record.curve) == record.experiment.epochs
"""


def test_help_status_tables_and_records_need_no_torch():
    done = run(sys.executable, "-c", WITHOUT_TORCH, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage: python -m repro" in done.stdout
    assert "IWAE" in done.stdout


def test_a_time_limit_leaves_resumable_state_and_status_3(here):
    words = ("train", "--method", "iwae,vae", "--epochs", 1, "--profile", "smoke")
    words += ("--hidden", 10, "--latent", 2)
    stopped = repro(*words, "--time-limit", 0, cwd=here)
    assert stopped.returncode == 3
    assert "the same command goes on from there" in stopped.stdout
    assert len(list(here.rglob("unfinished-*.pt"))) == 1
    assert repro(*words, cwd=here).returncode == 0
    again = repro(*words, cwd=here).stdout
    assert again.count("is there already; make it again with --results ELSEWHERE\n") == 2
    assert len(Archive(here / "results").records("smoke")) == 2


def test_time_that_is_up_between_training_and_evaluation_loses_nothing(
    monkeypatch, tmp_path, capsys
):
    """At least one record is written in each call."""
    fit = lab_run.loop.fit

    def fit_to_the_end(runs, dataset, state, device, stop, late, *rest, **how):
        never = (lambda: False, lambda: False)
        return fit(runs, dataset, state, device, *never, *rest, **how)

    runs = plan("iwae,vae", profile="smoke", epochs=1, hidden=10, latent=2)
    monkeypatch.setattr(lab_run.loop, "fit", fit_to_the_end)
    for there in (0, 1, 2):
        assert len(lab_run.train(runs, results=tmp_path, time_limit=0)) == there
        assert bool([*tmp_path.rglob("unfinished-*")]) == (there < 2)
    assert "trained, and stopped before all was evaluated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("train --method pwiae", "unknown method 'pwiae'; did you mean 'piwae'?"),
        ("train --metod piwae", "No such option '--metod'"),
        ("train --device tpu", "device 'tpu' is not available here; use cpu"),
        ("train --engine compield", "unknown engine 'compield'; did you mean 'compiled'?"),
        ("train --precision bf61", "unknown precision 'bf61'; did you mean 'bf16'?"),
        ("train --precision tf32 --device cpu", "precision 'tf32' is not available on this cpu"),
        (f"sweep {ROOT}/workflow/sweeps/thousand.yaml", "precision 'tf32' is not available on cpu"),
        ("trian", "No such command 'trian'"),
        ("data mnits", "unknown dataset 'mnits'; did you mean 'mnist'?"),
        ("evaluate /nowhere", "there is no record in /nowhere; name the folder of one run"),
        ("evaluate results", "there is no record in "),
        ("verify --records-only", "there are no records in "),
        ("train --device meta", "device 'meta' is not available here"),
        ("train --device cpu:0", "device 'cpu:0' is not available here; use cpu"),
        ("train --time-limit nan", "the time limit is nan; give seconds, 0 or more"),
        ("tables --results typo", "there is no folder typo; name the one"),
        ("status --results typo", "there is no folder typo; name the one"),
        ("likelihood --results typo", "there is no folder typo; name the one"),
        ("likelihood", "there are no such models with weights in "),
        ("train --tag a\nb", r"tag is 'a\nb'; give lower-case letters"),
        ("figures --folder /proc/a\nb", r"/proc/a\nb: No such file or directory"),
        ("show typo", "there is no record in "),
        ("show", "Missing argument 'RECORD...'"),
        ("compare typo results", "there is no record in "),
        ("compare typo", "Missing argument 'B'"),
        ("tables --profile ful", "unknown profile 'ful'; did you mean 'full'?"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(here, monkeypatch, capsys, words, line):
    monkeypatch.chdir(here)
    assert main(words.split(" ")) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith(f"repro: {line}")
    assert not list((here / "results").iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-p", "method", "pwiae"], "unknown method 'pwiae'; did you mean 'piwae'?"),
        (["-p", "metod", "piwae"], "unknown parameter 'metod'; did you mean 'method'?"),
        (["-p", "dataset", "omniglott"], "unknown dataset 'omniglott'; did you mean 'omniglot'?"),
        (["-p", "method", "ciwae", "-p", "beta", "2"], "beta is 2; give a number between 0"),
        (["-p", "engine", "quick"], "unknown engine 'quick'; there are auto"),
        (["-y", "{precision: tf32, device: cpu}"], "precision 'tf32' is not available on this cpu"),
        (["-y", "{method: gna}"], "unknown method 'gna'; there are iwae"),
        (["-y", "foo"], "the parameters given as YAML cannot be read"),
        (["-b", "%%%"], "the parameters given as YAML cannot be read (Only base64 data"),
        (["-p", "device", "tpu", "out.ipynb"], "device 'tpu' is not available here"),
        (["-p", "device", "None"], "device 'None' is not available here"),
        (["-p", "device", "1.5"], "device '1.5' is not available here"),
        (["-p", "device", "True"], "device 'True' is not available here"),
        (["-y", "{seed: []}"], "no seed is given; name one"),
        (["-y", "{method: []}"], "no method is given; name one, or all"),
        (["-p", "dataset", ""], "unknown dataset ''; there are digits"),
        (["-p", "dataset", "0"], "unknown dataset '0'; there are digits"),
        (["-p", "results", ""], "results is empty; name a folder, or leave it out"),
        (["-p", "data", ""], "data is empty; name a folder, or leave it out"),
        (["-y", "{results: false}"], "results is False; give the name of a folder as text"),
        (["-p", "results", "notebooks/train.ipynb"], "results 'notebooks/train.ipynb' is a file"),
        (["-p", "results", "x" * 300], "results 'xxxx"),
        (["nowhere/out.ipynb"], "there is no folder nowhere for the output; make it first"),
        (["-k", "pyton3"], "unknown kernel 'pyton3'; did you mean 'python3'?"),
    ],
)
def test_papermill_checks_before_a_kernel_starts(here, monkeypatch, capsys, words, line):
    from papermill.cli import papermill

    monkeypatch.chdir(here)
    with pytest.raises(SystemExit) as ended:
        papermill(["notebooks/train.ipynb", *words])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err.startswith(f"papermill: {line}")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert {p.name for p in here.iterdir()} == {"notebooks", "results"}


def test_where_the_executed_notebook_cannot_be_written_an_output_path_is_asked_for(here):
    (here / "_build").write_text("in the way")
    done = run(PAPERMILL, "notebooks/train.ipynb", cwd=here)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "give an output path after the notebook's" in done.stderr


def prepared(*words, cwd, **options):
    """What papermill would run, without running it: the output's name, and its parameters."""
    before = {*cwd.rglob("*.ipynb")}
    words = ["--prepare-only", *words, "-p", "profile", "smoke"]
    done = run(PAPERMILL, *words, cwd=cwd, **options)
    assert done.returncode == 0, done.stderr
    (path,) = {*cwd.rglob("*.ipynb")} - before
    found = default_parameters(json.loads(path.read_text()), "injected-parameters")
    return path.name, found


VAE = "train-smoke-digits-reference-vae-M64-K1-seed0.ipynb"


def test_a_folder_whose_name_is_a_number_stays_a_text(here):
    words = ["-p", "results", "007", "-p", "seed", "7", "-y", "{epochs: 010, binarise: once}"]
    _, found = prepared("notebooks/train.ipynb", *words, cwd=here)
    expected = {"results": "007", "seed": 7, "epochs": 10, "binarise": "once"}
    assert found == expected | {"profile": "smoke"}


def test_parameters_that_can_be_read_but_once_reach_the_notebook(here):
    expected = (VAE, {"method": "vae", "profile": "smoke"})
    notebook = "notebooks/train.ipynb"
    assert prepared(notebook, "-f", "-", cwd=here, input="method: vae\n") == expected
    os.mkfifo(here / "pipe")
    writer = subprocess.Popen(["sh", "-c", "echo method: vae > pipe"], cwd=here)
    (here / "_build/notebooks" / VAE).unlink()
    assert prepared(notebook, "-f", "pipe", cwd=here) == expected
    writer.wait()


def test_a_notebook_that_can_be_read_but_once_reaches_papermill(here):
    os.mkfifo(here / "pipe.ipynb")
    writer = subprocess.Popen(["sh", "-c", "cat notebooks/train.ipynb > pipe.ipynb"], cwd=here)
    words = ["--prepare-only", "pipe.ipynb", "out.ipynb", "-p", "method", "vae"]
    done = run(PAPERMILL, *words, cwd=here)
    writer.wait()
    assert done.returncode == 0, done.stderr
    assert (here / "out.ipynb").exists()


def test_an_executed_notebook_that_is_run_again_is_called_after_what_it_trains(here):
    prepared("notebooks/train.ipynb", "-p", "method", "vae", cwd=here)
    shutil.move(here / "_build/notebooks" / VAE, here / "train.ipynb")
    assert run(PAPERMILL, "--prepare-only", "train.ipynb", cwd=here).returncode == 0
    assert (here / "_build/notebooks" / VAE).exists()  # its parameters stand
    name, _ = prepared("train.ipynb", cwd=here)  # others take their place
    assert name == "train-smoke-digits-reference-iwae-M1-K64-seed0.ipynb"


def test_files_are_those_that_the_kernel_will_find(here):
    (here / "sub").mkdir()
    (here / "sub/b.py").write_text("from repro.bounds import iwae as mine\n")
    words = ["notebooks/train.ipynb", "--cwd", "sub", "-p", "profile", "smoke", "-p", "method"]
    assert run(PAPERMILL, "--prepare-only", *words, "b.py:mine", cwd=here).returncode == 0
    done = run(PAPERMILL, *words, "sub/b.py:mine", cwd=here)
    assert done.stderr == "papermill: there is no file sub/b.py with a bound\n"
    done = run(PAPERMILL, "notebooks/train.ipynb", "--cwd", "nowhere", cwd=here)
    assert done.stderr.startswith("papermill: there is no folder nowhere to run the notebook in")


def test_a_record_s_config_plans_the_same_run(here):
    """Which has the layout of the released code, too."""
    (e,) = plan("ciwae", protocol="released", beta=0.3, seed=2, epochs=3, profile="smoke")
    config = write_record(here / "results", e) / "config.json"
    name, _ = prepared("notebooks/train.ipynb", "-f", config, cwd=here)
    assert name == f"train-smoke-digits-reference-{e.name}.ipynb"


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-"])
def test_streams_that_are_closed_are_no_fault(here, closed):
    words = f"{sys.executable} -m repro train --method vae --profile smoke --time-limit 0"
    done = run("sh", "-c", f"{words} {closed}", cwd=here)
    assert done.returncode == 3, done.stderr
    words = f"{PAPERMILL} --prepare-only notebooks/train.ipynb -p method vae -p profile smoke"
    assert run("sh", "-c", f"{words} {closed}", cwd=here).returncode == 0


def test_help_is_the_same_where_python_drops_docstrings(here):
    for words in (["-h"], ["sweep", "-h"]):
        usual, bare = (
            run(sys.executable, *flags, "-m", "repro", *words, cwd=here) for flags in ([], ["-OO"])
        )
        assert bare.stdout == usual.stdout
        assert bare.stdout.count("\n") > 10


def test_a_tilde_is_the_home_folder_in_every_path(here, monkeypatch):
    (e,) = plan("vae", epochs=1, profile="smoke")
    monkeypatch.setenv("HOME", str(here))
    path = write_record(here / "mine", e, weights={"w": torch.ones(2)})
    monkeypatch.setenv("REPRO_RESULTS_DIR", "~/mine")
    assert Archive().holds(e)
    assert Archive("~/mine").holds(e)
    (from_there,) = plan("vae", weights=f"~/{path.relative_to(here)}", profile="smoke")
    assert from_there.weights
    (here / "b.py").write_text("from repro.bounds import iwae as mine\n")
    assert plan("~/b.py:mine", profile="smoke")
    monkeypatch.setenv("REPRO_DATA_DIR", "~/data")
    with pytest.raises(ReproError, match=f"{here}/data/mnist"):
        datasets.load("mnist")
    assert main(["figures", "figure5", "--folder=~/drawn", "--profile", "smoke"]) == 0
    assert (here / "drawn/figure5.svg").exists()


MISTAKES = (
    "from repro.words.experiments import plan\nplan('pwiae')",
    "from repro import tables\ntables.table1('ful')",
    "from repro.records import read\nread('typo')",
)


def test_a_mistake_in_a_notebook_is_one_line_in_the_cell(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in (*MISTAKES, "1 / 0")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, allow_errors=True, kernel_name="python3").execute(cwd=tmp_path)
    *of_users, of_code = [cell.outputs[0] for cell in notebook.cells]
    lines = (
        "repro: unknown method 'pwiae'; did you mean 'piwae'?",
        "repro: unknown profile 'ful'; did you mean 'full'?",
        "repro: there is no record in ",
    )
    for output, line in zip(of_users, lines, strict=True):
        (shown,) = output.traceback
        assert shown.startswith(line)
        assert "\n" not in shown
        assert output.ename == "ReproError"
    assert "Traceback" in "".join(of_code.traceback)


@pytest.mark.slow
def test_papermill_stopped_by_ctrl_c_says_last_that_the_same_command_goes_on(here):
    """As at a terminal: the kernel gets the signal, too, and may print what it makes of it."""
    words = ["notebooks/train.ipynb", "-p", "profile", "smoke", "-p", "epochs", "400"]
    process = subprocess.Popen(
        [PAPERMILL, *words],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # where tests run in the background, a shell has let them ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.startswith("epoch 2 "):
            break
    os.killpg(process.pid, signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    rest = said.splitlines()
    assert process.returncode == 1
    assert rest[-1] == STOPPED
    assert list((here / "results").rglob("unfinished-*.pt"))


INTERRUPTED_WITH_THE_KERNEL_DEAD = """
import asyncio
import sys

from papermill.cli import papermill


async def dies():
    raise RuntimeError("Kernel died")


async def interrupted():
    await asyncio.sleep(0)  # the task has failed by now, and nobody asks it
    raise KeyboardInterrupt


def execute_notebook(**given):
    global task
    loop = asyncio.new_event_loop()
    task = loop.create_task(dies())
    loop.run_until_complete(interrupted())


sys.modules["papermill.cli"].execute_notebook = execute_notebook
papermill()
"""


def test_papermill_stopped_says_so_last_even_if_tasks_of_a_dead_kernel_are_left(here):
    """asyncio prints what became of a task when the task is thrown away, which is at the end."""
    words = ["notebooks/train.ipynb", "-p", "profile", "smoke"]
    done = run(sys.executable, "-c", INTERRUPTED_WITH_THE_KERNEL_DEAD, *words, cwd=here)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == STOPPED


def test_a_state_that_finds_no_room_is_one_line_and_leaves_nothing_half_written(here):
    """No file may be larger than a megabyte, as on a disk that is full."""

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    words = ["-m", "repro", "train", "--method", "vae", "--epochs", 1, "--profile", "smoke"]
    done = run(sys.executable, *words, cwd=here, preexec_fn=small_files)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "could not be written" in done.stderr
    assert "nothing had been saved yet" in done.stderr
    assert not list(here.rglob("*.partial"))


def test_a_whole_record_in_a_folder_that_may_only_be_read_is_there_already(here, monkeypatch):
    (e,) = plan("vae", epochs=1, profile="smoke")
    write_record(here / "results", e)

    def read_only(path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    (record,) = lab_run.train([e], results=here / "results")
    assert record.experiment == e


def test_papermill_checks_what_an_exhibit_needs(here):
    done = run(PAPERMILL, "notebooks/table2.ipynb", "-p", "profile", "smoke", cwd=here)
    line = "table2 needs more than the smoke profile has; give profile short or full"
    assert done.returncode == 2
    assert done.stderr == f"papermill: {line}\n"


def test_what_an_exhibit_finds_out_later_is_one_line_too(here):
    done = run(PAPERMILL, "notebooks/audit.ipynb", "-p", "results", here / "nowhere", cwd=here)
    assert done.returncode == 2
    line = f"papermill: there is no {here}/nowhere/published/logs.csv; make it with: python -m "
    line += f"repro audit --results {here}/nowhere"
    assert done.stderr.splitlines()[-1].startswith(line)
    # Nothing else of it is there. On a slow machine zmq may add a line of its own.
    assert "ReproError" not in done.stderr
    assert "PapermillExecutionError" not in done.stderr


def at_a_terminal(words, cwd):
    """Run with a terminal for standard output and error.

    Returns what appeared on it and the exit status.
    """
    parent, child = pty.openpty()
    process = subprocess.Popen(
        list(map(str, words)), cwd=cwd, stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    shown = b""
    while True:
        try:
            chunk = os.read(parent, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(parent)
    return shown.decode(), process.wait()


PIWAE = ["-p", "method", "piwae", "-p", "epochs", "1", "-p", "profile", "smoke"]
PIWAE += ["-p", "hidden", "10", "-p", "latent", "2"]
NOTEBOOK = "train-smoke-digits-reference-hidden10-latent2-piwae-M8-K8-seed0-epochs1.ipynb"


def cells_ran(path):
    notebook = json.loads(path.read_text())
    return all(c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code")


@pytest.mark.slow
def test_papermill_trains_at_a_terminal_from_the_root(here):
    shown, status = at_a_terminal([PAPERMILL, "notebooks/train.ipynb", *PIWAE], here)
    assert status == 0, shown
    assert "should take about" in shown
    assert "epoch 1 of 1" in shown
    assert cells_ran(here / "_build/notebooks" / NOTEBOOK)
    assert len(Archive(here / "results").records("smoke")) == 1


@pytest.mark.slow
def test_papermill_trains_in_a_pipe_from_the_notebooks_folder(here):
    done = run(PAPERMILL, "train.ipynb", *PIWAE, cwd=here / "notebooks", input="")
    assert done.returncode == 0, done.stderr
    assert "epoch 1 of 1" in done.stdout
    assert '"cells"' not in done.stdout
    assert cells_ran(here / "_build/notebooks" / NOTEBOOK)
    assert len(Archive(here / "results").records("smoke")) == 1


@pytest.mark.slow
def test_papermill_trains_with_an_output_path_and_a_results_folder(here):
    words = ["mine.ipynb", *PIWAE, "-p", "results", here / "elsewhere"]
    done = run(PAPERMILL, "notebooks/train.ipynb", *words, cwd=here)
    assert done.returncode == 0, done.stderr
    assert cells_ran(here / "mine.ipynb")
    assert len(Archive(here / "elsewhere").records("smoke")) == 1
    assert not (here / "_build").exists()


def test_of_all_commands_papermills_alone_is_checked():
    import click
    from papermill.cli import papermill

    assert type(papermill) is CheckedCommand
    assert click.Command.main.__module__ == click.Command.invoke.__module__ == "click.core"


def test_papermill_leaves_other_notebooks_alone(here):
    notebook = json.loads((here / "notebooks/table1.ipynb").read_text())
    notebook["metadata"].pop("repro")
    notebook["cells"] = []
    (here / "other.ipynb").write_text(json.dumps(notebook))
    shown, status = at_a_terminal([PAPERMILL, "other.ipynb"], here)
    assert status == 2
    assert "Missing argument 'OUTPUT_PATH'" in shown


@pytest.mark.parametrize(
    ("words", "measured"),
    [("", ("log-px",)), ("--no-milestones", ()), ("--milestones log-px,gradients", AT_MILESTONES)],
)
def test_what_is_measured_at_milestones(words, measured, monkeypatch):
    asked = []
    monkeypatch.setattr(lab_run, "train", lambda runs, *how: asked.append(how) or [])
    assert main(["train", "--profile", "smoke", *words.split()]) == 3, "no record came of it"
    assert measured in asked[0]


def test_no_figure_is_drawn_if_one_does_not_exist(here, capsys):
    assert main(["figures", "bound", "bond", "--folder", str(here / "new")]) == 2
    assert "unknown figure 'bond'; did you mean 'bound'?" in capsys.readouterr().err
    assert not (here / "new").exists()


@pytest.mark.parametrize("names", [[], ["all"]])
def test_all_figures_may_be_asked_for_by_that_word(here, monkeypatch, names):
    monkeypatch.setattr(figures, "FIGURES", {"bound": figures.FIGURES["bound"]})
    assert main(["figures", *names, "--folder", str(here), "--results", str(here)]) == 0
    assert {path.name for path in here.glob("bound.*")} == {"bound.svg", "bound.png"}


@pytest.mark.parametrize("place", ["", "    "])
def test_a_signal_ends_the_trial_of_a_bound_as_it_ends_all_else(here, place):
    """In the file, or in the bound that it defines."""
    end = f"def f(log_w):\n    pass\n{place}os.kill(os.getpid(), signal.SIGTERM)\n"
    (here / "mine.py").write_text(f"import os, signal\n{end}")
    done = repro("train", "--method", "mine.py:f", "--profile", "smoke", cwd=here)
    assert (done.returncode, done.stderr) == (128 + 15, "")


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        repro_command(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.slow
def test_a_bound_with_greek_letters_trains_under_a_locale_that_has_none(here):
    (here / "greek.py").write_text(
        'from repro.bounds import iwae\n\ndef f(log_w):\n    """β"""\n    print("β")\n'
        "    return iwae(log_w)\n",
        encoding="utf-8",
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    words = "train --method greek.py:f --profile smoke --epochs 1 --hidden 10 --latent 2"
    command = [sys.executable, "-m", "repro", *words.split()]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=here)
    assert done.returncode == 0, done.stderr
    (source,) = (here / "results").rglob("bound.py")
    assert '"""β"""' in source.read_text(encoding="utf-8")
