"""One process trains a run, wherever the others are that share its folder."""

import os
import signal
import subprocess
import sys
import time

import pytest

from repro import ReproError
from repro.training import leases

HOLD = """
import socket, sys, time
host, place, seconds, end = sys.argv[1:]
if host:
    socket.gethostname = lambda: host
import os
from pathlib import Path
from repro.training import leases
leases.LEASE = 2.0
with leases.held([Path(place)]):
    print("held", flush=True)
    time.sleep(float(seconds))
    if end == "killed":
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "LEASE", 2.0)
    return tmp_path / "group" / "run"


def holder(place, host="", seconds=60.0, end=""):
    """Another process that holds the lease, on this machine or as if on another."""
    words = [sys.executable, "-c", HOLD, host, str(place), str(seconds), end]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lease_that_is_held_here_is_refused_at_once_and_given_back_at_the_end(place):
    other = holder(place)
    begun = time.monotonic()
    with pytest.raises(ReproError, match="is being trained already, by another process"):
        leases.held([place]).__enter__()
    assert time.monotonic() - begun < 1
    other.kill()
    other.wait()
    with leases.held([place]) as lost:
        assert not lost()
    assert not list(place.parent.iterdir())


def test_what_a_killed_process_leaves_is_free_at_once(place):
    other = holder(place, seconds=0, end="killed")
    other.wait()
    assert leases.lease_file(place).exists()
    begun = time.monotonic()
    with leases.held([place]):
        assert time.monotonic() - begun < 1


def test_what_a_dead_machine_leaves_is_free_after_a_while(place, capsys):
    other = holder(place, host="elsewhere", seconds=0, end="killed")
    other.wait()
    with leases.held([place]):
        assert "elsewhere, or was; waiting 2 s" in capsys.readouterr().out


def test_a_machine_that_renews_its_lease_keeps_it(place):
    other = holder(place, host="elsewhere")
    with pytest.raises(ReproError, match="is being trained already"):
        leases.held([place]).__enter__()
    other.kill()
    other.wait()


def test_a_process_that_slept_knows_that_its_lease_is_lost(place):
    with leases.held([place]) as lost:
        assert not lost()
        leases.lease_file(place).unlink()
        deadline = time.monotonic() + 10
        while not lost() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert lost()


def test_who_lost_a_lease_leaves_it_to_its_new_holder(place):
    other = holder(place, host="elsewhere", seconds=0.5)
    other.send_signal(signal.SIGSTOP)
    with leases.held([place]) as lost:
        other.send_signal(signal.SIGCONT)
        other.wait(timeout=20)
        assert leases.lease_file(place).exists()
        assert not lost()


def test_an_empty_file_of_an_older_version_is_no_lease(place):
    place.parent.mkdir(parents=True)
    leases.lease_file(place).touch()
    time.sleep(2.1)
    with leases.held([place]):
        assert leases.lease_file(place).stat().st_size > 0


def dated(file, seconds):
    moment = time.time() + seconds
    os.utime(file, (moment, moment), follow_symlinks=False)


def garbage(file):
    file.write_bytes(b"\xff\x00 no lease")


def link(file):
    file.with_name("another").touch()
    dated(file.with_name("another"), -1000)
    file.symlink_to(file.with_name("another"))


@pytest.mark.parametrize("seconds", [0, -1000, 1000])
@pytest.mark.parametrize(
    "make",
    [garbage, os.mkfifo, os.mkdir, link, lambda file: file.symlink_to("nothing")],
    ids=["garbage", "pipe", "folder", "link", "broken link"],
)
def test_what_is_no_lease_is_named_at_once_and_left_there(place, make, seconds):
    file = leases.lease_file(place)
    file.parent.mkdir(parents=True)
    make(file)
    dated(file, seconds)
    begun = time.monotonic()
    with pytest.raises(ReproError, match=r"unfinished-run.lock is no lease .* move it away"):
        leases.held([place]).__enter__()
    assert time.monotonic() - begun < 1.5
    leases.remove_left([place])
    assert os.path.lexists(file)


def test_an_empty_file_from_the_future_is_named(place):
    file = leases.lease_file(place)
    file.parent.mkdir(parents=True)
    file.touch()
    dated(file, 1000)
    with pytest.raises(ReproError, match="is no lease of this version"):
        leases.held([place]).__enter__()


def test_a_lease_of_another_length_is_named(place, monkeypatch):
    other = holder(place)
    monkeypatch.setattr(leases, "LEASE", 3.0)
    with pytest.raises(ReproError, match="is no lease of this version"):
        leases.held([place]).__enter__()
    leases.remove_left([place])
    assert leases.lease_file(place).exists()
    other.kill()
    other.wait()


def test_files_of_leases_that_nobody_holds_are_removed(place):
    holder(place, seconds=0, end="killed").wait()
    leases.remove_left([place])
    assert not list(place.parent.iterdir())


def test_an_older_filelock_serves_as_well(place, monkeypatch):
    monkeypatch.delattr(leases.filelock, "SoftFileLease")
    with leases.held([place]) as lost:
        assert not lost()
        with pytest.raises(ReproError, match="is being trained already"):
            leases.held([place]).__enter__()


# GPUs of one machine


@pytest.fixture
def machine_with_gpus(tmp_path, monkeypatch):
    """A function that says how many GPUs there are, and which this process may use."""

    def make(count, visible=None):
        monkeypatch.setattr(leases.torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(tmp_path))
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


def taken():
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(("visible", "first", "second"), [(None, "0", "1"), ("3,5", "3", "5")])
def test_each_job_of_a_machine_takes_a_gpu_of_its_own(machine_with_gpus, visible, first, second):
    machine_with_gpus(2, visible)
    with leases.one_gpu():
        assert taken() == first
        machine_with_gpus(2, visible)
        with leases.one_gpu():
            assert taken() == second
            machine_with_gpus(2, visible)
            with pytest.raises(ReproError, match="all 2 GPUs of this machine are taken"):
                leases.one_gpu().__enter__()
        machine_with_gpus(2, visible)
        with leases.one_gpu():
            assert taken() == second


@pytest.mark.parametrize(("count", "visible"), [(0, None), (1, None), (1, "7")])
def test_where_there_is_no_choice_none_is_made(machine_with_gpus, count, visible):
    """Under a scheduler each job may see its own GPU under the same number."""
    machine_with_gpus(count, visible)
    with leases.one_gpu(), leases.one_gpu():
        assert taken() == visible


def test_another_users_jobs_may_take_the_same_locks(machine_with_gpus, tmp_path):
    machine_with_gpus(2)
    with leases.one_gpu():
        (file,) = tmp_path.glob("repro-gpu-*.lock")
        assert file.stat().st_mode & 0o777 == 0o666


def test_a_job_for_the_processor_takes_no_gpu(machine_with_gpus):
    machine_with_gpus(2)
    with leases.one_gpu("cpu"):
        assert taken() is None
