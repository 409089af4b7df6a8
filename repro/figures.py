"""Records -> figures. Pure: a figure is what the records say. One colour for each method, everywhere."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from repro import ReproError, audit, experiments, one_of, records, snr
from repro.experiments import TABLE_METHODS
from repro.records import Record
from repro.reported import SSIM, TABLE1
from repro.tables import IMAGES, METRIC_NAMES, NAMES, SIDES, by_beta, label, labels, mean_and_error, origin, similarity

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
    "figure.dpi": 160,
}


def draw(name: str, profile: str = "best", results: str | Path | None = None) -> Figure:
    """The figure of this name, the report's ``figure1`` to ``figure7`` or the audit's ``corrected``, from the records."""
    return FIGURES[one_of("figure", name, FIGURES)](name, profile, results)


def training(name: str, profile: str = "best", results: str | Path | None = None) -> Figure:
    """Figures 1 to 3: (a) IWAE-64 and (b) log p-hat of the test set by epoch; above from the report's logs, below ours.

    (a) has the report's rolling window (below; the logs are kept in means of 20 epochs). Bars: standard errors over the test
    images; bands: standard errors between seeds, where there are several.
    """
    (ours, missing), again, window = records.shown(name, profile, results), records.released_in(name, results), WINDOWS[name]
    wanted = experiments.exhibit(name, "short")[0]
    blocks = audit.logs(results)
    blocks = blocks[blocks.group.str.startswith(wanted.dataset.split("-")[0]) & blocks.group.str.endswith(wanted.model)]
    if ours and ours[0].experiment.epochs < 20 * window:
        window = 1
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        rows = 1 + bool(ours)
        figure, axes = plt.subplots(rows, 2, figsize=(8, 0.6 + 2.9 * rows), layout="constrained", sharey="row", squeeze=False)
        titles = ("(a) logged as IWAE-64", "(b) log p̂(x), logged"), ("(a) IWAE-64" + f", rolling mean of {window}" * (window > 1), "(b) log p̂(x)")
        for row, texts, who in zip(axes, titles, ("report", "ours"), strict=False):
            for ax, text in zip(row, texts, strict=True):
                ax.set(title=f"{who}: {text}", xlabel="epoch")
                ax.xaxis.get_major_locator().set_params(integer=True)
                sns.despine(ax=ax)
            row[0].set_ylabel("nats")
        for m in TABLE_METHODS:
            look, log = _look(m), blocks[blocks.method == m]
            for ax, column in zip(axes[0], ("iwae_64_mean", "log_px_mean"), strict=True):
                ax.plot(log.last_epoch, log[column], markevery=max(len(log) // 8, 1), label=NAMES[m], **look)
            for ax, metric in zip(axes[1] if ours else (), ("iwae_64", "log_px"), strict=False):
                _by_epoch(ax, [r for r in ours if r.experiment.method == m], metric, window if metric == "iwae_64" else 1, look)
        for r in again:
            for ax, metric in zip(axes[0], ("iwae_64", "log_px"), strict=True):
                ax.plot(blocks.last_epoch.max() * 1.03, r.metrics[metric]["value"], "*", color=COLOURS[r.experiment.method], markersize=9)
        late = blocks[blocks.last_epoch > blocks.last_epoch.max() / 10].log_px_mean
        lowest = min([late.min(), *(r.metrics["iwae_64"]["value"] for r in again)])
        axes[0, 0].set_ylim(lowest - 0.3, late.max() + 0.7)
        for ax in axes[0] if again else ():
            ax.text(0.98, 0.03, "★ these weights, measured again", transform=ax.transAxes, ha="right", fontsize=8)
        if ours:
            _without_the_first_tenth(axes[1, 0], ours, "iwae_64", "log_px")
        _not_run(axes[1] if ours else (), missing)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=8)
        return _finished(figure, ours)


def _without_the_first_tenth(ax, ours: Sequence[Record], *metrics: str) -> None:
    """Let the first tenth of training fall off the page, as it does in the report's figures."""
    late = pd.concat([r.curve[r.curve.epoch >= r.experiment.epochs / 10] for r in ours])[[*metrics]].melt().value
    margin = 0.05 * (late.max() - late.min()) or 1
    ax.set_ylim(late.min() - margin, late.max() + margin)


def _look(method: str) -> dict:
    """The line of a method."""
    return {"color": COLOURS.get(method, GREY), "marker": MARKERS.get(method, "."), "markersize": 4, "linewidth": 1.2}


def _by_epoch(ax, runs: Sequence[Record], metric: str, window: int, look: dict, label: str | None = None) -> None:
    """Mean over seeds by epoch, rolling; a band of its standard error where there are several, bars over images where one."""
    if not runs:
        return
    measured = [r.curve.set_index("epoch").dropna(subset=[metric]) for r in runs]
    values = pd.concat([m[metric].rolling(window, min_periods=1).mean() for m in measured], axis=1).dropna()
    mean, every = values.mean(axis=1), max(len(values) // 8, 1) if metric == "iwae_64" else 1
    ax.plot(mean.index, mean, markevery=every, label=label, **look)
    if len(runs) > 1:
        error = values.std(axis=1, ddof=1) / np.sqrt(len(runs))
        ax.fill_between(mean.index, mean - error, mean + error, color=look["color"], alpha=0.25, linewidth=0)
    elif metric == "log_px":
        ax.errorbar(mean.index, mean, measured[0][f"{metric}_se"], fmt="none", ecolor=look["color"], capsize=2)


def _not_run(axes, missing: Sequence[experiments.Experiment]) -> None:
    """Says on the axes which runs are missing."""
    names = list(dict.fromkeys(label(e) for e in missing))
    for ax in axes if names else ():
        ax.text(0.98, 0.03, "not run: " + textwrap.fill(", ".join(names), 40), transform=ax.transAxes, ha="right", va="bottom", fontsize=8)


def betas(name: str = "figure4", profile: str = "best", results: str | Path | None = None) -> Figure:
    """Figure 4: IWAE-64 by epoch with beta fixed and with beta learned, where each ends, and what the learned beta does."""
    ours, missing = records.shown(name, profile, results)
    if not ours:
        return _nothing()
    wanted = sorted({e.beta for e in [*(r.experiment for r in ours), *missing]})
    shades = dict(zip(wanted, sns.color_palette("viridis", len(wanted) + 1), strict=False))
    kinds = {"ciwae": "fixed", "ciwae-learned": "learned"}
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
        axes[0, 1].sharey(axes[0, 0])
        for ax, (m, kind) in zip(axes[0], kinds.items(), strict=True):
            for beta, shade in shades.items():
                runs = [r for r in ours if (r.experiment.method, r.experiment.beta) == (m, beta)]
                _by_epoch(ax, runs, "iwae_64", 1, _look(m) | {"color": shade}, f"{beta:g}")
                if m == "ciwae-learned" and runs:
                    axes[1, 1].plot([0, *runs[0].curve.epoch], [beta, *runs[0].curve.beta], **_look(m) | {"color": shade})
            ax.set(title=f"IWAE-64, β {kind}", xlabel="epoch", ylabel="nats" if ax is axes[0, 0] else "")
            _not_run([ax], [e for e in missing if e.method == m])
        for m, kind in kinds.items():
            ends = {beta: mean_and_error(runs, "iwae_64", ours) for beta, runs in by_beta(ours, m).items()}
            if ends:
                axes[1, 0].errorbar(list(ends), *zip(*ends.values(), strict=True), capsize=2, label=kind, **_look(m))
        axes[1, 0].set(title="IWAE-64 at the end", xlabel="β, fixed or at the start", ylabel="nats")
        axes[1, 1].set(title="β while it is learned", xlabel="epoch", ylabel="β", yscale="log")
        _without_the_first_tenth(axes[0, 0], ours, "iwae_64")
        for ax in (axes[0, 0], axes[0, 1], axes[1, 1]):
            ax.xaxis.get_major_locator().set_params(integer=True)
        for ax in (axes[0, 0], axes[1, 0]):
            if ax.get_legend_handles_labels()[0]:
                ax.legend(title="β" if ax is axes[0, 0] else "", frameon=False, fontsize=8, title_fontsize=8)
        for ax in axes.flat:
            sns.despine(ax=ax)
        return _finished(figure, ours)


def grids(name: str, profile: str = "best", results: str | Path | None = None) -> Figure:
    """Figures 5 and 6: inputs and the five methods' reconstructions with SSIM; above the report's weights, below our models."""
    ours, again = _one_seed(records.shown(name, profile, results)[0]), records.released_in(name, results)
    dataset = experiments.exhibit(name, "short")[0].dataset.split("-")[0]
    printed, rows = SSIM[dataset][dataset], {who: runs for who, runs in (("the report's weights", again), ("ours", ours)) if runs}
    if not rows:
        return _nothing()
    with plt.rc_context(sns.axes_style("white") | STYLE):
        figure, axes = plt.subplots(len(rows), 6, figsize=(9, 0.3 + 2 * len(rows)), layout="constrained", squeeze=False)
        for row, (who, runs) in zip(axes, rows.items(), strict=True):
            _tiles(row[0], runs[0].reconstructions[0], f"{who}:\ninput")
            by_method = {r.experiment.method: r for r in runs}
            for ax, m in zip(row[1:], TABLE_METHODS, strict=True):
                r = by_method.get(m)
                again_or_not = f"{r.metrics['ssim']['value']:.3f} ± {r.metrics['ssim']['sd']:.3f}" if r else "not run"
                report = f"\nreport: {printed[m][0]:.3f} ± {printed[m][1]:.3f}" if who != "ours" else ""
                _tiles(ax, r.reconstructions[1] if r else None, f"{NAMES[m]}\n{again_or_not}{report}")
        return _finished(figure, ours, "SSIM ± standard deviation over the test images")


def elsewhere(name: str = "figure7", profile: str = "best", results: str | Path | None = None) -> Figure:
    """Figure 7: MIWAE(8,8) on the dataset that it was not trained on; above the report's weights, below our models."""
    ours, again = _one_seed(records.shown(name, profile, results)[0]), records.released_in(name, results)
    rows = {who: runs for who, runs in (("the report's weights", again), ("ours", ours)) if runs}
    names = {"MNIST": "mnist", "Omniglot": records.omniglot_of([*ours, *again])}
    if not rows:
        return _nothing()
    with plt.rc_context(sns.axes_style("white") | STYLE):
        figure, axes = plt.subplots(len(rows), 4, figsize=(8, 0.3 + 2.3 * len(rows)), layout="constrained", squeeze=False)
        for row, (who, runs) in zip(axes, rows.items(), strict=True):
            for pair, (tested, trained) in zip((row[:2], row[2:]), (("MNIST", "Omniglot"), ("Omniglot", "MNIST")), strict=True):
                r = next((r for r in runs if r.experiment.dataset.startswith(trained.lower()) and r.reconstructions_elsewhere), None)
                images, value = r.reconstructions_elsewhere if r else (None, None), similarity(r, names[tested]) if r else None
                said = f"SSIM {value['value']:.3f} ± {value['sd']:.3f}" if value else "not run"
                _tiles(pair[0], images[0], f"{who}:\ninput, {tested}")
                _tiles(pair[1], images[1], f"trained on {trained}\n{said}")
        return _finished(figure, ours, "SSIM ± standard deviation over the test images")


def _one_seed(shown: Sequence[Record]) -> list[Record]:
    """Of each dataset and method the record with the lowest seed."""
    by_seed = sorted(shown, key=lambda r: -r.experiment.seed)
    return list({(r.experiment.dataset, r.experiment.method): r for r in by_seed}.values())


def _tiles(ax, images: np.ndarray | None, title: str, side: int = 8) -> None:
    """side x side images [n, 784] in one, under their title; an empty frame where there are none."""
    ax.set_title(title, fontsize=7)
    ax.set(xticks=[], yticks=[])
    if images is not None:
        tiles = np.asarray(images[: side * side], np.float32).reshape(side, side, 28, 28)
        ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(side * 28, side * 28), cmap="gray_r", vmin=0, vmax=1, interpolation="none")
    else:
        ax.set_aspect("equal")


def curves(shown: Sequence[Record]) -> Figure:
    """IWAE-64 and log p-hat (where it was measured) of the test set by epoch, a line for each record."""
    _some(shown)
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
        for ax, metric, title in zip(axes, ("iwae_64", "log_px"), ("IWAE-64", "log p̂(x)"), strict=True):
            for record, name in zip(shown, labels(shown), strict=True):
                measured = record.curve.dropna(subset=[metric])
                ax.errorbar(measured["epoch"], measured[metric], measured[f"{metric}_se"], label=name, capsize=2, **_look(record.experiment.method))
            ax.set(xlabel="epoch", ylabel="nats" if ax is axes[0] else "", title=title)
            ax.xaxis.get_major_locator().set_params(integer=True)
            sns.despine(ax=ax)
        axes[0].legend(frameon=False, fontsize=8)
        return _finished(figure, shown)


def reconstructions(shown: Sequence[Record]) -> Figure:
    """The first record's binary inputs and each record's reconstructions with SSIM."""
    _some(shown)
    grids = [("input", shown[0].reconstructions[0])]
    for r, name in zip(shown, labels(shown), strict=True):
        m = r.metrics["ssim"]
        grids.append((f"{name}\nSSIM {m['value']:.3f} ± {m['sd']:.3f}", r.reconstructions[1]))
    columns = min(len(grids), 4)
    rows = -(-len(grids) // columns)
    with plt.rc_context(sns.axes_style("white") | STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.5 * rows), layout="constrained", squeeze=False)
        for ax in axes.flat[len(grids) :]:
            ax.set_axis_off()
        for ax, (title, images) in zip(axes.flat, grids, strict=False):
            _tiles(ax, images, title)
        return _finished(figure, shown, "SSIM ± standard deviation over the test images")


def printed_and_corrected(results: str | Path | None = None) -> Figure:
    """Table 1's printed values, the released weights measured again, and the paper's values."""
    found, sources = records.released(results), {"printed": "report, as printed", "corrected": "the same weights, measured again", "paper": "paper"}
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(8, 4.6), layout="constrained", sharex=True)
        for row, model in zip(axes, TABLE1["report"], strict=True):
            for ax, (metric, title) in zip(row, METRIC_NAMES.items(), strict=True):
                for i, m in enumerate(TABLE_METHODS):
                    record, paper = found.get(("mnist", model, m)), TABLE1["paper"].get(model, {}).get(metric, {}).get(m)
                    ax.plot(i - 0.2, TABLE1["report"][model][metric][m][0], "o", color=GREY, markerfacecolor="none", label=sources["printed"])
                    if record:
                        measured = record.metrics[metric]
                        error = audit.errors(record, audit.last_block(audit.logs(results), f"mnist-{model}", m))[metric]
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
    blocks, found = audit.logs(results), records.released(results)
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
                mine = run[run.method == m]
                ax.plot(mine.last_epoch, mine.log_px_mean, markevery=max(len(mine) // 8, 1), label=m.upper(), **_look(m))
            late = run[run.last_epoch > run.last_epoch.max() / 10].log_px_mean
            ax.set(xlabel="epoch", title=group.replace("-", ", "), ylabel="nats" if ax is axes[0] else "", ylim=(late.min(), late.max() + 0.5))
            sns.despine(ax=ax)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=8)
        plt.close(figure)
        return figure


def leads(profile: str = "best", results: str | Path | None = None) -> Figure:
    """Log p-hat of PIWAE and MIWAE minus IWAE's by epoch: lines from the report's logs, in means of 20 epochs; open marks ours, paired."""
    logged, used = audit.lead(results), []
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(1, len(WINDOWS), figsize=(8, 3.2), layout="constrained", sharex=True, sharey=True)
        for ax, exhibit in zip(axes, WINDOWS, strict=True):
            wanted, shown = experiments.exhibit(exhibit, "short")[0], records.shown(exhibit, profile, results)[0]
            group = f"{wanted.dataset.split('-')[0]}-{wanted.model}"
            for m in logged:
                ax.plot(logged[m][group], markevery=[1, 3, 7, 15, -1], label=m.upper(), **_look(m))
                ahead = _paired_by_epoch([r for r in shown if r.experiment.method == m], [r for r in shown if r.experiment.method == "iwae"])
                ax.plot(ahead.index, ahead, **_look(m) | {"linestyle": "none", "markerfacecolor": "none"})
            used += [r for r in shown if r.experiment.method in ("iwae", *logged)]
            ax.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
            ax.set(xscale="log", xlabel="epoch", title=group.replace("-", ", "), ylabel="nats" if ax is axes[0] else "")
            ax.xaxis.set_major_formatter("{x:g}")
            sns.despine(ax=ax)
        axes[0].set_yscale("symlog", linthresh=0.5, linscale=1)
        axes[0].set_yticks([-0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_locator(NullLocator())
        axes[-1].legend(title="lines: the report's logs; open: ours", title_fontsize=8, frameon=False, fontsize=8)
        return _finished(figure, used, None)


def _paired_by_epoch(a: Sequence[Record], b: Sequence[Record]) -> pd.Series:
    """Mean over the seeds that both have of the difference in log p-hat, by epoch."""
    first, second = ({r.experiment.seed: r.curve.set_index("epoch").log_px for r in runs} for runs in (a, b))
    found = [first[seed] - second[seed] for seed in first if seed in second]
    return pd.concat(found, axis=1).mean(axis=1).dropna() if found else pd.Series(dtype=float)


def signal_to_noise(results: str | Path | None = None) -> Figure:
    """The SNR of both networks' gradients, wherever it was measured: IWAE as K grows, and five methods at T = 64.

    Filled: the generative network's; open: the inference network's. Dotted: the theory's slopes. Bars: jackknife standard errors.
    """
    places = [*records.read_table("gradients", results)[0].groupby("where", sort=False)]
    with plt.rc_context(sns.axes_style("ticks") | STYLE):
        figure, axes = plt.subplots(len(places), 2, figsize=(8, 0.8 + 2 * len(places)), layout="constrained", sharey="row", sharex="col")
        for (sweep, methods), (where, rows) in zip(axes, places, strict=True):
            for net, look in (("theta", {}), ("phi", {"markerfacecolor": "none", "linestyle": "--"})):
                found = {layout: snr.with_jackknife(rows, functools.partial(snr.ratio, layout=layout, net=net)) for layout in snr.LAYOUTS}
                ratios = [found["iwae", 1, K] for K in snr.COUNTS]
                sweep.errorbar(
                    snr.COUNTS, *zip(*ratios, strict=True), capsize=2, label=f"gradient of the {SIDES[net]} network", **_look("iwae") | look
                )
                sweep.plot(snr.COUNTS, [ratios[0][0] * K ** snr.THEORY[net] for K in snr.COUNTS], ":", color=GREY, linewidth=1)
                for i, layout in enumerate(snr.AT_T):
                    methods.errorbar(i, *found[layout], capsize=2, **_look(layout[0]) | look)
            sweep.set(xscale="log", yscale="log", ylabel="signal-to-noise ratio", title=where)
            sweep.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            sweep.yaxis.set_major_formatter("{x:g}")
            sweep.yaxis.set_minor_locator(NullLocator())
            for ax in (sweep, methods):
                sns.despine(ax=ax)
        axes[-1, 0].set(xlabel="K of IWAE, M = 1")
        axes[-1, 0].set_xticks(snr.COUNTS, snr.COUNTS)
        axes[-1, 0].minorticks_off()
        axes[-1, 1].set(xticks=range(len(snr.AT_T)), xticklabels=[m.upper() for m, _, _ in snr.AT_T], xlabel="method, T = 64")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
        plt.close(figure)
        return figure


def _nothing() -> Figure:
    """A figure that says so."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 1))
        ax.set_axis_off()
        ax.text(0.5, 0.5, "nothing of this has been run yet", ha="center", va="center")
        plt.close(figure)
        return figure


def _some(shown: Sequence[Record]) -> None:
    if not shown:
        raise ReproError("there is no finished run to draw; `python -m repro status` lists the commands that make some")


def _finished(figure: Figure, ours: Sequence[Record], error: str = IMAGES) -> Figure:
    """With its origin underneath; closed, since a notebook shows what a cell returns and would show it twice."""
    figure.supxlabel(textwrap.fill(f"Ours: {origin(ours, error)}", 150), fontsize=6.5, x=0.01, ha="left")
    plt.close(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure, as SVG or PNG by the path's ending, with nothing in it that changes from one day to the next."""
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=200)
    return path


WINDOWS = {"figure1": 10, "figure2": 5, "figure3": 10}  # of (a), in epochs, as in the report
FIGURES = dict.fromkeys(WINDOWS, training) | {"figure4": betas, "figure5": grids, "figure6": grids, "figure7": elsewhere}
FIGURES["corrected"] = lambda name, profile, results: printed_and_corrected(results)  # the audit's, on the cover
