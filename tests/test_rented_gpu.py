"""What a rented machine made comes home whole, and overwrites nothing."""

import hashlib
import io
import os
import random
import re
import shlex
import subprocess
import sys
import tarfile

import pytest

from repro.cli import train_command
from repro.records import Archive
from repro.words.experiments import WORDS, plan
from tests.helpers import ROOT

SCRIPT = ROOT / "workflow" / "rented_gpu.py"


STATE = random.Random(0).randbytes(3500)


def rented(*words, status=0):
    """What the script prints; of a failure, what it complains of."""
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.mark.slow
def test_a_rehearsal_is_resumed_packed_and_unpacked(tmp_path):
    """The first time it has no time to finish; the second time it does, and records get home."""
    out = tmp_path / "out"
    results = tmp_path / "results"
    item = ("run", "omniglot", "--rehearse", "--out", out, "--results", results, "--minutes")
    assert "its state is kept" in rented(*item, "0.1")
    assert list(results.rglob("unfinished-*.pt"))
    assert "done in" in rented(*item, "10")
    assert not list(results.rglob("unfinished-*.pt"))
    home = tmp_path / "home"
    home.mkdir()
    rented("unpack", out, "--results", home)
    made = {r.experiment.name for r in Archive(home).records("smoke")}
    assert len(made) == 3
    assert made == {r.experiment.name for r in Archive(results).records("smoke")}
    assert rented("unpack", out, "--results", home).count("left alone") == 3


@pytest.fixture
def rented_gpu(monkeypatch):
    """The script as a module, with pieces of 1,000 bytes."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import rented_gpu

    monkeypatch.setattr(rented_gpu, "PART", 1000)
    return rented_gpu


@pytest.fixture
def packed(tmp_path, rented_gpu):
    """OUT with the pieces of one state, and an empty home."""
    results = tmp_path / "results" / "full"
    results.mkdir(parents=True)
    (results / "unfinished-a.pt").write_bytes(STATE)
    (results / "unfinished-a.lock").touch()
    for name in ("out", "home"):
        (tmp_path / name).mkdir()
    made = rented_gpu.pack(tmp_path / "results", tmp_path / "out")
    assert sorted(made) == sorted((tmp_path / "out").iterdir())
    return tmp_path / "out", tmp_path / "home"


def test_no_piece_is_too_large_and_the_pieces_make_the_whole(packed):
    out, home = packed
    pieces = sorted(out.glob("*.[0-9][0-9]"))
    assert [p.stat().st_size for p in pieces[:-1]] == [1000] * (len(pieces) - 1)
    assert len(pieces) == 4
    rented("unpack", out, "--results", home)
    assert (home / "full" / "unfinished-a.pt").read_bytes() == STATE
    assert not list(home.rglob("*.lock"))


def damaged(out, how):
    """Damage what was packed, in one of the ways in which it can be."""
    piece = out / "results.tar.gz.01"
    digest = out / "results.tar.gz.sha256"
    if how == "a piece is missing":
        piece.unlink()
    elif how == "a piece is cut":
        piece.write_bytes(piece.read_bytes()[:500])
    elif how == "no hash":
        digest.unlink()
    else:
        for old in out.glob("*.[0-9][0-9]"):
            old.unlink()
        content = b"no tar" if how == "no tar" else hostile_tar()
        (out / "results.tar.gz.00").write_bytes(content)
        digest.write_text(f"{hashlib.sha256(content).hexdigest()} of 1 pieces")


def hostile_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../elsewhere"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a piece is missing", "pieces, and results.tar.gz.sha256 is"),
        ("a piece is cut", "not as they were packed; bring them home again"),
        ("no hash", "there is no results.tar.gz.sha256"),
        ("no tar", "is not all unpacked"),
        ("hostile", "is not all unpacked"),
    ],
)
def test_what_did_not_come_home_whole_is_refused_and_leaves_nothing(packed, how, said):
    out, home = packed
    damaged(out, how)
    said_there = rented("unpack", out, "--results", home, status=2)
    assert said in said_there
    assert said_there.count("\n") == 1
    assert [*home.iterdir()] == []
    assert not (home.parent / "elsewhere").exists()


def test_an_interruption_leaves_no_part_of_a_state_in_its_place(packed, rented_gpu, monkeypatch):
    out, home = packed

    def cut_short(tar, path, **filtered):
        (path / "full").mkdir(parents=True)
        (path / "full" / "unfinished-a.pt").write_bytes(b"half")
        os._exit(9)

    if pid := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    else:
        monkeypatch.setattr(tarfile.TarFile, "extractall", cut_short)
        rented_gpu.unpack_command.callback(out, home)
    assert not (home / "full").exists()
    rented("unpack", out, "--results", home)
    assert (home / "full" / "unfinished-a.pt").stat().st_size == 3500
    assert [p.name for p in home.iterdir()] == ["full"]


def test_a_state_that_went_on_elsewhere_is_not_left_behind_in_silence(packed):
    out, home = packed
    older = home / "full" / "unfinished-a.pt"
    older.parent.mkdir()
    older.write_bytes(b"where it was before")
    said = rented("unpack", out, "--results", home, status=2)
    assert "is there already, and differs; move it away" in said
    older.unlink()
    rented("unpack", out, "--results", home)
    assert older.stat().st_size == 3500


def parts(rented_gpu):
    return [part for item in rented_gpu.ITEMS.values() for part in item]


def test_every_training_of_an_item_can_be_planned_and_is_limited(rented_gpu):
    trainings = [part for part in parts(rented_gpu) if part.words.startswith("repro train ")]
    assert len(trainings) == 7
    for part in trainings:
        for words in (part.words, rented_gpu._in_a_rehearsal(part.words)):
            given = shlex.split(words.format(precision="fp16"))[2:]
            options = train_command.make_context("train", given).params
            assert not options["fallback"]
            runs = plan(**{name: options[name] for name in WORDS})
            assert part.limited
            assert runs


def test_a_rehearsal_asks_for_nothing_that_only_a_gpu_or_days_can_do(rented_gpu):
    for part in parts(rented_gpu):
        words = rented_gpu._in_a_rehearsal(part.words)
        assert not re.search("tf32|fp16|full|short|mnist|omniglot", words), words


def test_a_path_may_begin_with_a_tilde(tmp_path, packed, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    rented("unpack", "~/out", "--results", "~/home")
    assert (tmp_path / "home" / "full" / "unfinished-a.pt").stat().st_size == 3500


def test_the_compiler_s_cache_comes_home_and_never_stands_in_the_way(packed, rented_gpu):
    out, home = packed
    cache = out.parent / "results" / rented_gpu.INDUCTOR / "kernel"
    cache.parent.mkdir()
    for content in ("older", "newer"):
        cache.write_text(content)
        rented_gpu.pack(out.parent / "results", out)
        rented("unpack", out, "--results", home)
    assert (home / rented_gpu.INDUCTOR / "kernel").read_text() == "older"
