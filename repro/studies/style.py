"""One look for all figures: colours, markers, and what stands underneath."""

import contextlib
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repro.records import Record
from repro.records.estimates import Estimate
from repro.studies.captions import OVER_IMAGES, conditions

# Okabe and Ito's colours for the colour-blind, those that show on white and on black
LOOKS = {  # method -> its colour and its marker
    "iwae": ("#0072B2", "o"),
    "piwae": ("#D55E00", "s"),
    "miwae": ("#009E73", "^"),
    "ciwae": ("#CC79A7", "D"),
    "vae": ("#E69F00", "v"),
    "ciwae-learned": ("#56B4E9", "P"),
    "ciwae-chosen": ("#999933", "X"),
    "u-miwae": ("#882255", "p"),
}
COLOURS = {method: colour for method, (colour, _) in LOOKS.items()}
MARKERS = {method: marker for method, (_, marker) in LOOKS.items()}
GREY = "#757575"  # readable on white and on black
INK = "#4d4d4d"  # of axes and words in vector figures, which a dark page inverts
BETWEEN_ROWS = 0.16  # inches, from what is below one row's axes to the next row's titles
STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "repro",
    "figure.dpi": 160,
}


def as_vectors() -> None:
    """In a notebook: show figures as SVG from here on, the same bytes every time."""
    import matplotlib.pyplot as plt
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    plt.rcParams["svg.hashsalt"] = STYLE["svg.hashsalt"]
    set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})


DASHED_PHI = {"markerfacecolor": "none", "linestyle": "--"}  # of the inference network's gradient


@contextlib.contextmanager
def styled_figure(rows: int, columns: int, size: tuple[float, float], axes: str = "ticks", **how):
    """A figure and its axes [rows, columns], in our style; closed, or notebooks show it twice."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    parts = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
    colours = dict.fromkeys(parts, INK if axes == "ticks" else GREY)
    with plt.rc_context(sns.axes_style(axes) | STYLE | colours):
        layout = {"figsize": size, "layout": "constrained", "squeeze": False}
        figure, grid = plt.subplots(rows, columns, **layout, **how)
        if axes == "ticks":
            figure.get_layout_engine().set(h_pad=BETWEEN_ROWS / 2)
            sns.despine(figure)
        try:
            yield figure, grid
        finally:
            plt.close(figure)


def look(method: str) -> dict:
    """The line of a method."""
    colour, marker = LOOKS.get(method, (GREY, "."))
    return {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2}


def whole_epochs(ax) -> None:
    """Ticks at whole epochs only."""
    ax.xaxis.get_major_locator().set_params(integer=True)


def plain_ticks(ax, *leading: int) -> None:
    """A logarithmic axis of y with ticks at these leading digits alone, as plain numbers."""
    ax.set(yscale="log")
    ax.yaxis.get_major_locator().set_params(subs=leading)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def counts_below(ax, counts: Sequence[int]) -> None:
    """A logarithmic axis of x with ticks at these counts alone."""
    ax.set(xscale="log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()


def error_bars(ax, places: Sequence, estimates: Sequence[Estimate], **line) -> None:
    """Estimates at their places, with their standard errors."""
    values = [e.value for e in estimates]
    errors = [e.se for e in estimates]
    ax.errorbar(places, values, errors, **{"capsize": 2} | line)


def legend_above(figure, ax, columns: int) -> None:
    """One legend for the figure, of what is drawn on ``ax``, each name once."""
    handles, names = ax.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    where = "outside upper center"
    figure.legend(once.values(), once, loc=where, ncols=columns, frameon=False, fontsize=8)


def with_conditions(figure, ours: Sequence[Record], error: str | None = OVER_IMAGES):
    """The figure with what our runs are underneath."""
    text = textwrap.fill(f"Ours: {conditions(ours, error)}", 125)
    figure.supxlabel(text, fontsize=8, x=0.01, ha="left")
    return figure


def tiled(images: np.ndarray) -> np.ndarray:
    """Images [row, column, 784] as one."""
    rows, columns, _ = images.shape
    tiles = images.reshape(rows, columns, 28, 28).transpose(0, 2, 1, 3)
    return tiles.reshape(rows * 28, columns * 28)


def nothing():
    """A figure that says that there is nothing to draw."""
    with styled_figure(1, 1, (8, 1)) as (figure, ((ax,),)):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "nothing of this has been run yet", ha="center", va="center")
    return figure


def save(figure, path: Path) -> Path:
    """Write the figure as SVG or PNG, with nothing that changes from one day to the next."""
    import matplotlib.pyplot as plt

    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=200)
    return path
