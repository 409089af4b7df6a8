"""SSIM of reconstructions: Figures 5 to 7, Table 2, and what the report's printed values are."""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro.records import Archive, Record, omniglot_of
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate
from repro.studies.captions import METHOD_TITLES, about_released, labels, length_of_ours
from repro.studies.curves import checkpoint_of, some
from repro.studies.frames import (
    OF_WEIGHTS,
    AnyArchive,
    Rows,
    by_method,
    for_methods,
    framed,
    rounded_up,
    row_of,
    table_of_ours,
)
from repro.studies.reported import SSIM
from repro.studies.style import nothing, styled, subplots, tiled, with_conditions
from repro.words.exhibits import SETTINGS
from repro.words.experiments import TABLE_METHODS

NEAR = {3: 0.005, 2: 0.01}  # a printed SSIM of so many digits is confirmed within this distance

SIDE = 8  # tiles in a row of a grid
SPREAD = "SSIM ± standard deviation over the test images"


def ssim_on(record: Record, tested: str) -> dict[str, float] | None:
    """A record's SSIM on the dataset ``tested``; None if it was not tested on that."""
    own = record.experiment.dataset == tested
    return record.metrics.get("ssim" if own else f"ssim_on_{tested}")


def ssim_spread(runs: Sequence[Record], tested: str):
    """SSIM on the dataset ``tested``: mean and standard deviation over images, means over seeds."""
    values = list(filter(None, (ssim_on(r, tested) for r in runs)))
    if not values:
        return NOT_RUN
    mean = np.mean([v["value"] for v in values])
    sd = np.mean([v["sd"] for v in values])
    return Estimate(float(mean), float(sd), error_of=ErrorOf.SPREAD, digits=3)


def table2(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Table 2: SSIM on Omniglot of models of both datasets; mean ± deviation over the images.

    >>> print(table2().loc[("mnist", "report's weights"), "VAE"])
    0.573 ± 0.115
    """
    archive = Archive.of(archive)
    selection = archive.select("table2", profile)
    version = omniglot_of(selection.used or archive.released.values())
    rows: Rows = {}
    for _, trained, _, printed in (p for p in SSIM if p.exhibit == "Table 2"):
        length = length_of_ours(e for e in selection.wanted if e.family == trained)
        sources = {
            length: [r for r in selection.used if r.experiment.family == trained],
            OF_WEIGHTS: archive.released_of(trained, "reference"),
        }
        for source, runs in sources.items():
            rows[trained, source] = row_of(runs, partial(ssim_spread, tested=version))
        rows[trained, "report"] = for_methods(printed)
    error = f"SSIM on {version} ± standard deviation over the test images, as the report gives it"
    about = "Structural similarity of Omniglot's images after training on either dataset."
    return table_of_ours(rows, ["trained on", "source"], selection, about, error)


class SsimVerdict(StrEnum):
    """The possible verdicts on an SSIM value that the report prints."""

    CONFIRMED = "confirmed"
    CHECKPOINT = "fits best checkpoint"
    DIFFERS = "differs"


class Comparison(NamedTuple):
    """A printed SSIM, that of the released weights of the last epoch, and the best checkpoint's."""

    printed: Estimate
    again: Estimate | None
    checkpoint: Estimate | None

    @property
    def verdict(self) -> SsimVerdict | None:
        """The verdict on the printed value; None if the weights were not measured."""
        if self.again is None:
            return None
        near = NEAR[self.printed.digits]
        if abs(self.printed.value - self.again.value) <= near:
            return SsimVerdict.CONFIRMED
        if self.checkpoint and abs(self.printed.value - self.checkpoint.value) <= near:
            return SsimVerdict.CHECKPOINT
        return SsimVerdict.DIFFERS


def comparisons(archive: Archive) -> dict[str, dict[str, Comparison]]:
    """Every printed SSIM beside the released weights', by title of table or figure, and method."""
    best = best_checkpoints(archive)
    found = {}
    for exhibit, trained, tested, printed in SSIM:
        models = by_method(archive.released_of(trained, "reference"))
        version = omniglot_of(archive.released.values()) if tested == "omniglot" else tested
        column = "ssim" if tested == trained else "ssim_elsewhere"
        row = {}
        for m in TABLE_METHODS:
            again = ssim_spread(models[m], version) or None
            row[m] = Comparison(printed[m], again, best.get((trained, m, column)))
        found[f"{exhibit}: {trained} to {tested}"] = row
    return found


def compared(archive: Archive, title_prefix: str) -> list[Comparison]:
    """The comparisons of SSIM in tables and figures whose title has the ``title_prefix``."""
    rows = [row for title, row in comparisons(archive).items() if title.startswith(title_prefix)]
    return [c for row in rows for c in row.values()]


def best_checkpoints(archive: Archive) -> dict[tuple[str, str, str], Estimate]:
    """SSIM of the best checkpoints of the reference model, by dataset, method and column."""
    if not archive.table_path("best").exists():
        return {}
    found = {}
    for row in archive.table("best")[0].to_dict("records"):
        dataset, model = row["setting"].split("-")
        for column in ("ssim", "ssim_elsewhere") if model == "reference" else ():
            value, sd = row[column], row[f"{column}_sd"]
            spread = Estimate(value, sd, error_of=ErrorOf.SPREAD, digits=3)
            found[dataset, row["method"], column] = spread
    return found


def ssim_of_checkpoint(archive: Archive, dataset: str, method: str) -> Estimate:
    """SSIM of the checkpoint that the released code calls best, on the dataset it trained on."""
    return best_checkpoints(archive)[dataset, method, "ssim"]


def furthest_ssim_of_best(archive: Archive) -> str:
    """The largest distance of a printed SSIM of Figures 5 and 6 from the best checkpoint's."""
    apart = [c.printed.value - c.checkpoint.value for c in compared(archive, "Figure")]
    return rounded_up(np.abs(apart).max())


def verdicts(archive: Archive, title_prefix: str) -> list[SsimVerdict]:
    """The verdicts on printed SSIM in tables and figures whose title has the ``title_prefix``."""
    return [c.verdict for c in compared(archive, title_prefix) if c.verdict]


def ssim_table(archive: AnyArchive = None) -> pd.DataFrame:
    """The printed SSIM values beside the weights'; ± standard deviation over the images.

    >>> print(ssim_table().loc[("Figure 6: omniglot to omniglot", "verdict"), "VAE"])
    fits best checkpoint
    """
    archive = Archive.of(archive)
    rows: Rows = defaultdict(dict)
    for title, row in comparisons(archive).items():
        for m, c in row.items():
            apart = Estimate(c.printed.value - c.again.value, digits=3) if c.again else ""
            shown = {"printed": c.printed, "again": c.again or NOT_RUN, "difference": apart}
            if any(other.checkpoint for other in row.values()):
                shown["best checkpoint"] = c.checkpoint or ""
            shown["verdict"] = c.verdict or ""
            for source, cell in shown.items():
                rows[title, source][METHOD_TITLES[m]] = cell
    used = [r for r in archive.released.values() if r.experiment.model == "reference"]
    error = "± standard deviation over the test images"
    return framed(rows, ["what", "source"], **about_released(used, 10, error))


def checkpoints(archive: AnyArchive = None) -> pd.DataFrame:
    """The checkpoint that the released code calls best: by how many images it was chosen, and when.

    And how training ended. The choice is log p-hat of the first K batches of 20. Its noise, the
    standard deviation of the choice about log p-hat over the last 200 epochs of the log, is beside
    that of the mean of so many random images. Slope: of log p-hat over the last eighth.

    >>> print(checkpoints().loc[("mnist, reference", "IWAE(64)"), "best epoch"])
    2569 of 3280
    """
    archive = Archive.of(archive)
    released = archive.released
    rows: Rows = {}
    for (dataset, model), m in product(SETTINGS.values(), TABLE_METHODS):
        if record := released.get((dataset, model, m)):
            rows[f"{dataset}, {model}", METHOD_TITLES[m]] = _row_of_checkpoint(record, archive)
    caption = (
        "From the released logs (results/published/checkpoints.csv). "
        "Slope: nats of log p̂ per 1000 epochs, over the last eighth of them."
    )
    missing = about_released([*released.values()], 15)["missing"]
    return framed(rows, ["released logs", "method"], caption, missing)


def _row_of_checkpoint(record: Record, archive: Archive) -> dict[str, object]:
    mine = checkpoint_of(record.experiment, archive)
    values = record.images["log_px"]
    images = 20 * int(mine.batches)
    of_so_many = values.std(ddof=1) * np.sqrt(1 / images - 1 / len(values))
    best: dict[str, object] = {"best epoch": "continued", "log p̂ there − at the end": ""}
    if not mine.continued:
        best["best epoch"] = f"{mine.best_epoch:.0f} of {mine.epochs}"
        best["log p̂ there − at the end"] = Estimate(mine.log_px_there - mine.log_px_end)
    return {
        "images": f"{images:,}",
        "noise": Estimate(mine.choice_sd),
        "of so many": Estimate(of_so_many),
        **best,
        "slope at the end": Estimate(mine.slope, mine.slope_se),
    }


def _rows(name: str, profile: str, archive: Archive) -> dict[str, list[Record]]:
    """The records of each row of a figure: the report's weights, and ours of one seed."""
    ours: dict[tuple[str, str], Record] = {}
    for r in sorted(archive.select(name, profile).used, key=lambda r: r.experiment.seed):
        ours.setdefault((r.experiment.dataset, r.experiment.method), r)
    rows = {"the report's weights": archive.released_in(name), "ours": [*ours.values()]}
    return {whose: runs for whose, runs in rows.items() if runs}


def method_grids(name: str, profile: str = "best", archive: AnyArchive = None):
    """Figures 5 and 6: inputs, and five methods' reconstructions with SSIM; below, ours."""
    rows = _rows(name, profile, Archive.of(archive))
    (printed,) = (p.row for p in SSIM if p.exhibit == name.replace("figure", "Figure "))
    panels = []
    for whose, runs in rows.items():
        panels.append((f"{whose}:\ninput", runs[0].reconstructions[0]))
        of_method = by_method(runs)
        for m, title in METHOD_TITLES.items():
            r = next(iter(of_method[m]), None)
            spread = ssim_spread([r], r.experiment.dataset) if r else NOT_RUN
            said = f"\nreport: {printed[m]}" if whose != "ours" else ""
            panels.append((f"{title}\n{spread}{said}", r.reconstructions[1] if r else None))
    return _draw_grids(panels, 3, (8, 0.3 + 6 * len(rows)), rows.get("ours", []))


def grids_elsewhere(name: str = "figure7", profile: str = "best", archive: AnyArchive = None):
    """Figure 7: MIWAE(8,8) on the dataset that it was not trained on; below, ours."""
    rows = _rows(name, profile, Archive.of(archive))
    everyone = [*rows.get("ours", []), *rows.get("the report's weights", [])]
    panels = []
    for whose, runs in rows.items():
        for tested, trained in (("MNIST", "Omniglot"), ("Omniglot", "MNIST")):
            version = omniglot_of(everyone) if tested == "Omniglot" else "mnist"
            r = _trained_on(trained.lower(), runs)
            inputs, again = r.reconstructions_elsewhere if r else (None, None)
            spread = ssim_spread([r], version) if r else NOT_RUN
            said = f"SSIM {spread}" if spread else "not run"
            panels.append((f"{whose}:\ninput, {tested}", inputs))
            panels.append((f"trained on {trained}\n{said}", again))
    return _draw_grids(panels, 4, (8, 0.3 + 2.3 * len(rows)), rows.get("ours", []))


def _trained_on(family: str, runs: Sequence[Record]) -> Record | None:
    """The first record of a model trained on a dataset and tested on the other."""
    of_family = (r for r in runs if r.experiment.family == family)
    return next((r for r in of_family if r.reconstructions_elsewhere), None)


def run_grids(shown: Sequence[Record]):
    """The first record's inputs and each record's reconstructions with SSIM, if it has them."""
    some(shown)
    shown = [record for record in shown if record.reconstructions]
    if not shown:
        return nothing()
    panels = [("input", shown[0].reconstructions[0])]
    for r, name in zip(shown, labels(shown), strict=True):
        spread = ssim_spread([r], r.experiment.dataset)
        panels.append((f"{name}\nSSIM {spread}", r.reconstructions[1]))
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    return _draw_grids(panels, columns, (2.1 * columns, 2.5 * rows), shown)


@styled(frame=True)
def _draw_grids(
    panels: Sequence[tuple[str, np.ndarray | None]],
    columns: int,
    size: tuple[float, float],
    ours: Sequence[Record],
):
    """Titles, and under each the first images of [n, ...]; an empty frame if there are none."""
    if not panels:
        return nothing()
    figure, axes = subplots(-(-len(panels) // columns), columns, size)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (title, images) in zip(axes.flat, panels, strict=False):
        ax.set_title(title, fontsize=8)
        ax.set(xticks=[], yticks=[])
        if images is None:
            ax.set_aspect("equal")
        else:
            tiles = np.zeros((SIDE * SIDE, *images.shape[1:]), np.float32)
            tiles[: len(images)] = images[: len(tiles)]
            tiles = tiles.reshape(SIDE, SIDE, *images.shape[1:])
            ax.imshow(tiled(tiles), cmap="gray_r", vmin=0, vmax=1, interpolation="none")
    return with_conditions(figure, ours, SPREAD)
