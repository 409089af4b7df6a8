"""Work on a GPU that is rented by the hour: check it, train on it, and bring all home.

On the rented machine::

    python workflow/rented_gpu.py run --minutes 25 --out OUT

Each part of the order below gets a share of the time, goes on from its own state if it was begun
before, and leaves that state if its time is up. At the end, OUT holds at most eight files of at
most 15 MB. At home::

    python workflow/rented_gpu.py unpack OUT

puts records into ``results/`` and states beside them, where the same commands go on from them.
"""

import hashlib
import shlex
import shutil
import subprocess
import sys
import tarfile
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
RESERVE = 0.05  # of the time is kept for packing
UNFINISHED = 3  # exit status of a training that left its state


@dataclass(frozen=True)
class Part:
    """A command of ``python -m repro``, and the share of the remaining time that it may take."""

    words: str
    share: float
    limited: bool = True  # it knows --time-limit


TRAIN = "train --profile full --precision tf32 --no-milestones --no-fallback"
FIXED_IN_ADVANCE = (  # the test on the book's page of that name
    "train --profile short --dataset mnist --precision tf32 --no-milestones --no-fallback "
    f"--seed {','.join(map(str, range(10, 30)))}"
)
ORDER = (  # an H200 takes 2, 8 and 6 minutes for the first three
    Part("check", 1.0, limited=False),
    Part(f"{TRAIN} --dataset omniglot-lake", 0.6),
    Part(f"{TRAIN} --dataset mnist --epochs {{epochs}}", 0.5),
    Part(FIXED_IN_ADVANCE, 1.0),
)
REHEARSAL = (
    Part("train --profile smoke --method iwae,vae --epochs 1", 0.6),
    Part("train --profile smoke --method piwae --epochs 1", 1.0),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Use a GPU that is rented by the hour."""


@main.command("run")
@click.option("--minutes", type=float, required=True, help="How long the machine is there.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="What is brought home.")
@click.option("--results", type=click.Path(path_type=Path), help="Where records are made.")
@click.option("--epochs", default=364, show_default=True, help="Of MNIST's training.")
@click.option("--rehearse", is_flag=True, help="Train something tiny instead, on any machine.")
@click.option("--options", default="", help="Further options of every training, as one word.")
def run_command(
    minutes: float, out: Path, results: Path | None, epochs: int, rehearse: bool, options: str
) -> None:
    """Carry out the order in so many minutes and pack what came of it."""
    end = time.monotonic() + 60 * minutes * (1 - RESERVE)
    results = results or out.parent / "rented-results"
    out.mkdir(parents=True, exist_ok=True)
    for part in REHEARSAL if rehearse else ORDER:
        left = end - time.monotonic()
        if left <= 0:
            print(f"no time is left for: {part.words}", flush=True)
            break
        words = part.words.format(epochs=epochs)
        if part.limited:
            words += f" {options} --time-limit {left * part.share:.0f}"
            words += f" --results {shlex.quote(str(results))}"
        _carry_out(words, out / LOG)
    for path in pack(results, out):
        print(path)


def _carry_out(words: str, log: Path) -> None:
    """Run a command; what it says goes to the screen and to the log."""
    command = [sys.executable, "-m", "repro", *shlex.split(words)]
    print(f"$ python -m repro {words}", flush=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ python -m repro {words}\n")
        running = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in running.stdout:
            print(line, end="", flush=True)
            file.write(line)
        status = running.wait()
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
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--results", type=click.Path(path_type=Path), default=ROOT / "results")
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


class Refused(click.ClickException):
    """An error of the user's: one line and exit status 2."""

    exit_code = 2


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
    if target.is_file() and target.read_bytes() != path.read_bytes():
        raise Refused(f"{target} is there already, and differs; move it away and try again")
    if target.exists():
        print(f"left alone: {target} is there already")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    print(target)


if __name__ == "__main__":
    main()
