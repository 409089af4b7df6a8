"""The common style of all figures: colours, markers, axes, legends and captions."""

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
    """Apply the project's theme while a function draws; ``frame`` is for images.

    Its figures get a constrained layout, and are closed, or notebooks would show them twice.
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
    """Make a figure of ``size`` in inches, and its axes [rows, columns]."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, squeeze=False, **how)


def faceted(data: pd.DataFrame, size: tuple[float, float], x: str, y: str, line=(), **facets):
    """Draw ``lines`` in a panel for each value of a column (``col``) of a tidy frame, or of two.

    Titles are the values; ``line`` holds further arguments of ``lines``. Returns seaborn's
    FacetGrid, whose ``axes_dict`` finds a panel.
    """
    import seaborn as sns

    grid = sns.FacetGrid(data, **facets)
    grid.map_dataframe(lines, x=x, y=y, **dict(line))
    grid.set_titles("{col_name}, {row_name}" if "row" in facets else "{col_name}")
    grid.figure.set_size_inches(size)
    return grid


def lines(data: pd.DataFrame, x: str, y: str, ax=None, opened=OPEN, color=None, **words) -> None:
    """Draw a line for each method in a tidy frame; an ``Estimate`` gets a standard error's bar.

    Where a column ``open`` is true, the line has open marks, or what ``opened`` says. Other
    arguments are seaborn.lineplot's; they may replace those in ``BY_METHOD``.
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
    """Arguments of seaborn for lines by the values of ``column``, in the colours of ``looks``."""
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
    """Put ticks of the x axis at whole epochs only."""
    ax.xaxis.get_major_locator().set_params(integer=True)


def plain_ticks(ax, *leading: int) -> None:
    """Make the y axis logarithmic, with plain ticks at numbers with these ``leading`` digits."""
    ax.set(yscale="log")
    ax.yaxis.get_major_locator().set_params(subs=leading)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def counts_below(ax, counts: Sequence[int]) -> None:
    """Make the x axis logarithmic, with ticks at ``counts`` alone."""
    ax.set(xscale="log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()


def entries(named: Mapping[str, dict]) -> list:
    """Make a legend's entries: lines with the names and properties in ``named``."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], label=name, **line) for name, line in named.items()]


def titled(titles: Mapping[str, str]) -> dict[str, dict]:
    """Colours and markers of methods by title, for ``entries``."""
    return {title: look(method) for method, title in titles.items()}


def legend_above(figure, named: Mapping[str, dict]) -> None:
    """Add one legend above the whole figure, for the lines in ``named``, side by side."""
    figure.legend(handles=entries(named), loc="outside upper center", ncols=len(named))


def with_conditions(figure, ours: Sequence[Record], error: str | None = OVER_IMAGES):
    """Write the conditions of our runs below the figure, and return it."""
    text = textwrap.fill(f"Ours: {conditions(ours, error)}", 125)
    figure.supxlabel(text, fontsize=8, x=0.01, ha="left")
    return figure


def tiled(images: np.ndarray) -> np.ndarray:
    """Tile pictures [row, column, ...] into one: [height, width], or [height, width, 3]."""
    rows, columns, *shape = images.shape
    pictures = images.reshape(rows, columns, *picture_shape(shape))
    if pictures.shape[-1] not in CHANNELS:
        pictures = np.moveaxis(pictures, 2, -1)
    _, _, height, width, colours = pictures.shape
    whole = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, colours)
    return whole if colours > 1 else whole[..., 0]


@styled()
def nothing():
    """Draw a placeholder, a figure that says that there is nothing to draw."""
    figure, ((ax,),) = subplots(1, 1, (8, 1))
    ax.set_axis_off()
    ax.text(0.5, 0.5, "nothing of this has been run yet", ha="center", va="center")
    return figure


def save(figure, path: Path) -> Path:
    """Write the figure as SVG or PNG, without the date, and return the path."""
    import matplotlib.pyplot as plt

    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=200)
    return path
