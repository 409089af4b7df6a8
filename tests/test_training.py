"""The loop: schedule, independence of companions, resuming after any death, stopping, and losses that are not finite."""

import math
import signal
import subprocess
import sys

import pytest
import torch

from repro import ReproError, bounds, data, experiments, training
from repro.models import MODELS, Architecture
from repro.program import learning_rate

CHILD = """
import os, signal, sys
import torch
from repro import training
from repro.models import MODELS
from tests.test_training import SMALL, few_digits, runs

MODELS["reference"] = SMALL

where, death, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
training.SAVE_EVERY = 0.0
count = 0

def die_in_an_epoch():
    global count
    count += death == "epoch"
    if death == "epoch" and count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

save = torch.save
def die_in_a_save(state, file):
    global count
    save(state, file)
    if death == "save":
        count += 1
        if count == at:
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

torch.save = die_in_a_save
fit = training.fit(runs(), few_digits(), where + "/state.pt", stop=die_in_an_epoch)
save({"weights": [p.model.state_dict() for p in fit.programs], "curves": fit.curves}, where + "/end.pt")
"""


SMALL = Architecture(hidden=20, latent=5)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(MODELS, "reference", SMALL)


def few_digits(images=200, tests=20):
    digits = data.load("digits")
    return data.Dataset("digits", "a few", digits.train[:images], digits.test[:tests])


def runs(method="piwae,ciwae-learned", seed=0, epochs=2):
    return experiments.plan(method, profile_name="smoke", seed=seed, epochs=epochs)


def weights(fit):
    return {e.name: p.model.run_state(r) for p in fit.programs for r, e in enumerate(p.experiments)}


def test_schedule_is_burdas():
    rates = [learning_rate(epoch) for epoch in range(3280)]
    for i in range(8):
        assert sum(math.isclose(rate, 1e-3 * 10 ** (-i / 7)) for rate in rates) == 3**i
    assert rates == sorted(rates, reverse=True)


def test_a_runs_numbers_do_not_change_with_its_companions():
    """Bit for bit, order, binarisation and noise; and, each run being a program of its own on the CPU, its weights too."""
    digits = few_digits(1000)
    alone = weights(training.fit(runs("piwae", seed=1), digits))  # 2 epochs of 50 steps
    company = weights(training.fit(runs("iwae,piwae", seed="0,1"), digits))
    (name, mine), *others = alone.items()
    assert not others
    for parameter, value in mine.items():
        assert torch.equal(value, company[name][parameter])


def test_runs_stacked_in_one_program_end_where_they_end_alone(small):
    """100 steps in float64, as an accelerator stacks them; in float32 rounding in log w is amplified by the weights."""
    torch.set_default_dtype(torch.float64)
    try:
        digits = data.load("digits")
        digits = data.Dataset("digits", "double", digits.train[:1000].double(), digits.test[:20].double())
        ends = [weights(training.fit(runs("piwae,vae", seed="0,1"), digits, stack=size)) for size in (4, 1)]
    finally:
        torch.set_default_dtype(torch.float32)
    for name, state in ends[0].items():
        for parameter, value in state.items():
            assert (value - ends[1][name][parameter]).norm() <= 1e-5 * value.norm()


def test_training_ascends_the_bound(small):
    (fit,) = [training.fit(runs("iwae", epochs=4), few_digits(600))]
    values = [line["iwae_64"] for line in fit.curves[0]]
    assert values == sorted(values)
    assert [line["epoch"] for line in fit.curves[0]] == [1, 2, 3, 4]


def end_of(folder, deaths):
    """The weights and curves of a training that dies as told and is started again each time."""
    folder.mkdir()
    for how, when in [*deaths, ("none", 0)]:
        done = subprocess.run([sys.executable, "-c", CHILD, folder, how, str(when)], capture_output=True, text=True)
        assert done.returncode == (0 if how == "none" else -signal.SIGKILL), done.stderr
    return torch.load(folder / "end.pt")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return end_of(tmp_path_factory.mktemp("whole") / "run", [])


@pytest.mark.parametrize(("death", "at"), [("epoch", 7), ("epoch", 16), ("save", 3), ("save", 14)])
def test_killed_at_any_moment_it_ends_bit_for_bit_the_same(tmp_path, undisturbed, death, at):
    killed = end_of(tmp_path / "run", [(death, at)])
    assert killed["curves"] == undisturbed["curves"]
    for a, b in zip(undisturbed["weights"], killed["weights"], strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_training_stops_at_a_step_and_the_next_call_goes_on(small, tmp_path):
    digits, whole = few_digits(), training.fit(runs(), few_digits())
    fit = training.fit(runs(), digits, tmp_path / "state.pt", stop=lambda: True, commit="one")
    assert not fit.finished
    assert fit.step == 1
    again = training.fit(runs(), digits, tmp_path / "state.pt", commit="two")
    assert again.finished
    assert again.commits == ["one", "two"]
    assert again.curves == whole.curves


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step_and_the_good_state_stays(small, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    tried = [1.0] * 6  # before any training
    factors = iter(tried + [1.0] * 8 + [math.nan] * 2)  # a bound is called for theta and for phi: the fifth step is the first bad one
    monkeypatch.setitem(bounds.METHODS, "broken", bounds.both(lambda log_w: log_w.mean((-3, -2)) * next(factors)))
    with pytest.raises(ReproError, match=r"the loss of broken-\S+ is nan at epoch 1, step 5; the last good state is kept"):
        training.fit(runs("broken"), few_digits(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt")
    assert state["step"] == 4
    assert all(p.isfinite().all() for p in state["programs"][0]["tensors"].values())


def test_a_weight_that_is_not_finite_never_reaches_the_state(small, tmp_path, monkeypatch):
    """The loss is finite here, its gradient is not: the square root of zero."""
    monkeypatch.setitem(bounds.METHODS, "broken", bounds.both(lambda log_w: (log_w - log_w.detach()).sum((-3, -2)).sqrt()))
    with pytest.raises(ReproError, match=r"a weight of broken-\S+ is not finite after epoch 1, step 1; nothing had been saved yet"):
        training.fit(runs("broken"), few_digits(), tmp_path / "state.pt", stop=lambda: True)
    assert not (tmp_path / "state.pt").exists()


def test_a_milestone_evaluation_can_be_stopped_and_goes_on_where_it_was(small, tmp_path):
    digits, whole = few_digits(), training.fit(runs(), few_digits())
    stops = iter([False] * 12 + [True])  # ten steps, both evaluations of the first run, and then in the second's
    fit = training.fit(runs(), digits, tmp_path / "state.pt", stop=lambda: next(stops))
    assert (fit.epoch, fit.step) == (0, fit.steps_per_epoch)
    assert training.unfinished(tmp_path / "state.pt") == (runs(), 0, "eager")
    assert training.fit(runs(), digits, tmp_path / "state.pt").curves == whole.curves
    assert training.unfinished(tmp_path / "state.pt") == (runs(), runs()[0].epochs, "eager")
    assert training.fit(runs(), digits, tmp_path / "state.pt", commit="another").commits == ["unknown"]  # it trained nothing


def test_without_milestones_training_and_the_bound_are_the_same(small):
    fits = [training.fit(runs("iwae", epochs=2), few_digits(), milestones=m) for m in (True, False)]
    with_them, without = (fit.curves[0] for fit in fits)
    assert ["log_px" in line for line in with_them] == [True, False]
    assert without == [{k: v for k, v in line.items() if not k.startswith("log_px")} for line in with_them]


def test_the_state_of_other_runs_is_refused(small, tmp_path):
    training.fit(runs("vae", epochs=1), few_digits(), tmp_path / "state.pt")
    with pytest.raises(ReproError, match="the state of other runs"):
        training.fit(runs("iwae", epochs=1), few_digits(), tmp_path / "state.pt")


def test_a_state_made_with_another_layout_is_kept_and_named(small, tmp_path):
    training.fit(runs(), few_digits(), tmp_path / "state.pt", stop=lambda: True, stack=2)
    with pytest.raises(ReproError, match="was made on cpu in 1 stacks; go on so"):
        training.fit(runs(), few_digits(), tmp_path / "state.pt")


def test_a_damaged_state_is_one_line(small, tmp_path):
    state = tmp_path / "state.pt"
    training.fit(runs(), few_digits(), state, stop=lambda: True)
    whole = state.read_bytes()
    for damaged in (b"PK not a state", whole[:-100], whole[: len(whole) // 2] + b"?" * 64 + whole[len(whole) // 2 + 64 :]):
        state.write_bytes(damaged)
        for use in (training.unfinished, lambda path: training.fit(runs(), few_digits(), path)):
            with pytest.raises(ReproError, match="cannot be read .*; delete it"):
                use(state)
    state.write_bytes(whole)
    kept = torch.load(state)
    for wrong in ({"engines": []}, {"experiments": [{"colour": "red"}]}):
        torch.save(kept | wrong, state)
        with pytest.raises(ReproError, match="cannot be read .*; delete it"):
            training.unfinished(state)
    kept["programs"][0]["tensors"].popitem()
    torch.save(kept, state)
    with pytest.raises(ReproError, match="cannot be read .*; delete it"):
        training.fit(runs(), few_digits(), state)


def test_a_bound_that_was_changed_does_not_go_on(small, tmp_path, monkeypatch):
    def old(log_w):
        return log_w.mean((-3, -2))

    def new(log_w):
        return log_w.logsumexp((-3, -2))

    monkeypatch.setitem(bounds.METHODS, "mine", bounds.both(old))
    training.fit(runs("mine"), few_digits(), tmp_path / "state.pt", stop=lambda: True)
    monkeypatch.setitem(bounds.METHODS, "mine", bounds.both(new))
    with pytest.raises(ReproError, match="was trained with another bound of 'mine'; put that back, or delete it"):
        training.fit(runs("mine"), few_digits(), tmp_path / "state.pt")


def test_runs_are_trained_by_one_process_at_a_time(tmp_path):
    from repro.__main__ import only_one

    with (
        only_one(runs("vae,iwae"), tmp_path),
        pytest.raises(ReproError, match="iwae-M1-K64-seed0-epochs2 is being trained already"),
        only_one(runs("piwae,iwae"), tmp_path),
    ):
        pass
    with only_one(runs("iwae,piwae"), tmp_path):
        pass  # the others have let go
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_runs_of_different_kinds_are_not_trained_together():
    with pytest.raises(ReproError, match="must share"):
        training.fit(runs("vae", epochs=1) + runs("vae", epochs=2), few_digits())


def test_training_imports_nothing_but_torch_and_numpy():
    code = "import sys, repro.training; print([m for m in sys.argv[1].split() if m in sys.modules])"
    names = "pooch papermill seaborn matplotlib pandas scipy sklearn skimage IPython click safetensors"
    assert subprocess.check_output([sys.executable, "-c", code, names], text=True).strip() == "[]"


def test_a_record_holds_every_image_and_the_dataset_it_was_not_trained_on(small, tmp_path, monkeypatch, capsys):
    from repro.__main__ import train

    few = few_digits()
    monkeypatch.setattr(data, "load", lambda name, folder=None: few)
    monkeypatch.setitem(data.ELSEWHERE, "digits", "digits")
    (record,) = train(experiments.plan("vae", profile_name="smoke", epochs=1), results=tmp_path)
    for name, values in record.images.items():
        assert values.mean() == pytest.approx(record.metrics[name]["value"], rel=1e-6)
    assert 0 < record.metrics["ssim_on_digits"]["value"] < 1
    assert [grid.shape for grid in record.reconstructions_elsewhere] == [(20, 784)] * 2


def test_training_goes_on_without_the_dataset_it_is_not_trained_on(monkeypatch, tmp_path, capsys):
    from repro.__main__ import elsewhere

    monkeypatch.setenv("REPRO_DATA_DIR", str(tmp_path))
    assert elsewhere("digits") is None
    assert elsewhere("mnist") is None
    assert "SSIM on omniglot-lake will be left out" in capsys.readouterr().out
