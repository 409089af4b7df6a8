"""Grids of images and their reconstructions: Figures 5 to 7."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from repro.records import Archive, Record, omniglot_of
from repro.records.estimates import NOT_RUN
from repro.studies.captions import METHOD_TITLES, labels
from repro.studies.figures.by_epoch import some
from repro.studies.figures.style import nothing, styled_figure, with_conditions
from repro.studies.reported import SSIM
from repro.studies.tables import AnyArchive, ssim_on, ssim_spread
from repro.words.exhibits import runs_of
from repro.words.experiments import TABLE_METHODS

SIDE = 8  # tiles in a row of a grid
SPREAD = "SSIM ± standard deviation over the test images"


def _rows(name: str, profile: str, archive: Archive) -> dict[str, list[Record]]:
    """The records of each row of a figure: the report's weights, and ours of one seed."""
    ours = _of_lowest_seed(archive.select(name, profile).used)
    rows = {"the report's weights": archive.released_in(name), "ours": ours}
    return {whose: runs for whose, runs in rows.items() if runs}


def _of_lowest_seed(shown: Sequence[Record]) -> list[Record]:
    """Of each dataset and method the record with the lowest seed."""
    by_seed = sorted(shown, key=lambda r: -r.experiment.seed)
    return list({(r.experiment.dataset, r.experiment.method): r for r in by_seed}.values())


def method_grids(name: str, profile: str = "best", archive: AnyArchive = None) -> Figure:
    """Figures 5 and 6: inputs, and five methods' reconstructions with SSIM; below, ours."""
    rows = _rows(name, profile, Archive.of(archive))
    family = runs_of(name, "short")[0].family
    if not rows:
        return nothing()
    height = 0.3 + 6 * len(rows)
    with styled_figure(2 * len(rows), 3, (8, height), "white") as (figure, axes):
        for panels, (whose, runs) in zip(axes.reshape(len(rows), 6), rows.items(), strict=True):
            draw_tiles(panels[0], runs[0].reconstructions[0], f"{whose}:\ninput")
            of_method = {r.experiment.method: r for r in runs}
            for ax, m in zip(panels[1:], TABLE_METHODS, strict=True):
                r = of_method.get(m)
                spread = ssim_spread([r], r.experiment.dataset) if r else NOT_RUN
                title = f"{METHOD_TITLES[m]}\n{spread}"
                if whose != "ours":
                    title += f"\nreport: {SSIM[family][family][m]}"
                draw_tiles(ax, r.reconstructions[1] if r else None, title)
        return with_conditions(figure, rows.get("ours", []), SPREAD)


def grids_elsewhere(
    name: str = "figure7", profile: str = "best", archive: AnyArchive = None
) -> Figure:
    """Figure 7: MIWAE(8,8) on the dataset that it was not trained on; below, ours."""
    rows = _rows(name, profile, Archive.of(archive))
    if not rows:
        return nothing()
    everyone = [*rows.get("ours", []), *rows.get("the report's weights", [])]
    names = {"MNIST": "mnist", "Omniglot": omniglot_of(everyone)}
    with styled_figure(len(rows), 4, (8, 0.3 + 2.3 * len(rows)), "white") as (figure, axes):
        for row, (whose, runs) in zip(axes, rows.items(), strict=True):
            for pair, tested, trained in (
                (row[:2], "MNIST", "Omniglot"),
                (row[2:], "Omniglot", "MNIST"),
            ):
                r = _trained_on(trained.lower(), runs)
                inputs, again = r.reconstructions_elsewhere if r else (None, None)
                said = "not run"
                if r and ssim_on(r, names[tested]):
                    said = f"SSIM {ssim_spread([r], names[tested])}"
                draw_tiles(pair[0], inputs, f"{whose}:\ninput, {tested}")
                draw_tiles(pair[1], again, f"trained on {trained}\n{said}")
        return with_conditions(figure, rows.get("ours", []), SPREAD)


def _trained_on(family: str, runs: Sequence[Record]) -> Record | None:
    """The first record of a model trained on a dataset and tested on the other."""
    of_family = (r for r in runs if r.experiment.family == family)
    return next((r for r in of_family if r.reconstructions_elsewhere), None)


def run_grids(shown: Sequence[Record]) -> Figure:
    """The first record's binary inputs and each record's reconstructions with SSIM."""
    some(shown)
    grids = [("input", shown[0].reconstructions[0])]
    for r, name in zip(shown, labels(shown), strict=True):
        spread = ssim_spread([r], r.experiment.dataset)
        grids.append((f"{name}\nSSIM {spread}", r.reconstructions[1]))
    columns = min(len(grids), 4)
    rows = -(-len(grids) // columns)
    with styled_figure(rows, columns, (2.1 * columns, 2.5 * rows), "white") as (figure, axes):
        for ax in axes.flat[len(grids) :]:
            ax.set_axis_off()
        for ax, (title, images) in zip(axes.flat, grids, strict=False):
            draw_tiles(ax, images, title)
        return with_conditions(figure, shown, SPREAD)


def draw_tiles(ax, images: np.ndarray | None, title: str) -> None:
    """The first images of [n, 784] in one, under a title; an empty frame if there are none."""
    ax.set_title(title, fontsize=8)
    ax.set(xticks=[], yticks=[])
    if images is None:
        ax.set_aspect("equal")
        return
    tiles = np.asarray(images[: SIDE * SIDE], np.float32).reshape(SIDE, SIDE, 28, 28)
    together = tiles.transpose(0, 2, 1, 3).reshape(SIDE * 28, SIDE * 28)
    ax.imshow(together, cmap="gray_r", vmin=0, vmax=1, interpolation="none")
