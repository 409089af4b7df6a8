"""Work on a GPU that is rented by the hour: check it, train on it, and bring all home.

On the rented machine::

    python workflow/rented_gpu.py run ITEM --minutes 10 --out OUT

The items are those of ``ITEMS`` below, in that order; each needs what the one before it says. Each
part of an item gets a share of the time, goes on from its own state if it was begun before, and
leaves that state if its time is up. At the end, OUT holds at most eight files of at most 15 MB, and
what was said. With ``--rehearse`` the same commands train small digits, on any machine. At home::

    python workflow/rented_gpu.py unpack OUT

puts records into ``results/`` and states beside them, where the same commands go on from them.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
PART = 15_000_000  # bytes of one file that is brought home
MOST_FILES = 8
PACKED = "results.tar.gz"
HASH = f"{PACKED}.sha256"
LOG = "log.txt"
INDUCTOR = "inductor"  # the compiler's cache, which comes home as well
RESERVE = 0.05  # of the time is kept for packing
UNFINISHED = 3  # exit status of a training that left its state


@dataclass(frozen=True)
class Part:
    """A module with its words, and the share of the remaining time that it may take."""

    words: str
    share: float = 1.0
    limited: bool = True  # it knows --time-limit and --results; else it is stopped


BRIEF = "--no-milestones --no-fallback"
SHORT = f"repro train --profile short {BRIEF} --dataset mnist"
FULL = f"repro train --profile full {BRIEF} --precision {{precision}}"
FOUR = f"{SHORT} --seed 40,41,42,43"
FIVE = f"{SHORT} --seed 30,31,32,33,34 --precision {{precision}}"
OMNIGLOT = "--dataset omniglot-lake --method iwae,piwae,miwae --seed 1,2,3,4"
CHECK = (
    Part("repro check", 0.7, limited=False),
    Part("benchmarks.steps --runs 5,10,20 --precision tf32,fp16", limited=False),
)
EQUIVALENCE = (
    Part(f"{FOUR} --precision tf32", 0.5),
    Part(f"{FOUR} --precision fp16"),
    Part("benchmarks.equivalence {results} --precision tf32,fp16", limited=False),
)
SEEDS = (
    Part(FIVE, 0.6),
    Part(f"{FIVE} --method iwae --estimator rws", 0.5),
    Part(f"{FIVE} --method iwae --estimator stl"),
)
ITEMS = {  # in this order
    "check": CHECK,
    "fp16": EQUIVALENCE,
    "seeds": SEEDS,
    "omniglot": (Part(f"{FULL} {OMNIGLOT}"),),
    "mnist": (Part(f"{FULL} --dataset mnist"),),
}
IN_A_REHEARSAL = {  # on any machine, and small
    "--profile short": "--profile smoke --epochs 1",
    "--profile full": "--profile smoke --epochs 1",
    "--dataset mnist": "--dataset digits",
    "--dataset omniglot-lake": "--dataset digits",
    "--seed 40,41,42,43": "--seed 40,41,42 --method vae --M 4",
    "--seed 30,31,32,33,34": "--seed 30",
    "--seed 1,2,3,4": "--seed 1",
    "--runs 5,10,20": "--runs 5 --engine eager",
    "tf32": "float32",
    "fp16": "bf16",
    "{results}": "{results} --profile smoke --margin 100",
}


class Refused(click.ClickException):
    """An error of the user's: one line and exit status 2."""

    exit_code = 2


def _path(context: click.Context, parameter: click.Parameter, given: str | None) -> Path | None:
    """The folder ``given``, where a shell may have left a ~."""
    sys.path.insert(0, str(ROOT))  # the package need not be installed
    from repro import ReproError, as_path

    try:
        return given if given is None else as_path(parameter.name, given).absolute()
    except ReproError as error:
        raise Refused(str(error)) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Use a GPU that is rented by the hour."""


@main.command("run")
@click.argument("item", type=click.Choice([*ITEMS]))
@click.option("--minutes", type=float, required=True, help="How long the machine is there.")
@click.option("--out", callback=_path, required=True, help="What is brought home.")
@click.option("--results", callback=_path, help="Where records are made.")
@click.option("--precision", default="tf32", show_default=True, help="Of seeds, omniglot, mnist.")
@click.option("--rehearse", is_flag=True, help="The same with small digits, on any machine.")
@click.option("--options", default="", help="Further options of every training, as one word.")
def run_command(
    item: str,
    minutes: float,
    out: Path,
    results: Path | None,
    precision: str,
    rehearse: bool,
    options: str,
) -> None:
    """Do one item of work in so many minutes and pack what came of it.

    The same command goes on where its time was up.
    """
    end = time.monotonic() + 60 * minutes * (1 - RESERVE)
    results = results or out.parent / "rented-results"
    for folder in (out, results):
        folder.mkdir(parents=True, exist_ok=True)
    for part in ITEMS[item]:
        left = end - time.monotonic()
        words = _in_a_rehearsal(part.words) if rehearse else part.words
        words = words.format(
            precision="float32" if rehearse else precision, results=shlex.quote(str(results))
        )
        if left <= 0:
            print(f"no time is left for: {words}", flush=True)
            break
        if part.limited:
            words += f" {options} --time-limit {left * part.share:.0f}"
            words += f" --results {shlex.quote(str(results))}"
        seconds = threading.TIMEOUT_MAX if part.limited else left * part.share
        _carry_out(words, out / LOG, seconds, results / INDUCTOR)
    for path in pack(results, out):
        print(path)


def _in_a_rehearsal(words: str) -> str:
    for said, instead in IN_A_REHEARSAL.items():
        words = words.replace(said, instead)
    return words


def _carry_out(words: str, log: Path, seconds: float, cache: Path) -> None:
    """Run a module in so many seconds; what it says goes to the screen and to the log."""
    command = [sys.executable, "-m", *shlex.split(words)]
    print(f"$ python -m {words}", flush=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ python -m {words}\n")
        running = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)},
        )
        stop = threading.Timer(seconds, running.terminate)
        stop.start()
        for line in running.stdout:
            print(line, end="", flush=True)
            file.write(line)
        status = running.wait()
        stop.cancel()
        file.write(f"exit status {status}\n")
    if status == UNFINISHED:
        print("its time is up; its state is kept", flush=True)


def pack(results: Path, out: Path) -> list[Path]:
    """Put records and states into OUT, in files small enough to be fetched, and their hash."""
    for old in out.glob(f"{PACKED}.*"):
        old.unlink()
    whole = out / PACKED
    with tarfile.open(whole, "w:gz") as tar:
        for path in sorted(results.rglob("*")):
            if path.is_file() and path.suffix not in (".lock", ".partial"):
                tar.add(path, path.relative_to(results).as_posix())
    paths = []
    digest = hashlib.sha256()
    with whole.open("rb") as file:
        while piece := file.read(PART):
            digest.update(piece)
            path = out / f"{PACKED}.{len(paths):02d}"
            path.write_bytes(piece)
            paths.append(path)
    whole.unlink()
    (out / HASH).write_text(f"{digest.hexdigest()} of {len(paths)} pieces\n", encoding="utf-8")
    if len(paths) + 2 > MOST_FILES:
        print(f"{len(paths)} pieces: more than {MOST_FILES - 2}", file=sys.stderr)
    return [*paths, out / HASH]


@main.command("unpack")
@click.argument("out", callback=_path)
@click.option("--results", callback=_path, default=str(ROOT / "results"))
def unpack_command(out: Path, results: Path) -> None:
    """Put what was brought home in OUT into the folder of results; nothing is overwritten.

    It is unpacked beside its place and moved there when it is whole, so that an interruption leaves
    nothing that could be taken for a record or a state.
    """
    beside = results / "unpacked.partial"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        with tarfile.open(_joined(out, beside), "r:gz") as tar:
            tar.extractall(beside / "whole", filter="data")
        for path in _records_and_files(beside / "whole"):
            _bring(path, results / path.relative_to(beside / "whole"))
    except (OSError, tarfile.TarError) as error:
        raise Refused(f"{out} is not all unpacked: {error}; the same command goes on") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _joined(out: Path, folder: Path) -> Path:
    """All pieces as one file in ``folder``, if they are those that were packed."""
    pieces = sorted(out.glob(f"{PACKED}.[0-9][0-9]"))
    if not (out / HASH).is_file():
        raise Refused(f"there is no {HASH} in {out}; bring it home with the pieces")
    expected = (out / HASH).read_text(encoding="utf-8").split()
    if len(expected) != 4 or expected[2] != str(len(pieces)):
        raise Refused(f"{out} has {len(pieces)} pieces, and {HASH} is {' '.join(expected)}")
    joined = folder / PACKED
    digest = hashlib.sha256()
    with joined.open("wb") as file:
        for piece in pieces:
            content = piece.read_bytes()
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != expected[0]:
        raise Refused(f"the pieces in {out} are not as they were packed; bring them home again")
    return joined


def _records_and_files(folder: Path) -> list[Path]:
    """The folders of records, and files such as states, which belong to no record."""
    records = [path.parent for path in folder.rglob("metrics.json")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return records + [file for file in files if file.parent not in records]


def _bring(path: Path, target: Path) -> None:
    """Move a record or a file to its place, unless something is there.

    Raises Refused if that is another state of a training, of which one would be lost.
    """
    is_state = INDUCTOR not in target.parts
    if is_state and target.is_file() and target.read_bytes() != path.read_bytes():
        raise Refused(f"{target} is there already, and differs; move it away and try again")
    if target.exists():
        if is_state:
            print(f"left alone: {target} is there already")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    if is_state:
        print(target)


if __name__ == "__main__":
    main()
