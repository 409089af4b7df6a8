"""The examples of models of one's own run, and training helps them."""

import re
import runpy
import time

import pytest
import torch

import repro
from repro import bounds, datasets
from repro.bounds import METHODS
from repro.cli import main
from repro.records import read
from tests.helpers import ROOT

MODELS = {"two_layers": "TwoLayers", "flow_posterior": "flow_posterior"}


def trained(make, steps):
    """Log p-hat of the first test digits after some steps with IWAE's bound."""
    torch.manual_seed(0)
    digits = datasets.load("digits")
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        batch = digits.train[torch.randint(len(digits.train), (20,))].bernoulli()
        repro.backward(model, batch, method="iwae", M=1, K=8, estimator="stl")
        optimizer.step()
    return float(repro.log_px(model, digits.test[:50].bernoulli(), K=200).mean())


def named_in(example):
    return runpy.run_path(str(ROOT / "examples" / f"{example}.py"))


def test_every_example_is_tried():
    there = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert there == {*MODELS, "own_loop", "watch_training"}


@pytest.mark.parametrize(("example", "name"), MODELS.items(), ids=MODELS)
def test_a_models_example_trains(example, name):
    make = named_in(example)[name]
    assert trained(make, steps=40) > trained(make, steps=1) + 50


def test_the_example_of_a_loop_trains():
    main = named_in("own_loop")["main"]
    assert main(steps=40) > main(steps=1) + 50


def test_the_example_for_tensorboard_writes_what_the_record_has(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    few = {"M": 2, "K": 4, "hidden": 10, "latent": 2, "epochs": 2}
    for record in named_in("watch_training")["main"](str(tmp_path), **few):
        events = accumulators.EventAccumulator(str(tmp_path / "curves")).Reload()
        for name in ("loss", "iwae_64"):
            shown = events.Scalars(f"{record.experiment.folder}/{name}")
            assert [event.step for event in shown] == [1, 2]
            assert [event.value for event in shown] == pytest.approx([*record.curve[name]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("own_loop.py:convolutional", ["--binarise", "no"]),
        ("two_layers.py:TwoLayers", ["--estimator", "drep"]),
        ("flow_posterior.py:flow_posterior", ["--estimator", "stl"]),
    ],
)
def test_the_commands_train_an_example(tmp_path, model, more):
    words = ["--model", str(ROOT / "examples" / model), "--method", "miwae", "--M", "2", "--K", "3"]
    where = ["--profile", "smoke", "--epochs", "1", "--results", str(tmp_path), "--device", "cpu"]
    assert main(["train", *words, *more, *where]) == 0


def test_the_recipes_run_as_they_stand_in_the_book(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METHODS, "renyi", None)
    (tmp_path / "results").symlink_to(ROOT / "results")
    page = (ROOT / "book" / "in_python.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, names)
    assert names["pictures"].shape == (16, 784)
    assert names["lower_bound"].shape == (20,)
    assert names["annealed"].isfinite().all()
    assert set(names["plot"].data.method) == {"iwae", "piwae"}
    assert names["points"].ax.get_ylabel() == "log_px"
    assert len(names["chosen"]) == len(names["chosen"].drop_duplicates(["method", "seed"])) > 30
    assert (tmp_path / "figure1.pdf").exists()
    assert names["figure"].axes[0].get_xticklabels()[0].get_fontsize() > 12
    first, second = (names[name].metrics["elbo"]["value"] for name in ("first", "second"))
    assert second > first
    assert names["record"].experiment.method == "renyi"


def test_the_readmes_code_runs(monkeypatch):
    monkeypatch.setitem(METHODS, "renyi", None)
    model = named_in("own_loop")["convolutional"]()
    x = datasets.load("digits").test[:2]
    names = vars(bounds) | {"encoder": model.encoder, "decoder": model.decoder, "x": x}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    for block in blocks:
        exec(block, names)
    assert blocks[-1] in (ROOT / "CONTRIBUTING.md").read_text()
    assert all(parameter.grad.isfinite().all() for parameter in (*model.theta, *model.phi))
    assert METHODS["renyi"].phi is names["renyi"]


NUMBER = r"-?\d[\d,]*\.?\d*"


@pytest.mark.slow
def test_the_book_shows_what_the_command_prints_for_an_own_model(tmp_path, monkeypatch, capsys):
    """Word for word, but for the machine and times; a number may differ by its rounding."""
    page = (ROOT / "book" / "own_model.md").read_text()
    (command,) = re.findall(r"^python -m repro (train --model examples.*)$", page, re.M)
    monkeypatch.chdir(ROOT)
    assert main([*command.split(), "--results", str(tmp_path), "--device", "cpu"]) == 0
    said = capsys.readouterr().out.replace(f"{tmp_path}/", "results/").splitlines()
    said = [re.sub("  [0-9]+ (s|min) left$", "", line) for line in said]
    said = [line for line in said if not re.search(r"evaluating|log p-hat of|epoch \d+\.", line)]
    shown = (ROOT / "book" / "own_model.txt").read_text().splitlines()
    assert len(said) == len(shown)
    for printed, written in zip(said, shown, strict=True):
        printed, written = (re.sub("; .*|done in .*", "", line) for line in (printed, written))
        assert re.sub(NUMBER, "N", printed) == re.sub(NUMBER, "N", written)
        numbers = [float(n.replace(",", "")) for n in re.findall(NUMBER, printed)]
        expected = [float(n.replace(",", "")) for n in re.findall(NUMBER, written)]
        assert numbers == pytest.approx(expected, rel=0.01, abs=0.1)


@pytest.mark.slow
def test_the_lecturers_exercises_that_train_something_come_out_as_answered(tmp_path):
    """PIWAE is several nats ahead of IWAE, and by less than half of that if IWAE has ``drep``."""
    page = (ROOT / "book" / "lecture.md").read_text()
    commands = re.findall(r"^python -m repro (train .*)$", page, re.MULTILINE)
    begun = time.monotonic()
    for command in commands:
        assert main([*command.split(), "--device", "cpu", "--results", str(tmp_path)]) == 0
    assert time.monotonic() - begun < 120 * len(commands)

    compared = re.findall(r"^python -m repro compare results/(\S+) results/(\S+)$", page, re.M)
    leads = []
    for pair in compared:
        a, b = (read(tmp_path / name).metrics["iwae_64"] for name in pair)
        leads.append(a["value"] - b["value"])
        assert main(["compare", *(str(tmp_path / name) for name in pair)]) in (0, 1)
    assert 0 < 2 * leads[1] < leads[0]
    assert leads[0] > 2
