"""The loop: schedule, independence of companions, resuming, stopping, and losses not finite."""

import contextlib
import copy
import functools
import hashlib
import importlib
import math
import operator
import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from repro import ReproError, bounds, datasets, scores
from repro.records import Archive, provenance
from repro.training import forecast, leases, loop, run, states
from repro.training.forecast import engine_for
from repro.training.program import learning_rate
from repro.training.run import has_precision, train
from repro.training.states import state_of
from repro.words import experiments
from tests.helpers import ROOT, Attack, double_precision, few_digits, in_double, write_record

OWN = "mine-0123456789abcdef"  # as a method from a user's own file is called


def runs(method="piwae,ciwae-learned", seed=0, epochs=2):
    return experiments.plan(method, profile="smoke", seed=seed, epochs=epochs)


def stack_all(monkeypatch):
    """Let runs be stacked into one program, as on an accelerator."""
    monkeypatch.setattr(loop, "alone", lambda experiments, device: False)


@pytest.fixture
def state(small, tmp_path):
    """Where the state of a training with small networks is kept."""
    return tmp_path / "state.pt"


def weights(fit):
    found = {}
    for program in fit.programs:
        for number, e in enumerate(program.experiments):
            found[e.name] = program.model.run_state(number)
    return found


def test_gradients_on_the_way_are_of_the_network_that_is_trained(small, monkeypatch):
    """With Burda's initialisation sigma is an exponential."""
    seen = []

    def in_network(where, model, images, **how):
        seen.append(model)
        return iter(())

    monkeypatch.setattr(loop.signal, "in_network", in_network)
    (e,) = experiments.plan("vae", profile="smoke", epochs=1, init="burda")
    digits = few_digits()
    fit = loop.fit([e], digits, milestones=("gradients",))
    (model,) = seen
    x = digits.test[None].round()
    for found, expected in zip(model.encoder(x), fit.programs[0].model.encoder(x), strict=True):
        torch.testing.assert_close(found, expected)


def test_gradients_of_bounds_that_are_not_trained_are_refused(small):
    es = experiments.plan("piwae", profile="smoke", epochs=1, protocol="released")
    with pytest.raises(ReproError, match="leave out the protocol or the gradients"):
        loop.fit(es, few_digits(), milestones=("gradients",))


def test_the_state_of_other_runs_is_called_that(state):
    loop.fit(runs("vae", epochs=1), few_digits(), state)
    for others in (runs("vae,iwae", epochs=1), runs("iwae,vae", epochs=2)):
        with pytest.raises(ReproError, match="is the state of other runs"):
            loop.fit(others, few_digits(), state)


def test_what_another_process_made_while_this_one_waited_is_not_trained_again(
    small, tmp_path, monkeypatch, capsys
):
    (e,) = runs("vae", epochs=1)

    @contextlib.contextmanager
    def held_after_a_while(places):
        write_record(tmp_path, e)
        yield lambda: False

    monkeypatch.setattr(leases, "held", held_after_a_while)
    (record,) = train([e], results=tmp_path, device="cpu")
    assert record.experiment == e
    assert "epoch" not in capsys.readouterr().out.replace("epochs1", "")


def test_a_lease_that_is_lost_while_a_run_is_evaluated_leaves_its_record_to_the_other(
    few_at_milestones, tmp_path, monkeypatch, capsys
):
    (e,) = runs("vae", epochs=1)
    evaluated = []

    @contextlib.contextmanager
    def lost_after_the_evaluation(places):
        yield lambda: bool(evaluated)

    def assess(*given):
        evaluated.append(given)
        return before(*given)

    before = run.assess
    monkeypatch.setattr(leases, "held", lost_after_the_evaluation)
    monkeypatch.setattr(run, "assess", assess)
    assert train([e], results=tmp_path, device="cpu", engine="eager") == []
    assert "stopped before all was evaluated" in capsys.readouterr().out
    assert not Archive(tmp_path).holds(e)


@pytest.mark.parametrize("kind", ["a file", "a link to nothing", "a link"])
def test_a_place_that_can_hold_no_record_is_named_before_training(small, tmp_path, kind):
    (e,) = runs("vae", epochs=1)
    place = Archive(tmp_path).path_of(e)
    place.parent.mkdir(parents=True)
    if kind == "a file":
        place.write_text("mine")
    else:
        (tmp_path / "folder").mkdir()
        place.symlink_to(tmp_path / ("folder" if kind == "a link" else "nothing"))
    with pytest.raises(ReproError, match="where a record's folder belongs; move it away"):
        train([e], results=tmp_path, device="cpu")
    assert [*place.parent.iterdir()] == [place]


MANY = [f"a processor with a long name, number {number}" for number in range(9)]


@pytest.mark.parametrize(
    ("devices", "said"),
    [(["A, 1 thread", "B", "A, 1 thread"], "A, 1 thread and B"), (MANY, f"{MANY[0]} and others")],
)
def test_a_provenance_names_each_device_once_or_the_first_of_many(
    few_at_milestones, tmp_path, devices, said
):
    (e,) = runs("vae", epochs=1)
    state = state_of([e], Archive(tmp_path))
    state.parent.mkdir(parents=True)
    loop.fit([e], few_digits(), state)
    torch.save(torch.load(state) | {"devices": devices}, state)
    (record,) = train([e], results=tmp_path, device="cpu")
    assert record.provenance.device == said


def test_schedule_is_burdas():
    rates = [learning_rate(epoch) for epoch in range(3280)]
    for i in range(8):
        assert sum(math.isclose(rate, 1e-3 * 10 ** (-i / 7)) for rate in rates) == 3**i
    assert rates == sorted(rates, reverse=True)


def test_a_runs_numbers_do_not_change_with_its_companions():
    """Order, binarisation and noise are the same bit for bit.

    So are the weights, because each run is a program of its own on the CPU.
    """
    digits = few_digits(200)
    alone = weights(loop.fit(runs("piwae", seed=1), digits))  # 2 epochs of 10 steps
    company = weights(loop.fit(runs("iwae,piwae", seed="0,1"), digits))
    ((name, mine),) = alone.items()
    for parameter, value in mine.items():
        assert torch.equal(value, company[name][parameter])


def test_runs_stacked_in_one_program_end_where_they_end_alone(small, monkeypatch):
    with double_precision():
        digits = in_double(few_digits(1000))
        alone = weights(loop.fit(runs("piwae,vae", seed="0,1"), digits))
        stack_all(monkeypatch)
        stacked = weights(loop.fit(runs("piwae,vae", seed="0,1"), digits))
    for name, state in stacked.items():
        for parameter, value in state.items():
            assert (value - alone[name][parameter]).norm() <= 1e-5 * value.norm()


def test_training_ascends_the_bound(small):
    fit = loop.fit(runs("iwae", epochs=4), few_digits(600))
    values = [line["iwae_64"] for line in fit.curves[0]]
    assert values == sorted(values)
    assert [line["epoch"] for line in fit.curves[0]] == [1, 2, 3, 4]


def test_curves_are_on_disk_on_the_way_and_go_on_from_the_epoch_of_the_state(state):
    """Here the state is of the first epoch, and the third is not told to the end."""
    told = []

    def on_epoch(line):
        told.append((line["epoch"], pd.read_csv(state.with_suffix(".csv")).epoch.tolist()))
        assert {*line} >= {"run", "loss", "learning_rate", "iwae_64", "iwae_64_se"}
        assert None not in line.values()
        if len(told) == 5:
            raise KeyError("a mistake in somebody's function")

    with pytest.raises(KeyError):
        loop.fit(runs(epochs=3), few_digits(), state, on_epoch=on_epoch)
    assert told == [(1, []), (1, []), (2, [1, 1]), (2, [1, 1]), (3, [1, 1, 2, 2])]
    told.clear()
    told += ["again"] * 5
    fit = loop.fit(runs(epochs=3), few_digits(), state, on_epoch=on_epoch)
    assert told[5:] == [(2, [1, 1]), (2, [1, 1]), (3, [1, 1, 2, 2]), (3, [1, 1, 2, 2])]
    whole = pd.read_csv(state.with_suffix(".csv"))
    assert whole.run.unique().tolist() == [e.folder for e in runs(epochs=3)]
    for (_, shown), curve in zip(whole.groupby("run", sort=False), fit.curves, strict=True):
        for name in ("epoch", "loss", "iwae_64"):
            assert shown.sort_values("epoch")[name].tolist() == [line[name] for line in curve]
        assert shown.log_px.notna().tolist() == ["log_px" in line for line in curve]


TRIED = 176  # times that a bound of both networks is called before any training


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step_and_the_good_state_stays(
    state, monkeypatch
):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    tried = [1.0] * TRIED  # calls of the bound before any training
    good = [1.0] * 4  # a step calls a bound that both networks share once
    factors = iter(tried + good + [math.nan])
    broken = bounds.both(lambda log_w: log_w.mean((-3, -2)) * next(factors))
    monkeypatch.setitem(bounds.METHODS, "broken", broken)
    line = r"the loss of broken-\S+ is nan at epoch 1, step 5; the last good state is kept"
    with pytest.raises(ReproError, match=line):
        loop.fit(runs("broken"), few_digits(), state)
    kept = torch.load(state)
    assert kept["step"] == 4
    assert all(p.isfinite().all() for p in kept["programs"][0]["tensors"].values())


def test_a_weight_that_is_not_finite_never_reaches_the_state(state, monkeypatch):
    """The loss is finite here. Its gradient is not: it is that of the square root at zero."""
    calls = iter(range(10**6))

    def sound_when_it_is_tried(log_w):
        if next(calls) < TRIED:
            return log_w.mean((-3, -2))
        return (log_w - log_w.detach()).sum((-3, -2)).sqrt()

    broken = bounds.both(sound_when_it_is_tried)
    monkeypatch.setitem(bounds.METHODS, "broken", broken)
    line = (
        r"a weight of broken-\S+ is not finite after epoch 1, step 1; "
        "nothing had been saved yet"
    )
    with pytest.raises(ReproError, match=line):
        loop.fit(runs("broken"), few_digits(), state, stop=lambda: True)
    assert not state.exists()


def test_a_score_that_is_not_finite_has_no_record_and_blocks_none(small, tmp_path, monkeypatch):
    asked = runs("vae", epochs=1)
    with monkeypatch.context() as patched:
        sound = scores.summary
        broken = {"value": math.nan, "se": 1.0, "sd": 1.0}
        patched.setattr(scores, "summary", lambda *of: sound(*of) | {"elbo": broken})
        with pytest.raises(ReproError, match=r"a score of vae-.* is not finite"):
            train(asked, results=tmp_path)
    assert list(tmp_path.rglob("unfinished-*.pt"))
    assert len(train(asked, results=tmp_path)) == 1
    monkeypatch.setattr(loop, "iwae_bound", lambda *how: torch.full((1, 9), -math.inf))
    with pytest.raises(ReproError, match=r"IWAE-64 of vae-.* is -inf after epoch 1; "):
        train(runs("vae", seed=1), results=tmp_path)


def test_a_time_limit_that_is_shorter_than_an_evaluation_gets_on(state):
    loop.fit(runs("vae", epochs=1), few_digits(), state)
    fit = loop.fit(runs("vae"), few_digits(), state, late=lambda: True)
    assert (fit.epoch, fit.step) == (1, 1)
    assert "log_px" in fit.curves[0][-1]


def test_an_interruption_of_the_last_evaluation_leaves_the_state(small, tmp_path, monkeypatch):
    measure = scores.measure

    def interrupted(*how):
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*how)

    with monkeypatch.context() as patched:
        patched.setattr(scores, "measure", interrupted)
        assert train(runs("vae", epochs=1), results=tmp_path) == []
    assert list(tmp_path.rglob("unfinished-*.pt"))
    assert len(train(runs("vae", epochs=1), results=tmp_path)) == 1


def test_a_milestone_evaluation_can_be_stopped_and_goes_on_where_it_was(state):
    digits = few_digits()
    whole = loop.fit(runs(), digits)
    # It stops after ten steps, two evaluations, and log p-hat of the first run, in the second's.
    stops = iter([False] * 13 + [True])
    fit = loop.fit(runs(), digits, state, stop=lambda: next(stops), commit="one")
    assert (fit.epoch, fit.step) == (1, 0)
    assert ["log_px" in curve[-1] for curve in fit.curves] == [True, False]
    kept = states.unfinished(state, epochs=2)
    assert (kept.experiments, kept.epochs, kept.engine) == (runs(), 1, "eager")
    again = loop.fit(runs(), digits, state, commit="two")
    assert (again.curves, again.commits) == (whole.curves, ["one", "two"])
    assert states.unfinished(state, epochs=2).finished
    nothing_left = loop.fit(runs(), digits, state, commit="three")
    assert nothing_left.commits == ["one", "two"]


def trained_to(epochs, results, **how):
    """The records of two runs, trained to so many epochs."""
    how = {"device": "cpu", "engine": "eager"} | how
    return train(runs(epochs=epochs), results=results, **how)


def test_a_training_that_is_done_goes_on_to_more_epochs_bit_for_bit(few_at_milestones, tmp_path):
    """It goes on twice, the second time in another folder; shorter records stay as they are."""
    at_once = trained_to(6, tmp_path / "at-once")
    first = tmp_path / "first"
    short = trained_to(1, first, keep_state=True)
    before = [(r.path / "curve.csv").read_bytes() for r in short]
    trained_to(4, first, keep_state=True)
    assert [(r.path / "curve.csv").read_bytes() for r in short] == before
    (state,) = first.rglob("*.pt")
    second = tmp_path / "second" / state.relative_to(first)
    second.parent.mkdir(parents=True)
    second.write_bytes(state.read_bytes())
    in_parts = trained_to(6, tmp_path / "second")
    assert [*second.parent.glob("*.pt")] == [second]
    for a, b in zip(at_once, in_parts, strict=True):
        assert a.metrics == b.metrics
        for name in ("curve.csv", "model.safetensors"):
            assert (a.path / name).read_bytes() == (b.path / name).read_bytes()
    curve = at_once[0].curve.set_index("epoch")
    assert curve.log_px_images.dropna().to_dict() == {1: 4, 4: 4}
    assert curve.log_px.dropna().index.tolist() == [1, 4, 6]
    assert curve.iwae_64_same_images[1] != curve.iwae_64[1]


def test_a_state_that_is_kept_serves_no_shorter_training_and_gives_way_to_none(
    few_at_milestones, tmp_path
):
    trained_to(2, tmp_path, keep_state=True)
    (kept,) = tmp_path.rglob("*.pt")
    content = kept.read_bytes()
    (record, _) = trained_to(1, tmp_path, keep_state=True)
    assert record.curve.epoch.tolist() == [1]
    assert [*tmp_path.rglob("*.pt")] == [kept]
    assert kept.read_bytes() == content


def test_each_epoch_has_its_line_and_an_evaluation_none_within_a_minute(
    few_at_milestones, tmp_path, capsys
):
    trained_to(5, tmp_path)
    said = capsys.readouterr().out.splitlines()
    told = [line.split(" of ")[0] for line in said if line.startswith("epoch ")]
    assert told == [f"epoch {n}" for n in range(1, 6)]


def test_a_state_of_some_of_the_runs_does_not_stand_for_all(few_at_milestones, tmp_path):
    """One of the two had its record when the state was kept, so that the state lacks it."""
    (alone, _) = runs(epochs=1)
    train([alone], results=tmp_path, device="cpu", engine="eager")
    trained_to(1, tmp_path, keep_state=True)
    assert len(trained_to(2, tmp_path)) == 2


def test_an_engine_of_ones_own_choice_stays_and_auto_goes_by_the_whole_length(
    few_at_milestones, tmp_path, monkeypatch
):
    """A training that was interrupted goes on with its engine, one that is longer now need not."""
    asked = []

    def try_engines(runs, dataset, device, engine, fallback):
        asked.append(engine)
        return forecast.Trial("eager", 0.1)

    monkeypatch.setattr(forecast, "try_engines", try_engines)
    trained_to(1, tmp_path, keep_state=True, engine="auto")
    trained_to(2, tmp_path, keep_state=True, engine="auto", time_limit=0)
    monkeypatch.setattr(forecast, "WORTH_COMPILING", 0.0)
    trained_to(2, tmp_path, keep_state=True, engine="auto")
    trained_to(3, tmp_path, engine="auto")
    trained_to(4, tmp_path, engine="eager")
    assert asked == ["eager", "eager", "eager", "compiled", "eager"]


def test_without_milestones_training_and_the_bound_are_the_same(small):
    fits = [loop.fit(runs("iwae", epochs=2), few_digits(), milestones=m) for m in (("log-px",), ())]
    with_them, without = (fit.curves[0] for fit in fits)
    assert ["log_px" in line for line in with_them] == [True, False]
    assert without == [
        {k: v for k, v in line.items() if not k.startswith("log_px")} for line in with_them
    ]


def test_gradients_are_measured_at_milestones_and_kept(few_at_milestones, tmp_path, monkeypatch):
    """Of the methods' own bounds, with their own beta, and under both unbiased estimators."""
    monkeypatch.setattr(loop, "REPLICATES_IN_TRAINING", 3)
    both = runs("vae,ciwae", epochs=2)
    fit, plain = (loop.fit(both, few_digits(), milestones=what) for what in (("gradients",), ()))
    for curve, before in zip(fit.curves, plain.curves, strict=True):
        assert ["gradients" in line for line in curve] == [True, False]
        assert [{k: v for k, v in line.items() if k != "gradients"} for line in curve] == before
    rows = fit.curves[1][0]["gradients"]
    assert {(r["where"], r["method"], r["estimator"]) for r in rows} == {
        ("epoch 1", "ciwae", "rep"),
        ("epoch 1", "ciwae", "drep"),
    }
    how = {"device": "cpu", "engine": "eager", "milestones": ("gradients",)}
    _, record = train(both, results=tmp_path, **how)
    assert record.gradients.phi_noise.tolist() == pytest.approx([r["phi_noise"] for r in rows])


def without(name):
    return lambda state: state.pop(name)


def with_other(**fields):
    return lambda state: state.update(fields)


@pytest.mark.parametrize(
    "change",
    [
        *[with_other(epoch=epoch) for epoch in (99, -1, "1", None, True)],
        *[with_other(seconds=seconds) for seconds in (-1.0, math.nan, None)],
        lambda state: state["curves"][0][0].update(loss=None),
        lambda state: state["bounds"].update(another=""),
        *[with_other(curves=curves) for curves in ([], 3)],
        with_other(step=10_000),
        with_other(engines=[]),
        with_other(experiments=[{"colour": "red"}]),
        without("sizes"),  # as in an earlier version
        lambda state: state["programs"][0]["tensors"].popitem(),
        lambda state: state["programs"][0]["tensors"]["index"].fill_(10**6),
        lambda state: state["programs"][0]["tensors"]["order"].fill_(-5),
    ],
)
def test_a_state_with_other_contents_is_one_line(state, change):
    loop.fit(runs("vae", epochs=1), few_digits(), state)
    content = torch.load(state, weights_only=True)
    change(content)
    torch.save(content, state)
    with pytest.raises(ReproError, match="delete it to train from the start"):
        loop.fit(runs("vae", epochs=1), few_digits(), state)


def test_a_state_runs_nothing_that_is_in_it(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop.fit(runs("vae", epochs=1), few_digits(), state)
    torch.save(torch.load("state.pt") | {"more": Attack()}, "state.pt")
    with pytest.raises(ReproError, match="cannot be read"):
        states.unfinished(state, epochs=1)
    assert not (tmp_path / "owned").exists()


def test_a_pipe_in_a_state_s_place_does_not_hang(state):
    os.mkfifo(state)
    with pytest.raises(ReproError, match=r"it is no file.; delete it to train from the start"):
        loop.fit(runs("vae", epochs=1), few_digits(), state)


def places_in(value, path=()):
    """The path of every value in a state, of containers, too; of a tensor it is the tensor."""
    yield path
    inside = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for key, part in inside:
        yield from places_in(part, (*path, key))


def kind_of(value):
    return (value.dtype, value.shape) if isinstance(value, torch.Tensor) else type(value)


NUMBERS = {int, float, type(None)}  # where one may be, another may


def test_a_state_with_a_value_of_another_type_anywhere_is_one_line(state):
    """Each value is replaced by two of others, of types that it cannot have."""
    asked = runs("vae", epochs=2)
    ticks = iter([False] * 12 + [True])
    loop.fit(asked, few_digits(), state, stop=lambda: next(ticks))
    whole = torch.load(state, weights_only=True)
    others = (None, True, 0.5, "text", [], {}, [[1]], torch.zeros(2, dtype=torch.complex64))
    for number, place in enumerate(list(places_in(whole))[1:]):
        value = functools.reduce(operator.getitem, place, whole)
        for other in (others[number % 8], others[(number + 3) % 8]):
            if kind_of(other) == kind_of(value) or {type(value), type(other)} <= NUMBERS:
                continue
            content = copy.deepcopy(whole)
            functools.reduce(operator.getitem, place[:-1], content)[place[-1]] = other
            torch.save(content, state)
            with pytest.raises(ReproError):
                loop.fit(asked, few_digits(), state, stop=lambda: True)


def test_a_state_without_its_random_numbers_is_one_line(state):
    loop.fit(runs("vae"), few_digits(), state, stop=lambda: True)
    content = torch.load(state, weights_only=True)
    content["programs"][0]["streams"] = {}
    torch.save(content, state)
    with pytest.raises(ReproError, match="delete it to train from the start"):
        loop.fit(runs("vae"), few_digits(), state)


@pytest.mark.parametrize("how", ["no state", "cut", "changed"])
def test_a_damaged_state_is_refused_wherever_it_is_read(state, how):
    loop.fit(runs(), few_digits(), state, stop=lambda: True)
    whole = state.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + b"?" * 64 + whole[middle + 64 :]
    state.write_bytes({"no state": b"PK", "cut": whole[:-100], "changed": changed}[how])
    for read in (lambda: states.unfinished(state, epochs=2), lambda: loop.fit(runs(), None, state)):
        with pytest.raises(ReproError, match=r"cannot be read .*; delete it"):
            read()


@pytest.mark.parametrize(("field", "value"), [("seed", 7), ("precision", "/../../escaped")])
def test_a_state_trains_nothing_that_was_not_asked_for(small, tmp_path, field, value):
    """The state of an interrupted training is changed to name another run."""
    asked = runs("vae", epochs=2)
    train(asked, results=tmp_path, time_limit=0)
    (path,) = tmp_path.rglob("unfinished-*.pt")
    state = torch.load(path, weights_only=True)
    state["experiments"][0][field] = value
    torch.save(state, path)
    with pytest.raises(ReproError, match="is the state of other runs"):
        train(asked, results=tmp_path)
    assert not [*tmp_path.rglob("config.json")]


def test_a_training_goes_on_in_the_stacks_in_which_it_began(state, monkeypatch):
    with monkeypatch.context() as patched:
        stack_all(patched)
        loop.fit(runs(), few_digits(), state, stop=lambda: True)
    (program,) = loop.fit(runs(), few_digits(), state).programs
    assert program.experiments == runs()


def test_a_training_goes_on_on_the_kind_of_device_on_which_it_began(state):
    loop.fit(runs(), few_digits(), state, stop=lambda: True)
    torch.save(torch.load(state) | {"device": "cuda"}, state)
    with pytest.raises(ReproError, match="was made on cuda; go on there, or delete it"):
        loop.fit(runs(), few_digits(), state)


def test_a_finished_state_is_evaluated_on_any_device(state, monkeypatch):
    """What a state made elsewhere has of its own is its stacks and its generators."""
    with monkeypatch.context() as patched:
        stack_all(patched)
        trained = loop.fit(runs(), few_digits(), state)
    kept = torch.load(state) | {"device": "cuda"}
    kept["programs"][0]["streams"] = {}
    torch.save(kept, state)
    again = loop.fit(runs(), few_digits(), state)
    assert again.finished
    assert again.curves == trained.curves
    for a, b in zip(again.programs, trained.programs, strict=True):
        for name, p in a.model.named_parameters():
            assert torch.equal(p, b.model.get_parameter(name))


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_no_device_trains_at_a_precision_it_lacks_and_any_evaluates(small, tmp_path, precision):
    images = np.random.default_rng(0).integers(0, 2, (104, 784))
    np.savez(tmp_path / "own.npz", train=images[:40], test=images[40:])
    words = {"profile": "smoke", "epochs": 1, "precision": precision}
    (run,) = experiments.plan("iwae", str(tmp_path / "own.npz"), **words)
    results = tmp_path / "results"
    line = f"precision '{precision}' is not available on this cpu; use float32"
    with pytest.raises(ReproError, match=line):
        train([run], results=results, device="cpu")
    assert not results.exists()
    state = state_of([run], Archive(results))
    state.parent.mkdir(parents=True)
    dataset = datasets.load(run.dataset)
    loop.fit([run], dataset, state, stop=lambda: True)
    with pytest.raises(ReproError, match=line):
        train([run], results=results, device="cpu")
    assert {*results.rglob("*.*")} == {state, state.with_suffix(".csv")}
    loop.fit([run], dataset, state)
    (record,) = train([run], results=results, device="cpu")
    assert record.experiment == run
    assert train([run], results=results, device="cpu") == [record]


def test_only_gpus_since_ampere_have_tf32(monkeypatch):
    for capability, there in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        for name in experiments.OF_GPUS:
            assert has_precision(name, "cuda") == there
            assert not has_precision(name, "cpu")
        assert has_precision("bf16", "cpu")


def test_a_bound_that_was_changed_does_not_go_on(state, monkeypatch):
    def old(log_w):
        return log_w.mean((-3, -2))

    def new(log_w):
        return log_w.logsumexp((-3, -2))

    monkeypatch.setitem(bounds.METHODS, "mine", bounds.both(old))
    loop.fit(runs("mine"), few_digits(), state, stop=lambda: True)
    monkeypatch.setitem(bounds.METHODS, "mine", bounds.both(new))
    line = "was trained with another bound of 'mine'; put that back, or delete it"
    with pytest.raises(ReproError, match=line):
        loop.fit(runs("mine"), few_digits(), state)


def test_a_state_is_of_the_bound_that_trained_whatever_its_file_says_now(
    state, tmp_path, monkeypatch
):
    file = tmp_path / "written.py"
    source = "def mine(log_w):\n    return log_w.mean((-3, -2))\n"
    file.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("written").mine
    monkeypatch.setitem(bounds.METHODS, "mine", bounds.both(mine))
    monkeypatch.setitem(bounds.METHODS, OWN, bounds.both(mine))

    def rewritten():
        file.write_text("def mine(log_w):\n    return log_w.amax((-3, -2))\n")
        return True

    loop.fit(runs(f"mine,{OWN}"), few_digits(), state, stop=rewritten)
    kept = states.Unfinished(state, 2).state["bounds"]
    assert kept == {"mine": hashlib.sha256(2 * source.encode()).hexdigest(), OWN: ""}
    assert loop.fit(runs(f"mine,{OWN}"), few_digits(), state).finished
    states._hash_of.cache_clear()  # as in another process
    with pytest.raises(ReproError, match="was trained with another bound of 'mine'"):
        states.Unfinished(state, 2).check_is_of(runs(f"mine,{OWN}"), "cpu")


ORDERS = [  # what is wrong, and what is said
    ({"runs": []}, "these are no runs to train"),
    ({"runs": "iwae"}, "these are no runs to train"),
    ({"runs": None}, "these are no runs to train"),
    ({"runs": runs("vae")[0]}, "these are no runs to train"),
    ({"time_limit": "5"}, "the time limit is 5; give seconds"),
    ({"milestones": None}, "unknown measurement 'None'"),
    ({"milestones": ("foo",)}, "unknown measurement 'foo'"),
    ({"milestones": "foo"}, "unknown measurement 'foo'"),
    ({"on_epoch": 5}, "on_epoch is 5; give a function"),
    ({"runs": experiments.plan("vae", profile="smoke", hidden=10**9)}, "memory is too small"),
]


@pytest.mark.parametrize(("given", "line"), ORDERS)
def test_an_order_that_cannot_be_is_one_line(tmp_path, given, line):
    with pytest.raises(ReproError, match=line):
        train(**{"runs": runs("vae"), "results": tmp_path} | given)
    assert not [*tmp_path.rglob("*.*")]


def test_a_run_that_is_given_twice_is_trained_once(small, tmp_path):
    (e,) = runs("vae", epochs=1)
    (record,) = train([e, e], results=tmp_path, milestones="none")
    assert record.experiment == e


def test_a_bound_that_is_in_no_file_goes_on(state, monkeypatch):
    bound = eval("lambda log_w: log_w.mean((-3, -2))")
    monkeypatch.setitem(bounds.METHODS, "mine", bounds.both(bound))
    loop.fit(runs("mine"), few_digits(), state, stop=lambda: True)
    assert loop.fit(runs("mine"), few_digits(), state).finished


def test_runs_are_trained_by_one_process_at_a_time(tmp_path):
    archive = Archive(tmp_path)
    with (
        leases.held(map(archive.path_of, runs("vae,iwae"))),
        pytest.raises(ReproError, match="iwae-M1-K64-seed0-epochs2 is being trained already"),
        leases.held(map(archive.path_of, runs("piwae,iwae"))),
    ):
        pass
    with leases.held(map(archive.path_of, runs("iwae,piwae"))):
        pass  # the others have let go
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_runs_of_different_kinds_are_not_trained_together():
    with pytest.raises(ReproError, match="must share"):
        loop.fit(runs("vae", epochs=1) + runs("vae", epochs=2), few_digits())


def test_a_record_holds_every_image_and_the_dataset_it_was_not_trained_on(
    few_at_milestones, tmp_path, monkeypatch
):
    monkeypatch.setitem(datasets.OTHER_DATASET, "digits", "digits")
    (record,) = train(experiments.plan("vae", profile="smoke", epochs=1), results=tmp_path)
    for name, values in record.images.items():
        assert values.mean() == pytest.approx(record.metrics[name]["value"], rel=1e-6)
    assert 0 < record.metrics["ssim_on_digits"]["value"] < 1
    assert [grid.shape for grid in record.reconstructions_elsewhere] == [(20, 784)] * 2


def test_training_goes_on_without_the_dataset_it_is_not_trained_on(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("REPRO_DATA_DIR", str(tmp_path))
    assert datasets.load_other("digits") is None
    assert datasets.load_other("mnist") is None
    assert "SSIM on omniglot-lake will be left out" in capsys.readouterr().out


def test_auto_takes_the_engine_by_the_length_of_training_and_not_by_a_clock():
    digits = datasets.load("digits")
    for epochs, engine in ((4, "eager"), (40, "eager"), (1000, "compiled")):
        (e,) = experiments.plan("iwae", profile="smoke", epochs=epochs)
        assert engine_for(e, digits, "cpu") == engine
        assert engine_for(e, digits, "cuda") == "compiled-graph"
    model = f"{ROOT / 'examples' / 'own_loop.py'}:convolutional"
    (mine,) = experiments.plan("iwae", model=model, binarise="no", profile="smoke")
    assert {engine_for(mine, digits, device) for device in ("cpu", "cuda")} == {"eager"}


def test_before_training_it_is_said_that_the_code_is_unknown(small, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("REPRO_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    train(runs("vae", epochs=1), results=tmp_path, time_limit=0)
    assert "the code's commit is not known here" in capsys.readouterr().out


def test_a_batch_may_have_any_size_up_to_all_images(small, tmp_path, capsys):
    images = np.random.default_rng(0).random((90, 784))
    np.savez(tmp_path / "few.npz", train=images, test=images)
    words = {"dataset": str(tmp_path / "few.npz"), "profile": "smoke", "epochs": 1}
    whole, more = (experiments.plan("vae", **words, batch_size=size) for size in (90, 91))
    (record,) = train(whole, results=tmp_path, engine="eager")
    assert "1 epoch of 1 steps" in capsys.readouterr().out
    assert record.path.name == "vae-M64-K1-seed0-epochs1-batch90"
    with pytest.raises(ReproError, match=r"batch_size is 91, and few-\w+ has 90 images to"):
        train(more, results=tmp_path)
