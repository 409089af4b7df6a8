"""Facts of a provenance: the code's commit and state, versions, the device and the date."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from repro import ReproError, __version__, plural

CHANGES = "+changes"  # after a commit's hash: the code held changes that are not in it
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")  # of a neighbour
PACKAGE = Path(__file__).parents[1]


def code_and_date() -> dict:
    """The code's commit and state, versions, and the date and time (UTC).

    ``REPRO_COMMIT`` names the commit of a copy that has left its git folder behind; whoever sets it
    vouches that nothing was changed.
    """
    import numpy
    import torch

    if named := os.environ.get("REPRO_COMMIT"):
        if not re.fullmatch("[0-9a-f]{40}", named):
            raise ReproError(
                f"REPRO_COMMIT is '{named}'; give all 40 digits that `git rev-parse HEAD` prints"
            )
        code = {"commit": named, "dirty": False, "commit_from": "REPRO_COMMIT"}
    else:
        code = _code_in_git()
    versions = {
        "repro": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return code | {"versions": versions, "date": now}


def _code_in_git() -> dict:
    """The package's commit and whether a module is changed or added; None if git has none of it."""
    if not git_says(PACKAGE, "ls-files", "__init__.py"):  # the git around it is a neighbour's
        return {"commit": None, "dirty": None}
    changes = git_says(PACKAGE, "status", "--porcelain", "--untracked-files=no", "--", ".")
    modules = ("*.py", "*.so", "*.pyd")
    added = git_says(PACKAGE, "ls-files", "--others", "--", *modules)  # ignored ones, too
    listed = git_says(PACKAGE, "ls-files", "-v") or "?"  # H: git looks whether it has changed
    unseen = [line for line in listed.splitlines() if not line.startswith("H ")]
    changed = (changes, added, unseen) != ("", "", [])
    return {"commit": git_says(PACKAGE, "rev-parse", "HEAD"), "dirty": changed}


def code_of(commit: str | None, dirty: bool | None) -> str:
    """Text for a commit, marked if the code was ``dirty``; ``unknown`` if the commit is None."""
    return (commit or "unknown") + (CHANGES if dirty else "")


def git_says(folder: Path, *words: str) -> str | None:
    """The output of a git command in a folder; None if it fails."""
    output, fault = ask_git(folder, *words)
    return None if fault else output


def ask_git(folder: Path, *words: str) -> tuple[str, str]:
    """The output of a git command in a folder, and in one line why it failed, empty if not."""
    command = ["git", "-C", folder, *words]
    as_text = {"capture_output": True, "text": True, "errors": "surrogateescape"}
    here = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    try:
        done = subprocess.run(command, env=here, **as_text)
    except OSError as error:
        return "", f"git cannot be run: {error.strerror}"
    said = done.stderr.strip().splitlines() or [f"git {words[0]} failed"]
    return done.stdout.rstrip(), said[0] if done.returncode else ""


def device_name(device) -> str:
    """The name of the GPU, or of the CPU with the number of threads."""
    import torch

    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_cpu_name()}, {plural(torch.get_num_threads(), 'thread')}"
    return re.sub(r"[^\w .,()@/+-]", " ", name)  # as ``schema.is_plain`` has it


def _cpu_name() -> str:
    try:
        found = re.search(
            r"^model name\s*:(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
