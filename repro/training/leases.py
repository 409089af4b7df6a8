"""Leases on the places of records, so that one process trains a run; and locks on GPUs.

A lease is a file that its holder renews, filelock's ``SoftFileLease``. It needs no locks of the
operating system, which network file systems may lack, and no clocks that agree. The lease of a
killed process is free at once on its own machine, and on others when it has not been renewed for
``LEASE`` seconds. A GPU belongs to one machine, and a lock of its operating system will do.
"""

import contextlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import filelock
import torch

from repro import ReproError, plural

NOT_GIVEN = (filelock.Timeout, OSError, ValueError)  # the last of a lease of another length
LEASE = 60.0  # seconds; every process that shares a folder must have the same


def lease_file(place: Path) -> Path:
    """The file of the lease on ``place``, the folder of a record."""
    return place.with_name(f"unfinished-{place.name}.lock")


@contextlib.contextmanager
def held(places: Iterable[Path]) -> Iterator[Callable[[], bool]]:
    """Hold the leases on ``places``; yield a function that returns True if one has been lost.

    A lease is lost if this process slept for longer than ``LEASE`` and another took it. Raises
    ReproError if another process holds one.
    """
    leases: list[filelock.BaseFileLock] = []

    def lost() -> bool:
        return any(getattr(lease, "compromise", None) for lease in leases)

    with contextlib.ExitStack() as stack:
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            lease = _lease(lease_file(place))
            _acquire(lease, place)
            leases.append(lease)
            stack.callback(_give_back, lease, lease_file(place))
        yield lost


def _give_back(lease: filelock.BaseFileLock, file: Path) -> None:
    """Release a lease, which removes its file if that is still its own."""
    lease.release()
    if not hasattr(lease, "compromise"):  # the lock of an older filelock leaves its file
        file.unlink(missing_ok=True)


def remove_left(places: Iterable[Path]) -> None:
    """Remove the lease files of ``places`` that no process holds."""
    for file in map(lease_file, places):
        if file.exists():
            with contextlib.suppress(*NOT_GIVEN), _lease(file).acquire(timeout=0):
                file.unlink(missing_ok=True)


def _lease(file: Path) -> filelock.BaseFileLock:
    """A lease; where filelock is older than leases, its lock."""
    with contextlib.suppress(FileNotFoundError):
        written = file.lstat()
        is_empty = stat.S_ISREG(written.st_mode) and written.st_size == 0
        if is_empty and time.time() - written.st_mtime > LEASE:
            file.unlink()  # an older version's, which would count as held for ever
    kind = getattr(filelock, "SoftFileLease", None)
    return filelock.FileLock(file) if kind is None else kind(file, lease_duration=LEASE)


def _acquire(lease: filelock.BaseFileLock, place: Path) -> None:
    """Take a lease at once, or when a machine that does not renew it has had its time.

    Raises ReproError if another process holds it, or if its file is no lease.
    """
    file = lease_file(place)
    with contextlib.suppress(ValueError, IsADirectoryError):  # a lease of another length, or none
        if _is_taken(lease, 0):
            return
        owner = getattr(lease, "owner", None)
        wait = 0.5 if owner is None else 0  # it may be half written, or given back just now
        if owner is not None and owner.hostname != socket.gethostname():
            wait = 1.5 * LEASE
            print(
                f"{place} is being trained by {owner.hostname}, or was; waiting {LEASE:.0f} s to "
                "see which",
                flush=True,
            )
        if _is_taken(lease, wait):
            return
        if getattr(lease, "owner", place) is not None:
            raise ReproError(
                f"{place} is being trained already, by another process; wait for it, or name "
                f"another folder for the results; if there is no such process, delete {file}"
            )
    raise ReproError(
        f"{file} is no lease of this version; if no other process trains {place}, move it away"
    )


def _is_taken(lease: filelock.BaseFileLock, seconds: float) -> bool:
    """Try to take a lease for some seconds; True if this process has it."""
    with contextlib.suppress(filelock.Timeout):
        lease.acquire(timeout=seconds)
    return lease.is_locked


@contextlib.contextmanager
def one_gpu(device: str = "cuda") -> Iterator[None]:
    """Reserve one GPU for this process within the context, and hide the others from it.

    It must be called before CUDA is used. With one GPU, or none, or for another device, there is
    nothing to choose. Raises ReproError if all are taken.
    """
    gpus = _visible_gpus() if device == "cuda" else []
    if len(gpus) < 2:
        yield
        return
    for gpu in gpus:
        file = Path(tempfile.gettempdir()) / f"repro-gpu-{gpu}.lock"
        lock = filelock.FileLock(file, mode=0o666)  # other users' jobs take it, too
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=0)
            break
    else:
        raise ReproError(
            f"all {plural(len(gpus), 'GPU')} of this machine are taken by other jobs; "
            "run as many jobs at a time as there are GPUs"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with lock:
        yield


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
