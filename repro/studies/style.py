"""One look for all figures: colours, markers, and what stands underneath."""

import contextlib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from repro.catalogue import CHANNELS, picture_shape
from repro.records import Record
from repro.studies.captions import OVER_IMAGES, conditions

# Okabe and Ito's colours for the colour-blind, those that show on white and on black
COLOURS = {
    "iwae": "#0072B2",
    "piwae": "#D55E00",
    "miwae": "#009E73",
    "ciwae": "#CC79A7",
    "vae": "#E69F00",
    "ciwae-learned": "#56B4E9",
    "ciwae-chosen": "#999933",
    "u-miwae": "#882255",
}
MARKERS = dict(zip(COLOURS, "os^DvPXp", strict=True))
GREY = "#757575"  # readable on white and on black
INK = "#4d4d4d"  # of axes and words in vector figures, which a dark page inverts
STYLE = {  # of what is saved
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "repro",
    "figure.dpi": 160,
}
THEME = STYLE | {
    "axes.linewidth": 0.8,
    "errorbar.capsize": 2,
    "figure.constrained_layout.h_pad": 0.08,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
}
INKED = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
OPEN = {"markerfacecolor": "none"}


def as_vectors() -> None:
    """In a notebook: show figures as SVG from here on, the same bytes every time."""
    import matplotlib.pyplot as plt
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    plt.rcParams["svg.hashsalt"] = STYLE["svg.hashsalt"]
    set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})


@contextlib.contextmanager
def styled(frame: bool = False):
    """Our theme for a function that draws, with a frame around images if they are drawn.

    Its figure is arranged, and closed, or notebooks show it twice.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    there = {*plt.get_fignums()}
    theme = THEME | dict.fromkeys(INKED, GREY if frame else INK)
    theme |= dict.fromkeys(("axes.spines.right", "axes.spines.top"), frame)
    with plt.rc_context():
        sns.set_theme("paper", "white" if frame else "ticks", color_codes=False, rc=theme)
        try:
            yield
        finally:
            for number in {*plt.get_fignums()} - there:
                plt.figure(number).set_layout_engine("constrained")
                plt.close(number)


def subplots(rows: int, columns: int, size: tuple[float, float], **how):
    """A figure of this size in inches, and its axes [rows, columns]."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, squeeze=False, **how)


def faceted(data: pd.DataFrame, size: tuple[float, float], x: str, y: str, line=(), **facets):
    """A panel of ``lines`` for each value of a column (``col``) of a tidy frame, or of two.

    Titles are the values. Returns seaborn's FacetGrid, whose ``axes_dict`` finds a panel.
    """
    import seaborn as sns

    grid = sns.FacetGrid(data, **facets)
    grid.map_dataframe(lines, x=x, y=y, **dict(line))
    grid.set_titles("{col_name}, {row_name}" if "row" in facets else "{col_name}")
    grid.figure.set_size_inches(size)
    return grid


def lines(data: pd.DataFrame, x: str, y: str, ax=None, opened=OPEN, color=None, **words) -> None:
    """A line for each method of a tidy frame; an ``Estimate`` has a bar of a standard error.

    Where a column ``open`` is true, the line has open marks, or what ``opened`` says. Other words
    are seaborn.lineplot's; they may replace those ``BY_METHOD``.
    """
    import seaborn as sns

    how = BY_METHOD | {"legend": False, "errorbar": None, "ax": ax} | words
    if data[y].dtype == object:
        data = _with_ends(data, y)
        how |= {"estimator": "median", "errorbar": ("pi", 100), "err_style": "bars"}
    marks = data.get("open", pd.Series(False, data.index))
    for is_open, part in data.groupby(marks):
        sns.lineplot(part, x=x, y=y, **how | (opened if is_open else {}))


def _with_ends(data: pd.DataFrame, y: str) -> pd.DataFrame:
    """Three rows for each ``Estimate``: it, and what is a standard error below and above it.

    So seaborn draws it as their median with a bar over all three.
    """
    value = data[y].map(lambda estimate: estimate.value)
    error = data[y].map(lambda estimate: estimate.se).astype(float)
    ends = [data.assign(**{y: end}) for end in (value - error, value, value + error)]
    return pd.concat(ends, ignore_index=True)


def each_in_its(column: str, looks: Mapping[str, dict]) -> dict:
    """seaborn's words for a line of each value of a column in its look."""
    return {
        "hue": column,
        "style": column,
        "palette": {value: look["color"] for value, look in looks.items()},
        "markers": {value: look["marker"] for value, look in looks.items()},
        "dashes": False,
        "markeredgecolor": "auto",
    }


def look(method: str) -> dict:
    """The colour and the marker of a method."""
    return {"color": COLOURS.get(method, GREY), "marker": MARKERS.get(method, ".")}


BY_METHOD = each_in_its("method", {method: look(method) for method in COLOURS})


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


def entries(named: Mapping[str, dict]) -> list:
    """Entries of a legend: lines by their names."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], label=name, **line) for name, line in named.items()]


def titled(titles: Mapping[str, str]) -> dict[str, dict]:
    """The looks of methods by their titles."""
    return {title: look(method) for method, title in titles.items()}


def legend_above(figure, named: Mapping[str, dict]) -> None:
    """One legend for the figure: lines by their names, side by side."""
    figure.legend(handles=entries(named), loc="outside upper center", ncols=len(named))


def with_conditions(figure, ours: Sequence[Record], error: str | None = OVER_IMAGES):
    """The figure with what our runs are underneath."""
    text = textwrap.fill(f"Ours: {conditions(ours, error)}", 125)
    figure.supxlabel(text, fontsize=8, x=0.01, ha="left")
    return figure


def tiled(images: np.ndarray) -> np.ndarray:
    """Pictures [row, column, ...] as one: [height, width], or with three colours at the end."""
    rows, columns, *shape = images.shape
    pictures = images.reshape(rows, columns, *picture_shape(shape))
    if pictures.shape[-1] not in CHANNELS:
        pictures = np.moveaxis(pictures, 2, -1)
    _, _, height, width, colours = pictures.shape
    whole = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, colours)
    return whole if colours > 1 else whole[..., 0]


@styled()
def nothing():
    """A figure that says that there is nothing to draw."""
    figure, ((ax,),) = subplots(1, 1, (8, 1))
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
