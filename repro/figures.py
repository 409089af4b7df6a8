"""Records -> figures. Pure: a figure is what the records say. One colour for each method, everywhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from repro import ReproError, audit
from repro.experiments import TABLE_METHODS
from repro.records import Record
from repro.reported import TABLE1
from repro.tables import METRIC_NAMES, labels, origin

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


def printed_and_corrected(results: str | Path | None = None) -> Figure:
    """Table 1's printed values, the released weights measured again, and the paper's values."""
    found, sources = audit.measured(results), {"printed": "report, as printed", "corrected": "the same weights, measured again", "paper": "paper"}
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(8, 4.6), layout="constrained", sharex=True)
        for row, model in zip(axes, TABLE1["report"], strict=True):
            for ax, (metric, title) in zip(row, METRIC_NAMES.items(), strict=True):
                for i, m in enumerate(TABLE_METHODS):
                    record, paper = found.get(("mnist", model, m)), TABLE1["paper"].get(model, {}).get(metric, {}).get(m)
                    ax.plot(i - 0.2, TABLE1["report"][model][metric][m][0], "o", color=GREY, markerfacecolor="none", label=sources["printed"])
                    if record:
                        measured = record.metrics[metric]
                        error = audit.errors(record, audit.last_block(audit.logs(results), f"mnist-{model}", m))["log_px"]
                        error = measured["se"] if metric == "minus_kl" else error  # the same test images, so their spread is no error here
                        ax.errorbar(i, measured["value"], error, fmt=MARKERS[m], color=COLOURS[m], capsize=2, label=sources["corrected"])
                    if paper:
                        ax.errorbar(i + 0.2, *paper, fmt="x", color=GREY, capsize=2, label=sources["paper"])
                if metric == "minus_kl":
                    ax.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
                ax.set(title=f"{title}, {model}", xticks=range(len(TABLE_METHODS)), xticklabels=[m.upper() for m in TABLE_METHODS])
                ax.tick_params(axis="x", labelsize=7)
                sns.despine(ax=ax)
            row[0].set_ylabel("nats")
        handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
        plt.close(figure)
        return figure


def logged_gaps(results: str | Path | None = None) -> Figure:
    """The logs' IWAE-64 minus log p-hat, in means of 20 epochs, with two standard deviations of what the subset of images gives."""
    blocks, found = audit.logs(results), audit.measured(results)
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
        for ax, model in zip(axes, TABLE1["report"], strict=True):
            for m in TABLE_METHODS:
                mine = blocks[(blocks.group == f"mnist-{model}") & (blocks.method == m)]
                ax.plot(mine.last_epoch, mine.gap_mean, MARKERS[m], color=COLOURS[m], markersize=2.5, alpha=0.6, label=m.upper())
            if ("mnist", model, "iwae") in found:
                error = 2 * audit.subset_error(found["mnist", model, "iwae"])
                ax.axhspan(-error, error, color=GREY, alpha=0.2, linewidth=0)
            ax.axhline(0, color=GREY, linewidth=0.8)
            ax.set(xlabel="epoch", title=model, ylabel="nats" if ax is axes[0] else "")
            sns.despine(ax=ax)
        axes[1].legend(frameon=False, fontsize=7, ncols=5, loc="lower right", handletextpad=0.1, columnspacing=0.8)
        plt.close(figure)
        return figure


def logged_log_px(results: str | Path | None = None) -> Figure:
    """The logs' log p-hat by epoch, in means of 20 epochs: which methods lie together."""
    blocks = audit.logs(results)
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
        for ax, group in zip(axes, blocks.group.unique(), strict=True):
            run = blocks[blocks.group == group]
            for m in TABLE_METHODS:
                mine, look = run[run.method == m], {"color": COLOURS[m], "marker": MARKERS[m], "markersize": 4, "linewidth": 1.2}
                ax.plot(mine.last_epoch, mine.log_px_mean, markevery=max(len(mine) // 8, 1), label=m.upper(), **look)
            late = run[run.last_epoch > run.last_epoch.max() / 10].log_px_mean
            ax.set(xlabel="epoch", title=group.replace("-", ", "), ylabel="nats" if ax is axes[0] else "", ylim=(late.min(), late.max() + 0.5))
            sns.despine(ax=ax)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=8)
        plt.close(figure)
        return figure


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
