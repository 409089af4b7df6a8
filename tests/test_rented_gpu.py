"""What a rented machine made comes home whole, and overwrites nothing."""

import random
import subprocess
import sys

import pytest

from repro.records import Archive
from repro.report import preregistered
from tests.helpers import ROOT

SCRIPT = ROOT / "workflow" / "rented_gpu.py"


def rented(*words):
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_rehearsal_is_resumed_packed_and_unpacked(tmp_path):
    """The first part has no time to finish; the second time both do, and both records get home."""
    out = tmp_path / "out"
    results = tmp_path / "results"
    order = ("run", "--rehearse", "--out", out, "--results", results, "--minutes")
    assert "its state is kept" in rented(*order, "0.1")
    assert list(results.rglob("unfinished-*.pt"))
    assert "done in" in rented(*order, "10")
    assert not list(results.rglob("unfinished-*.pt"))
    home = tmp_path / "home"
    home.mkdir()
    rented("unpack", out, "--results", home)
    made = {r.experiment.name for r in Archive(home).records("smoke")}
    assert len(made) == 3
    assert made == {r.experiment.name for r in Archive(results).records("smoke")}
    assert rented("unpack", out, "--results", home).count("left alone") > 9


def test_no_piece_is_too_large_and_the_pieces_make_the_whole(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import rented_gpu

    monkeypatch.setattr(rented_gpu, "PART", 1000)
    results = tmp_path / "results" / "full" / "a-run"
    results.mkdir(parents=True)
    content = random.Random(0).randbytes(3500)
    (results / "weights").write_bytes(content)
    (results / "unfinished.lock").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    pieces = rented_gpu.pack(tmp_path / "results", out)
    assert [p.stat().st_size for p in pieces[:-1]] == [1000] * (len(pieces) - 1)
    home = tmp_path / "home"
    home.mkdir()
    rented("unpack", out, "--results", home)
    assert (home / "full" / "a-run" / "weights").read_bytes() == content
    assert not list(home.rglob("*.lock"))
    assert sorted(p.name for p in out.iterdir()) == [p.name for p in pieces]


def test_the_order_ends_with_the_test_that_was_fixed_in_advance(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import rented_gpu

    words = rented_gpu.FIXED_IN_ADVANCE.replace(" --no-fallback", "")
    assert f"python -m repro {words}" == preregistered.COMMAND
    assert rented_gpu.ORDER[-1].words == rented_gpu.FIXED_IN_ADVANCE
