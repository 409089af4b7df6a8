"""Slurm on one machine, over loopback: installed if it is missing, started, and stopped again.

It needs root and Debian's packages. A configuration that is not of this file is left alone.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CONFIGURATION = Path("/etc/slurm/slurm.conf")
MARK = "# written by tests/cluster/local_slurm.py"
KEY = Path("/etc/munge/munge.key")
DAEMONS = ("munged", "slurmctld", "slurmd")


class NotHere(Exception):  # noqa: N818
    """Why there can be no Slurm on this machine."""


def _install() -> None:
    """Debian's slurm-wlm and munge."""
    if all(map(shutil.which, DAEMONS)):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotHere("Slurm is not installed, and installing it needs root and apt-get")
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    install = [*apt, "install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]
    quiet = {"capture_output": True, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run([*apt, "update"], check=False, **quiet)
    if subprocess.run(install, check=False, **quiet).returncode:
        raise NotHere("apt-get cannot install slurm-wlm and munge here")


def _configure(folder: Path) -> None:
    """A cluster of this machine alone, its state in ``folder``."""
    if CONFIGURATION.exists() and MARK not in CONFIGURATION.read_text():
        raise NotHere(f"{CONFIGURATION} is of another cluster and is left alone")
    host = socket.gethostname().split(".")[0]
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    lines = f"""{MARK}
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={megabytes * 9 // 10}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    for part in ("state", "spool"):
        (folder / part).mkdir()
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(lines)


def _start_munge() -> None:
    """The service by which Slurm's daemons know each other."""
    if subprocess.run(["munge", "-n"], check=False, capture_output=True).returncode == 0:
        return
    for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge", KEY.parent):
        Path(folder).mkdir(exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    if not KEY.exists():
        KEY.write_bytes(secrets.token_bytes(1024))
        shutil.chown(KEY, "munge", "munge")
        KEY.chmod(0o400)
    subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "munged --force"], check=True)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """A running cluster of this machine; raises NotHere if there can be none."""
    _install()
    if os.geteuid() != 0:
        raise NotHere("starting Slurm needs root")
    _configure(folder)
    _start_munge()
    try:
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], check=True)
        _wait_until_idle()
        yield
    finally:
        for daemon in ("slurmd", "slurmctld"):
            subprocess.run(["pkill", "-x", daemon], check=False)
        CONFIGURATION.unlink(missing_ok=True)


def _wait_until_idle() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        said = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
        if said.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    raise NotHere(f"Slurm did not start: {said.stdout}{said.stderr}".strip())
