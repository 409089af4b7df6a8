"""Verification of what is committed.

Every record is read and checked again; every exhibit notebook is executed again and compared; the
pictures of pages are drawn again; and git tells what is missing or was changed.
"""

import base64
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from repro import ReproError, in_short, own
from repro.ops.export import CRATE, MADE_BY_EXPORT
from repro.records import Archive, Record
from repro.records.provenance import CHANGES, ask_git, code_of, git_says
from repro.records.schema import WEIGHTS
from repro.words.exhibits import NOTEBOOKS
from repro.words.experiments import KEPT_PROFILES, PROFILES, TRAINED_PROFILES, plan

# The least structural similarity, anywhere in an image, of two drawings that are the same;
# letters' edges may differ.
LEAST_SIMILARITY = 0.7
LIKELIHOODS = "likelihood/*.npz"  # one file for each model
CLEARLY_POSITIVE = 3.0  # standard errors over the test images, from which on a gap is a fault
REMEDY = "if the records are right, run: make notebooks"
TAKE_AGAIN = "take it from the archive again"
# Where an export gains no file, and files of code, which it gains nowhere.
SEALED = ["notebooks/**/*.ipynb", "book/*", "workflow/**/*", "results/states/*"]
CODE = {".py", ".pyc", ".pyd", ".so"}
APART = {"_build", "__pycache__", "results"}  # folders from which no code is imported
SEALED += [f"results/{profile}/**/*" for profile in KEPT_PROFILES]
UNKNOWN_CODE = "it does not say which committed code made it"


def checked_records(archive: Archive) -> Iterator[tuple[str, str]]:
    """Check each table and record, and yield its name and its fault, empty if there is none.

    Checked are files and hashes, schema, finite numbers (``records.read``), provenance, that the
    gap IWAE-64 - log p-hat is not positive, and that numbers that are kept twice agree.
    """
    published = archive.folder / "published"
    kinds = (("*.csv", archive.table), ("*.npz", archive.arrays), (LIKELIHOODS, archive.arrays))
    for pattern, read in kinds:
        for path in sorted(published.glob(pattern)):
            name = path.relative_to(published).with_suffix("").as_posix()
            yield f"published/{name}", _said_by(_fault_of_table, read, name)
    for profile in KEPT_PROFILES:
        for path in archive.folders(profile):
            name = path.relative_to(archive.folder).as_posix()
            yield name, _said_by(_fault_of_record, path, archive)


def _fault_of_record(path: Path, archive: Archive) -> str:
    record = archive.read(path)
    gap = record.metrics["minus_kl"]
    if gap["value"] > CLEARLY_POSITIVE * gap["se"]:
        return f"-KL is {gap['value']:.3f} +- {gap['se']:.3f}; it cannot be positive"
    if not _are_committed(record.provenance.codes) or record.provenance.dirty is None:
        return UNKNOWN_CODE
    bound, log_px = (record.metrics[name]["value"] for name in ("iwae_64", "log_px"))
    if not math.isclose(gap["value"], bound - log_px, abs_tol=1e-9):
        return "minus_kl is not iwae_64 - log_px"
    if (path / WEIGHTS).exists():
        record.weights()  # and the pictures, of which both say in one line that they are none
    _ = record.reconstructions
    return _fault_of_words(record) or _fault_of_images(record) or _fault_of_last_line(record)


def _fault_of_words(record: Record) -> str:
    """Name what config.json says that provenance.json contradicts, or that no command makes."""
    e, origin = record.experiment, record.provenance
    if origin.data["name"] != e.dataset or origin.precision not in (None, e.precision):
        return "config.json and provenance.json differ in the data or the precision"
    if origin.log_px_samples != PROFILES[e.profile].log_px_samples:
        return "log_px_samples in provenance.json is not its profile's"
    has_own = any(own.is_own(str(value)) for value in e.said.values())
    if e.profile in TRAINED_PROFILES and not has_own and plan(**e.as_dict()) != [e]:
        return "config.json is of a run that no command makes"
    return ""


def _fault_of_images(record: Record) -> str:
    """Name a metric that is not the mean of its single images, or has another error."""
    images = record.images
    if {"iwae_64", "log_px"} <= images.keys():
        images = images | {"minus_kl": images["iwae_64"] - images["log_px"]}
    rounding = {"minus_kl": 1e-7 * max((np.abs(v).max() for v in images.values()), default=0)}
    for name, values in images.items():
        metric = record.metrics.get(name, {})
        sd = values.std(ddof=1)
        of_images = (values.mean(), sd / len(values) ** 0.5, sd)
        recorded = [metric.get(key, math.nan) for key in ("value", "se")]
        if not _agree(of_images, (*recorded, metric.get("sd", sd)), rounding.get(name, 0)):
            return f"the mean of {name} over images.npz, or its error, is not the metric"
    return ""


def _fault_of_last_line(record: Record) -> str:
    """Name a bound in the curve's last line that is not the metric; IWAE-64 has other noise."""
    if record.curve.empty:
        return ""
    last = record.curve.iloc[-1]
    log_px = record.metrics["log_px"]
    if not _agree((last["log_px"], last["log_px_se"]), (log_px["value"], log_px["se"])):
        return "the last log_px in curve.csv is not the metric"
    bound = record.metrics["iwae_64"]
    errors = last["iwae_64_se"] + bound["se"]
    if abs(last["iwae_64"] - bound["value"]) > CLEARLY_POSITIVE * errors:  # false of nan
        return "the last iwae_64 in curve.csv is not the metric, by more than its error"
    return ""


def _agree(found: Sequence[float], recorded: Sequence[float], rounding: float = 0) -> bool:
    """True if a mean and its errors are those recorded, in single precision; false of nan."""
    return np.allclose(found, recorded, rtol=1e-6, atol=max(1e-6, rounding))


def _fault_of_table(read: Callable[[str], tuple], name: str) -> str:
    """Name the fault of a table or arrays, which ``read`` reads with their provenance."""
    _, provenance = read(name)
    code = code_of(provenance["commit"], provenance["dirty"])
    return "" if _are_committed([code]) else UNKNOWN_CODE


def _said_by(check: Callable[..., str], *what) -> str:
    """The fault that a check finds, or why it cannot be made."""
    try:
        return check(*what)
    except ReproError as error:
        return str(error)
    except Exception as error:  # whatever files may raise that are not as this project writes them
        return f"it cannot be read ({in_short(error)})"


def _are_committed(codes: list[str]) -> bool:
    """True if a provenance names committed code, and nothing else."""
    return not any(code == "unknown" or code.endswith(CHANGES) for code in codes)


def fault_of_notebook(path: Path, archive: Archive) -> str:
    """Execute a committed notebook again, and describe the first difference; empty if none."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(fresh, timeout=600, kernel_name="python3", resources=where)
    try:
        client.execute(env=os.environ | {"REPRO_RESULTS_DIR": str(archive.folder.resolve())})
    except CellExecutionError as error:
        return f"it cannot be executed ({error.ename}: {str(error.evalue)[:200]})"
    except (CellTimeoutError, DeadKernelError) as error:
        return f"it cannot be executed ({in_short(error)})"
    for was, now in zip(committed.cells, fresh.cells, strict=True):
        if was.cell_type == "code" and not _same_outputs(was.outputs, now.outputs):
            return f"the cell '{was.id}' gives something else than is there; {REMEDY}"
    return ""


def fault_of_picture(path: Path, drawn: str) -> str:
    """Compare a committed SVG picture with ``drawn``, a fresh one; describe the fault, if any."""
    if not path.exists():
        return "it is missing; run: make notebooks"
    if not same_drawing(path.read_text(encoding="utf-8"), drawn):
        return f"it is not what the records give; {REMEDY}"
    return ""


def exhibits_again(archive: Archive, project: Path) -> Iterator[tuple[str, str]]:
    """Redraw each picture and execute each notebook again; yield its name and its fault."""
    from repro.studies.figures import IN_PAGES, draw
    from repro.studies.style import save

    with tempfile.TemporaryDirectory() as folder:
        for name in IN_PAGES:
            drawn = save(draw(name, archive=archive), Path(folder) / f"{name}.svg")
            picture = f"book/{name}.svg"
            yield picture, fault_of_picture(project / picture, drawn.read_text(encoding="utf-8"))
    for name in NOTEBOOKS:
        path = project / "notebooks" / f"{name}.ipynb"
        yield f"notebooks/{name}.ipynb", fault_of_notebook(path, archive)


def unasked_of_git(project: Path, archive: Archive) -> str:
    """Say why git cannot tell what of an archive is committed; empty if it can, or a crate does."""
    where = archive.folder.resolve()
    if is_exported(project) and where.is_relative_to(project.resolve()):
        return ""
    tracked, fault = ask_git(project, "ls-files", "--", str(where))
    if fault:
        return fault
    if not tracked:
        return f"it has no file of {where}"
    if git_says(project, "rev-parse", "--is-shallow-repository") != "false":
        return "this clone lacks older commits; run: git fetch --unshallow"
    return ""


def unlike_git(project: Path, archive: Archive) -> Iterator[tuple[str, str]]:
    """Yield each committed file of results, notebooks and book that is missing or has changed.

    Yields nothing where git cannot be asked.
    """
    where = (str(archive.folder.resolve()), "notebooks", "book")
    said = git_says(project, "status", "--porcelain", "--untracked-files=no", "--", *where)
    for line in (said or "").splitlines():
        state, path = line[:2], line[3:]
        what = "is missing" if "D" in state else "is not as it is committed"
        yield path, f"{what}; see: git diff HEAD -- {path}"


def unlike_crate(project: Path) -> Iterator[tuple[str, str]]:
    """Yield each file of an unpacked export that is missing, was changed or was added."""
    if not is_exported(project):
        return
    try:
        hashes = _hashes_in(project / CRATE)
    except Exception as error:  # whatever a file may raise that this project did not write
        yield CRATE, f"is missing or damaged ({in_short(error)}); {TAKE_AGAIN}"
        return
    for name, sha256 in hashes.items():
        path = project / name
        if not path.is_file():
            yield name, f"is missing; {TAKE_AGAIN}"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            yield name, f"is not as it was exported; {TAKE_AGAIN}"
    for path in sorted({*_sealed(project)}):
        name = path.relative_to(project).as_posix()
        if path.is_symlink() or (name not in hashes and not path.is_dir()):
            yield name, "was added since the export; move it away"


def _sealed(project: Path) -> Iterator[Path]:
    """What lies where an export gains no file, and code and links in any folder in sight."""
    for pattern in SEALED:
        yield from project.glob(pattern)
    for folder, below, files in os.walk(project):
        below[:] = [name for name in below if name not in APART and not name.startswith(".")]
        paths = (Path(folder, name) for name in (*below, *files))
        yield from (path for path in paths if path.suffix in CODE or path.is_symlink())


def is_exported(project: Path) -> bool:
    """True if a folder is an unpacked export, of which files may have been lost."""
    return any((project / name).exists() for name in MADE_BY_EXPORT)


def _hashes_in(crate: Path) -> dict[str, str]:
    """The SHA-256 of each file that a crate lists; ValueError if one is outside its folder."""
    if crate.exists() and not crate.is_file():
        raise ValueError("it is no file")
    graph = json.loads(crate.read_text(encoding="utf-8"))["@graph"]
    hashes = {e["@id"]: e["sha256"] for e in graph if e["@type"] == "File"}
    paths = [Path(name) for name in hashes if name.isprintable()]
    if len(paths) < len(hashes) or any(p.is_absolute() or ".." in p.parts for p in paths):
        raise ValueError("it names what cannot be a file of the archive")
    if not hashes:
        raise ValueError("it names no files")
    return hashes


def unknown_commits(project: Path, archive: Archive) -> Iterator[tuple[str, str]]:
    """Yield each record whose commit git does not have; nothing where it cannot be asked."""
    if is_exported(project) or unasked_of_git(project, archive):
        return
    for record in archive.of_profiles(*KEPT_PROFILES):
        provenance = record.provenance
        for code in dict.fromkeys([provenance.commit, *(provenance.trained_by or [])]):
            if git_says(project, "rev-parse", "--verify", f"{code}^{{commit}}") is None:
                yield str(record.path), f"its code {code} is no commit of this repository"


def _same_outputs(committed: list, fresh: list) -> bool:
    """True if two cells show the same."""
    was, now = _shown(committed), _shown(fresh)
    if [mime for mime, _ in was] != [mime for mime, _ in now]:
        return False
    return all(looks_the_same(*a, b) for a, (_, b) in zip(was, now, strict=True))


def _shown(outputs: list) -> list[tuple[str, str]]:
    """The contents of outputs, each in all its forms."""
    found: list[tuple[str, str]] = []
    for output in outputs:
        found += sorted(output.get("data", {"text": output.get("text")}).items())
    return found


def looks_the_same(mime: str, committed: str, fresh: str) -> bool:
    """True if two outputs of a cell agree: text exactly, PNG images by their local SSIM."""
    if mime == "image/svg+xml":
        return same_drawing(committed, fresh)
    if mime != "image/png":
        return committed == fresh
    from skimage.metrics import structural_similarity

    a, b = map(_pixels, (committed, fresh))
    if a.shape != b.shape:
        return False
    _, everywhere = structural_similarity(a, b, channel_axis=2, data_range=255, full=True)
    return bool(everywhere.min() > LEAST_SIMILARITY)


def same_drawing(committed: str, fresh: str) -> bool:
    """True if two SVG pictures have the same parts, and no number differs by a pixel.

    Names that matplotlib makes of a part's content differ where its last digits do, as on another
    processor, and count by the order in which they come.

    >>> same_drawing('<path d="M 1.5 2.5"/>', '<path d="M 1.6 2.5"/>')
    True
    """
    committed, fresh = _with_parts_counted(committed), _with_parts_counted(fresh)
    if NUMBER.split(committed) != NUMBER.split(fresh):
        return False
    before, after = (np.array(NUMBER.findall(p), float) for p in (committed, fresh))
    return bool((np.abs(before - after) < 1).all())


def _with_parts_counted(picture: str) -> str:
    """An SVG picture with a number in place of each hash, the same one for the same hash."""
    numbers: dict[str, str] = {}
    return HASH.sub(lambda found: numbers.setdefault(found[0], f"part{len(numbers)}"), picture)


HASH = re.compile(r"[0-9a-f]{10}")  # in the name of a part of an SVG picture
NUMBER = re.compile(r"-?\d+\.\d+")


def _pixels(png: str) -> np.ndarray:
    """A PNG, in base64, as [height, width, 4], 0 to 255."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(png)))
    return np.asarray(image.convert("RGBA"), float)
