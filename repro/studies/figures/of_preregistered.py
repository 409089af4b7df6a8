"""The figure of the test that was fixed in advance."""

import numpy as np
from matplotlib.figure import Figure

from repro.records import Archive
from repro.studies import preregistered
from repro.studies.captions import METRIC_TITLES
from repro.studies.figures.style import COLOURS, GREY, INK, MARKERS, styled_figure
from repro.studies.preregistered import HYPOTHESES, Hypothesis
from repro.studies.tables import AnyArchive

METHODS_FROM_BELOW = ("vae", "ciwae", "piwae", "miwae")


def outcomes(archive: AnyArchive = None) -> Figure:
    """Each hypothesis: the differences of all seeds, their mean's interval, and the margin.

    Without all runs the panels have margins alone.
    """
    archive = Archive.of(archive)
    whole = preregistered.missing(archive) == 0
    with styled_figure(1, 3, (8, 2.6), sharey=True) as (figure, axes):
        for ax, (metric, title) in zip(axes.flat, METRIC_TITLES.items(), strict=True):
            for h in HYPOTHESES:
                if h.metric == metric:
                    _draw_margin(ax, h)
                    if whole:
                        _draw_outcome(ax, archive, h)
            ax.axvline(0, color=GREY, linewidth=0.8)
            ax.set(title=title, xlabel="nats ahead of IWAE")
        names = [m.upper() for m in METHODS_FROM_BELOW]
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].set_ylim(-0.6, len(names) - 0.4)
    return figure


def _draw_margin(ax, h: Hypothesis) -> None:
    place = METHODS_FROM_BELOW.index(h.method)
    ax.vlines(h.margin, place - 0.4, place + 0.4, color=GREY, linestyle=":")


def _draw_outcome(ax, archive: Archive, h: Hypothesis) -> None:
    """The seeds one above the other in their order, and the mean with its interval below them."""
    place = METHODS_FROM_BELOW.index(h.method)
    found = preregistered.differences(archive, h)
    heights = place + np.linspace(0.0, 0.35, len(found))
    look = {"color": COLOURS[h.method], "marker": MARKERS[h.method]}
    ax.plot(found, heights, linestyle="none", markersize=3, alpha=0.5, **look)
    interval = preregistered.family_interval(found)
    below = place - 0.2
    ax.hlines(below, interval.low, interval.high, color=INK, linewidth=2.5)
    ax.plot(interval.mean, below, markersize=4, **look)
