"""Is what is committed still true? Every record is read and checked again, every exhibit notebook executed again and compared."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from repro import ReproError, experiments, records

NEAR = 0.7  # the least structural similarity, anywhere in an image, of two drawings that are the same; letters' edges may differ
ABOVE = 3.0  # Monte Carlo standard errors from which on a positive gap is a fault


def results(folder: str | Path | None = None) -> Iterator[tuple[str, str]]:
    """For each record, its name and what is wrong with it, or an empty string.

    Files and hashes, schema, finite numbers (``records.read``), provenance, and a gap that is negative, as it must be.
    """
    for name in sorted(p.stem for p in (records.results_folder(folder) / "published").glob("*.csv")):
        yield f"published/{name}", _table(name, folder)
    for profile in experiments.PROFILES:
        for path in sorted((records.results_folder(folder) / profile).glob("*/*/config.json")):
            if profile != "smoke" and not path.parent.name.endswith(".partial"):
                yield f"{profile}/{path.parent.parent.name}/{path.parent.name}", _record(path.parent)


def _record(path: Path) -> str:
    try:
        record = records.read(path)
    except ReproError as error:
        return str(error)
    gap, p = record.metrics["minus_kl"], record.provenance
    if gap["value"] > ABOVE * gap["se"]:
        return f"-KL is {gap['value']:.3f} +- {gap['se']:.3f}; it cannot be positive"
    if not p["commit"] or p["dirty"] or any(c == "unknown" or c.endswith(records.CHANGES) for c in p.get("trained_by", [])):
        return "it does not say which committed code made it"
    for metric, values in record.images.items():
        if abs(values.mean() - record.metrics[metric]["value"]) > 1e-4:
            return f"the mean of {metric} over images.npz is not the metric"
    return ""


def _table(name: str, folder: str | Path | None) -> str:
    try:
        _, origin = records.read_table(name, folder)
    except ReproError as error:
        return str(error)
    return "" if origin["commit"] and not origin["dirty"] else "it does not say which committed code made it"


def notebook(path: Path, folder: str | Path | None = None) -> str:
    """What differs when a committed notebook is executed again on the records in ``folder``, in a line; empty where nothing does."""
    import nbformat
    from nbclient import NotebookClient

    committed, fresh = (nbformat.read(path, as_version=4) for _ in range(2))
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(fresh, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    client.execute(env=os.environ | {"REPRO_RESULTS_DIR": str(records.results_folder(folder).resolve())})
    for was, now in zip(committed.cells, fresh.cells, strict=True):
        if was.cell_type == "code" and not _same(was.outputs, now.outputs):
            return f"the cell '{was.id}' gives something else than is committed; run: make notebooks"
    return ""


def _same(committed: list, fresh: list) -> bool:
    a, b = ([output.get("data", {"text": output.get("text")}) for output in outputs] for outputs in (committed, fresh))
    return [x.keys() for x in a] == [y.keys() for y in b] and all(same(k, x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def same(mime: str, committed: str, fresh: str) -> bool:
    """Whether two outputs say the same: text to the letter, images to the eye."""
    if mime != "image/png":
        return committed == fresh
    from skimage.metrics import structural_similarity

    a, b = (pixels(base64.b64decode(data)) for data in (committed, fresh))
    if a.shape != b.shape:
        return False
    _, everywhere = structural_similarity(a, b, channel_axis=2, data_range=255, full=True)
    return bool(everywhere.min() > NEAR)


def pixels(png: bytes) -> np.ndarray:
    """A PNG as [height, width, 4], 0 to 255."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), float)
