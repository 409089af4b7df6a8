"""A user's words become experiments, or one line that says what is wrong."""

import itertools
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro import ReproError
from repro.bounds import METHODS, both, iwae
from repro.catalogue import DATASETS, MODELS
from repro.cli import train_command
from repro.jupyter.papermill_plugin import default_parameters
from repro.training.engines import ENGINES
from repro.words.exhibits import EXHIBITS, IN_SMOKE, runs_of
from repro.words.experiments import (
    DECODERS,
    ENGINE_CHOICES,
    INITS,
    MILESTONES,
    OPTIMIZERS,
    PRECISIONS,
    PROFILES,
    PROTOCOLS,
    SCHEDULES,
    TRAINED_PROFILES,
    WORDS,
    commands,
    plan,
    profile_called,
    told_apart,
    with_images,
    words_in,
)
from tests.helpers import ROOT


def planned(command):
    """The experiments that a printed command plans."""
    options = train_command.make_context("train", shlex.split(command)[4:]).params
    return plan(**words_in(options))


def names(**words):
    return [e.name for e in plan(profile="short", **words)]


def wanted(profile):
    """Every run that any exhibit shows in a profile, once."""
    names = IN_SMOKE if profile == "smoke" else EXHIBITS
    return list(dict.fromkeys(e for name in names for e in runs_of(name, profile)))


def test_defaults_are_the_papers():
    assert names() == [
        "iwae-M1-K64-seed0",
        "piwae-M8-K8-seed0",
        "miwae-M8-K8-seed0",
        "ciwae-M1-K64-beta0.5-seed0",
        "vae-M64-K1-seed0",
    ]
    assert len(names(method="all,ciwae-learned,vae")) == 6
    assert plan("vae", init="burda", profile="short")[0].setting_folder == "mnist-reference-burda"
    (e,) = plan("piwae", profile="full")
    assert (e.dataset, e.model) == ("mnist", "reference")
    assert (e.M, e.K) == (8, 8)
    assert (e.epochs, e.batch_size) == (3280, 20)
    assert plan("piwae", dataset="omniglot-lake", profile="full")[0].epochs == 1000
    assert MILESTONES[-1] == sum(3**i for i in range(8)) == PROFILES["full"].epochs["mnist"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"method": "miwae", "M": 4}, ["miwae-M4-K16-seed0"]),
        ({"method": "miwae", "K": "2"}, ["miwae-M32-K2-seed0"]),
        (
            {"method": "piwae,vae", "seed": "0,1", "epochs": 4},
            [
                "piwae-M8-K8-seed0-epochs4",
                "vae-M64-K1-seed0-epochs4",
                "piwae-M8-K8-seed1-epochs4",
                "vae-M64-K1-seed1-epochs4",
            ],
        ),
        ({"method": "ciwae", "beta": 0}, ["ciwae-M1-K64-beta0-seed0"]),
        ({"method": "ciwae", "beta": "-0"}, ["ciwae-M1-K64-beta0-seed0"]),
        (
            {"method": "vae,ciwae", "beta": "0.1,0.9"},
            ["vae-M64-K1-seed0", "ciwae-M1-K64-beta0.1-seed0", "ciwae-M1-K64-beta0.9-seed0"],
        ),
        (
            {"method": "ciwae,ciwae-chosen", "beta": "learned"},  # two words for one method
            ["ciwae-chosen-M1-K64-beta0.5-seed0-drep"],
        ),
        ({"method": "vae", "batch_size": "50"}, ["vae-M64-K1-seed0-batch50"]),
        ({"method": "vae", "tag": "2", "optimizer": "sgd"}, ["vae-M64-K1-seed0-sgd-tag-2"]),
    ],
)
def test_lists_layouts_and_departures_show_in_the_name(words, expected):
    assert names(**words) == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"method": "pwiae"}, "unknown method 'pwiae'; did you mean 'piwae'?"),
        ({"method": "gan"}, "unknown method 'gan'; there are iwae, piwae"),
        ({"dataset": "minst"}, "unknown dataset 'minst'; did you mean 'mnist'?"),
        ({"model": "large"}, "unknown model 'large'; did you mean 'larger'?"),
        ({"init": "glorot"}, "unknown init 'glorot'; there are default, burda"),
        ({"batch_size": 0}, "batch_size is '0'; give a whole number from 1 to"),
        ({"batchsize": 50}, "unknown word 'batchsize'; did you mean 'batch_size'?"),
        ({"beta": []}, "no beta is given; name one"),
        ({"method": "ciwae", "beta": 1.5}, "beta is 1.5; give a number between 0"),
        ({"method": "ciwae", "beta": "half"}, "beta is 'half'; give a number"),
        ({"method": "ciwae", "beta": "nan"}, "beta is 'nan'; give a number"),
        ({"method": "ciwae-learned", "beta": 0}, "neither end included"),
        ({"method": "vae", "beta": 0.5}, "vae has no beta"),
        ({"method": "miwae", "M": 5}, "M = 5 does not divide 64 samples; say K, too"),
        ({"method": "iwae,miwae", "K": 8}, "iwae would have 8 samples and miwae 64; say both M"),
        ({"method": "miwae", "alpha": 0.3}, "miwae has no alpha; leave it out, or use vr-iwae"),
        ({"method": "vr-iwae", "alpha": 1}, "alpha is 1; give vr-iwae a number from 0"),
        ({"learning_rate": 0}, "learning_rate is 0; give a number above 0, at most 1"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; give a number"),
        ({"learning_rate": True}, "learning_rate is 'True'; give a number"),
        ({"learning_rate": b"0.1"}, "learning_rate is 'b'0.1''; give a number"),
        ({"method": "vr-iwae", "alpha": False}, "alpha is 'False'; give a number"),
        ({"latent": "a\nb"}, r"latent is 'a\\nb'; give a whole number"),
        ({"learning_rate": 10**400}, "learning_rate is '1000.*'; give a number"),
        ({"held_out": 1}, "held_out is '1'; give a whole number from 2 to"),
        ({"dataset": "mine.npy"}, "omniglot-lake, or FILE.npz, with arrays train and test"),
        ({"dataset": "mine-0123456789abcdef"}, "is somebody's own data; name its file, FILE.npz"),
        ({"model": "nosuch.py"}, "there are reference, larger, or FILE.py:MODEL"),
        ({"method": "qqq"}, "or FILE.py:BOUND"),
        ({"tag": 7}, "tag is 7, which is no text; put it in quotes"),
        ({"tag": "My Tag"}, "tag is 'My Tag'; give lower-case letters, digits and single hyphens"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine'; there are burda, constant"),
        ({"hidden": 0}, "hidden is '0'; give a whole number from 1 to"),
        ({"binarise": "no"}, "not binarised, and the project's networks model pixels"),
        ({"weights": "nowhere"}, "there is no record with weights in nowhere"),
        ({"weights": "a\0b"}, "no record with weights in .*embedded null byte"),
        ({"decoder": "vae", "hidden": 9, "dataset": "mnist"}, "leave hidden out"),
        ({"method": "miwae", "M": 0}, "M is '0'; give a whole number from 1 to"),
        ({"epochs": 0}, "epochs is '0'"),
        ({"seed": "9" * 300}, "seed is '9999"),
        ({"method": "PIWAE"}, "unknown method 'PIWAE'; did you mean 'piwae'?"),
        ({"method": "ciwae", "beta": 0.1234561}, "give at most six digits"),
        ({"method": "ciwae", "beta": "learned", "estimator": "stl"}, "with estimator drep;"),
        ({"epochs": 2.5}, "epochs is '2.5'; give a whole number"),
        ({"seed": -1}, "seed is '-1'"),
        ({"seed": "zero"}, "seed is 'zero'"),
    ],
)
def test_what_is_wrong_is_one_line(words, line):
    with pytest.raises(ReproError, match=line):
        plan(profile="smoke", **words)


def test_an_error_of_a_user_s_is_one_line_whatever_it_quotes():
    assert str(ReproError("an å,\na \r and a \0")) == r"an å,\na \r and a \x00"


def test_other_images_are_the_test_images_of_a_dataset():
    (e,) = plan("vae", profile="smoke", held_out=5)
    assert with_images(e, "digits") == replace(e, held_out=None)


def test_what_a_bound_of_ones_own_leaves_no_choice_of_is_refused(monkeypatch):
    monkeypatch.setitem(METHODS, "mine", both(iwae, M=1, K=16))
    assert plan("mine", profile="smoke", K=16)[0].K == 16
    with pytest.raises(ReproError, match="mine has K = 16; leave K out"):
        plan("mine", profile="smoke", K=5)


@pytest.mark.parametrize(
    ("words", "layouts"),
    [
        ({"method": "iwae", "K": 5}, [(1, 5)]),
        ({"method": "iwae", "M": 5}, [(1, 5)]),
        ({"method": "vae", "M": 1}, [(1, 1)]),
        ({"method": "vae", "K": 3}, [(3, 1)]),
        ({"method": "miwae", "M": 4, "K": 4}, [(4, 4)]),
        ({"method": "miwae", "M": 8, "K": 4}, [(8, 4)]),
        ({"method": "piwae", "K": 4}, [(16, 4)]),
        ({"method": "ciwae,vae,miwae", "M": 4, "K": 16}, [(1, 64), (64, 1), (4, 16)]),
    ],
)
def test_any_number_of_samples_in_the_groups_that_a_method_has(words, layouts, capsys):
    runs = plan(profile="smoke", **words)
    assert [(e.M, e.K) for e in runs] == layouts
    said = capsys.readouterr().out.splitlines()
    assert len(said) == (2 if len(layouts) == 3 else 0)
    assert [planned(e.command) for e in runs] == [[e] for e in runs]


def test_auto_is_smoke_without_an_accelerator(monkeypatch):
    monkeypatch.delenv("REPRO_PROFILE", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert profile_called().name == "smoke"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert plan(device="cpu")[0].profile == "smoke"
    assert profile_called().name == "full"
    monkeypatch.setenv("REPRO_PROFILE", "short")
    assert profile_called().name == "short"
    with pytest.raises(ReproError, match=r"unknown profile 'shrt'; did you mean 'short'\?"):
        profile_called("shrt")


def test_a_command_that_lists_methods_and_betas_makes_just_these_runs():
    for profile_name in ("smoke", "short", "full"):
        runs = wanted(profile_name)
        made = itertools.chain(*map(planned, commands(runs)))
        assert set(made) == set(runs)
    part = runs_of("figure4", "full")
    assert len(commands(part)) == 1
    assert len(commands([*part[:2], part[5]])) == 3  # no one command makes just these


def test_a_progress_line_tells_runs_apart_in_few_words():
    def called(**words):
        return [*told_apart(plan(profile="short", **words)).values()]

    assert called(method="vae,ciwae") == ["vae", "ciwae"]
    assert called(method="vae,ciwae", beta="0,0.3") == ["vae", "ciwae beta0", "ciwae beta0.3"]
    assert called(method="iwae", seed="0,1") == ["iwae seed0", "iwae seed1"]
    layouts = plan("miwae", M=4, profile="short") + plan("miwae,vae", M=8, K=8, profile="short")
    assert [*told_apart(layouts).values()] == ["miwae M4", "miwae M8", "vae"]


VALUES = {  # of a user's words; many go together
    "method": list(METHODS),
    "profile": TRAINED_PROFILES,
    "dataset": list(DATASETS),
    "model": list(MODELS),
    "M": [1, 2, 3, 10, 64],
    "K": [1, 2, 3, 10, 64],
    "beta": [0, 0.3, 0.5, 1, 1.23e-5],
    "seed": [0, 3, 10**9],
    "epochs": [1, 4, 40, 1000, 3280],
    "init": INITS,
    "batch_size": [1, 20, 50],
    "protocol": PROTOCOLS,
    "precision": list(PRECISIONS),
    "estimator": ["rep", "stl", "drep"],
    "decoder": DECODERS,
    "binarise": ["fresh", "once"],
    "hidden": [30, 200],
    "latent": [3, 50],
    "learning_rate": [1e-3, 1e-5, 1, 0.123456],
    "schedule": SCHEDULES,
    "alpha": [-1, 0, 0.3],
    "optimizer": OPTIMIZERS,
    "held_out": [2, 5],
    "tag": ["mine", "drep"],
}


@st.composite
def experiments_of(draw):
    """What a user's few words plan; nothing if they do not go together."""
    said = {word: draw(st.sampled_from(VALUES[word])) for word in ("method", "profile")}
    others = st.lists(st.sampled_from([*VALUES][2:]), max_size=4, unique=True)
    said |= {word: draw(st.sampled_from(VALUES[word])) for word in draw(others)}
    try:
        return plan(**said)
    except ReproError:
        return []


lists_of_runs = st.lists(experiments_of(), max_size=8).map(lambda found: [*itertools.chain(*found)])
many = settings(max_examples=150, deadline=None, derandomize=True)


def test_every_word_has_values_above():
    assert VALUES.keys() == WORDS.keys() - {"weights"}


@many
@given(lists_of_runs)
def test_a_run_s_command_and_its_config_make_that_run(runs):
    for e in runs:
        assert planned(e.command) == plan(**e.as_dict()) == [e]


@many
@given(lists_of_runs)
def test_the_commands_of_runs_make_just_these(runs):
    assert {*itertools.chain(*map(planned, commands(runs)))} == {*runs}


@many
@given(lists_of_runs)
def test_no_two_runs_have_one_name_in_the_progress_line(runs):
    names = told_apart(runs)
    assert len({*names.values()}) == len({*runs})
    methods = [e.method for e in names]
    for e, name in names.items():
        assert name == name.strip()
        assert (name == e.method) or methods.count(e.method) > 1


def test_words_may_be_given_in_their_order():
    in_order = ("piwae", "mnist", "larger", 4, 16, None, "0,1", 3, "short", "burda")
    assert plan(*in_order) == plan(**dict(zip(WORDS, in_order, strict=False)))


def test_runs_of_one_program_differ_in_their_method_and_what_goes_with_it_alone():
    assert [name for name, word in WORDS.items() if not word.shared] == [
        "method", "M", "K", "beta", "seed", "estimator", "alpha"
    ]  # fmt: skip
    assert len({e.shared for e in plan("all,ciwae-learned", seed="0,1", profile="short")}) == 1
    assert plan("miwae", M=4, profile="short")[0].shared == plan("vae", profile="short")[0].shared


def test_the_notebook_s_parameters_are_the_words_at_their_usual_values():
    notebook = json.loads((ROOT / "notebooks" / "train.ipynb").read_text())
    parameters = default_parameters(notebook)
    assert parameters.keys() - WORDS.keys() == {"data", "results", "device", "engine"}
    usual = {name: word.usual for name, word in WORDS.items()} | {"method": "iwae"}
    assert words_in(parameters) == usual


def test_every_engine_can_be_asked_for():
    assert set(ENGINE_CHOICES) == {"auto", *ENGINES} - {"graph"}  # which others fall back to


LAST_WORD_ENDS = """        departure="decoder-{}",
    )
"""
NEW_WORD = """    dropout: int = _word("Percent of units.", _whole, 1, departure="dropout{}")
"""
WITH_THE_NEW_WORD = """
import json
from repro.words.experiments import Experiment, commands, plan
from repro.cli import main
from repro.jupyter.papermill_plugin import checked_name
from repro.ops.sweep import listed_runs

usual, e = (plan("vae", profile="smoke", dropout=d)[0] for d in (None, "7"))
assert "dropout" not in usual.as_dict()
assert Experiment(**usual.as_dict()) == usual
assert Experiment(**e.as_dict()) == e
assert usual.shared != e.shared
assert e.name == usual.name + "-dropout7"
assert commands([e]) == ["python -m repro train --method vae --dropout 7 --profile smoke"]
open("runs.yaml", "w").write("- {profile: smoke, method: vae, dropout: 7}")
assert listed_runs("runs.yaml") == [e]
notebook = json.load(open("train.ipynb"))
given = {"profile": "smoke", "method": "vae", "dropout": 7}
assert checked_name(notebook, given) == f"smoke-{e.setting_folder}-{e.name}"
main(["train", "--help"])
"""


def test_a_new_word_is_one_line(tmp_path):
    shutil.copytree(ROOT / "repro", tmp_path / "repro")
    shutil.copy(ROOT / "notebooks" / "train.ipynb", tmp_path)
    file = tmp_path / "repro" / "words" / "experiments.py"
    file.write_text(file.read_text().replace(LAST_WORD_ENDS, LAST_WORD_ENDS + NEW_WORD))
    done = subprocess.run(
        [sys.executable, "-c", WITH_THE_NEW_WORD], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--dropout TEXT" in done.stdout
    assert "Percent of units." in done.stdout
