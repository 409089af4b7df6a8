"""Records -> figures. Pure: a figure is what the records say. One colour for each method, everywhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from repro import ReproError
from repro.records import Record
from repro.tables import labels, origin

# Okabe and Ito's colours for the colour-blind, those that show on white and on black
COLOURS = {
    "iwae": "#0072B2",
    "piwae": "#D55E00",
    "miwae": "#009E73",
    "ciwae": "#CC79A7",
    "vae": "#E69F00",
    "ciwae-learned": "#56B4E9",
}
MARKERS = {"iwae": "o", "piwae": "s", "miwae": "^", "ciwae": "D", "vae": "v", "ciwae-learned": "P"}
GREY = "#7a7a7a"  # axes and words, readable on both
STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "repro",
}


def curves(shown: Sequence[Record]) -> Figure:
    """IWAE-64 and log p-hat (where it was measured) of the test set by epoch, a line for each record's method."""
    _some(shown)
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
        for ax, metric, title in zip(axes, ("iwae_64", "log_px"), ("IWAE-64", "log p̂(x)"), strict=True):
            for record, name in zip(shown, labels(shown), strict=True):
                method, measured = record.experiment.method, record.curve.dropna(subset=[metric])
                look = {"color": COLOURS.get(method, GREY), "marker": MARKERS.get(method, "."), "markersize": 4, "linewidth": 1.2}
                error = measured[f"{metric}_se"]
                ax.errorbar(measured["epoch"], measured[metric], error, label=name, capsize=2, **look)
            ax.set(xlabel="epoch", ylabel="nats" if ax is axes[0] else "", title=title)
            ax.xaxis.get_major_locator().set_params(integer=True)
            sns.despine(ax=ax)
        axes[0].legend(frameon=False, fontsize=8)
        return _finished(figure, shown)


def reconstructions(shown: Sequence[Record], side: int = 8) -> Figure:
    """The first record's binary inputs and each record's reconstructions, side x side images each, with SSIM."""
    _some(shown)
    grids = [("input", shown[0].reconstructions[0])]
    for r, name in zip(shown, labels(shown), strict=True):
        m = r.metrics["ssim"]
        grids.append((f"{name}\nSSIM {m['value']:.3f} ± {m['sd']:.3f}", r.reconstructions[1]))
    columns = min(len(grids), 4)
    rows = -(-len(grids) // columns)
    with plt.rc_context(sns.axes_style("white") | STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.5 * rows), layout="constrained", squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, (title, images) in zip(axes.flat, grids, strict=False):
            tiles = np.asarray(images[: side * side], np.float32).reshape(side, side, 28, 28)
            ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(side * 28, side * 28), cmap="gray_r", vmin=0, vmax=1, interpolation="none")
            ax.set_title(title, fontsize=8)
        return _finished(figure, shown, "SSIM ± standard deviation over the test images")


def _some(shown: Sequence[Record]) -> None:
    if not shown:
        raise ReproError("there is no finished run to draw; `python -m repro status` lists the commands that make some")


def _finished(figure: Figure, shown: Sequence[Record], error: str = "± standard error over the test images") -> Figure:
    """With its origin underneath; closed, since a notebook shows what a cell returns and would show it twice."""
    figure.supxlabel(textwrap.fill(origin(shown, error), 120), fontsize=6, x=0.01, ha="left")
    plt.close(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as SVG with nothing in it that changes from one day to the next."""
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path
