"""Figures of the audit and of the study of gradients."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from repro.records import Archive
from repro.studies import audit
from repro.studies.captions import METRIC_TITLES, NETWORK_TITLES
from repro.studies.designs import AT_T, COUNTS, THEORY, Layout
from repro.studies.figures.by_epoch import mean_lead
from repro.studies.figures.style import (
    COLOURS,
    DASHED_PHI,
    GREY,
    INK,
    MARKERS,
    legend_above,
    look,
    styled_figure,
    with_conditions,
)
from repro.studies.gradients import places, snr_of
from repro.studies.logs import blocks_of_logs, leads_in_logs
from repro.studies.reported import TABLE1
from repro.studies.tables import AnyArchive, by_method
from repro.words.exhibits import CURVES_OF
from repro.words.experiments import TABLE_METHODS


def printed_and_corrected(archive: AnyArchive = None) -> Figure:
    """Table 1's printed values, the released weights measured again, and the paper's values."""
    cells = audit.cells_of_table1(Archive.of(archive))
    with styled_figure(2, 3, (8, 4.6), sharex=True) as (figure, axes):
        panels = [(model, metric) for model in TABLE1["report"] for metric in METRIC_TITLES]
        for ax, (model, metric) in zip(axes.flat, panels, strict=True):
            of_panel = [c for c in cells if (c.model, c.metric) == (model, metric)]
            for place, cell in enumerate(of_panel):
                _draw_cell(ax, place, cell)
            if metric == "minus_kl":
                ax.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
            names = [m.upper() for m in TABLE_METHODS]
            title = f"{METRIC_TITLES[metric]}, {model}"
            ax.set(title=title, xticks=range(len(names)), xticklabels=names)
            ax.tick_params(axis="x", labelsize=7)
        for row in axes:
            row[0].set_ylabel("nats")
        again = {"label": "the same weights, measured again", "linestyle": "none"}
        axes[0, 0].plot([], [], "o", color=INK, **again)
        handles, names = axes[0, 0].get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))
        where = "outside upper center"
        figure.legend(once.values(), once, loc=where, ncols=3, frameon=False, fontsize=8)
    return figure


def _draw_cell(ax, place: int, cell: audit.Cell) -> None:
    """A printed value, the same weights measured again, and the paper's value."""
    hollow = {"color": GREY, "markerfacecolor": "none"}
    ax.plot(place - 0.2, cell.printed, "o", label="report, as printed", **hollow)
    if cell.record:
        value = cell.record.metrics[cell.metric]["value"]
        marks = {"fmt": MARKERS[cell.method], "color": COLOURS[cell.method], "capsize": 2}
        ax.errorbar(place, value, cell.error, **marks)
    if cell.paper:
        x = place + 0.2
        ax.errorbar(
            x, cell.paper.value, cell.paper.se, fmt="x", color=GREY, capsize=2, label="paper"
        )


def logged_gaps(archive: AnyArchive = None) -> Figure:
    """The logged gaps, in means of 20 epochs, with two standard deviations of the subset's."""
    archive = Archive.of(archive)
    blocks = blocks_of_logs(archive)
    with styled_figure(1, 2, (8, 3), sharey=True) as (figure, axes):
        for ax, model in zip(axes.flat, TABLE1["report"], strict=True):
            for m in TABLE_METHODS:
                mine = blocks[(blocks.group == f"mnist-{model}") & (blocks.method == m)]
                points = {"color": COLOURS[m], "markersize": 2.5, "alpha": 0.6}
                ax.plot(mine.last_epoch, mine.gap_mean, MARKERS[m], label=m.upper(), **points)
            iwae = archive.released.get(("mnist", model, "iwae"))
            if iwae:
                error = 2 * audit.subset_error(iwae)
                ax.axhspan(-error, error, color=GREY, alpha=0.2, linewidth=0)
            ax.axhline(0, color=GREY, linewidth=0.8)
            ax.set(xlabel="epoch", title=model)
        axes[0, 0].set_ylabel("nats")
        spacing = {"handletextpad": 0.1, "columnspacing": 0.8}
        axes[0, 1].legend(frameon=False, fontsize=7, ncols=5, loc="lower right", **spacing)
    return figure


def logged_log_px(archive: AnyArchive = None) -> Figure:
    """The logs' log p-hat by epoch, in means of 20 epochs: which methods lie together."""
    blocks = blocks_of_logs(Archive.of(archive))
    with styled_figure(1, 3, (8, 3)) as (figure, axes):
        for ax, group in zip(axes.flat, blocks.group.unique(), strict=True):
            run = blocks[blocks.group == group]
            for m in TABLE_METHODS:
                mine = run[run.method == m]
                every = max(len(mine) // 8, 1)
                line = look(m) | {"label": m.upper(), "markevery": every}
                ax.plot(mine.last_epoch, mine.log_px_mean, **line)
            late = run[run.last_epoch > run.last_epoch.max() / 10].log_px_mean
            limits = (late.min(), late.max() + 0.5)
            ax.set(xlabel="epoch", title=group.replace("-", ", "), ylim=limits)
        axes[0, 0].set_ylabel("nats")
        legend_above(figure, axes[0, 0], 5)
    return figure


def leads(profile: str = "best", archive: AnyArchive = None) -> Figure:
    """PIWAE's and MIWAE's lead over IWAE in log p-hat: lines from the logs, open marks ours."""
    archive = Archive.of(archive)
    logged = leads_in_logs(archive)
    used = []
    with styled_figure(1, 3, (8, 3.2), sharex=True, sharey=True) as (figure, axes):
        for ax, (setting, exhibit) in zip(axes.flat, CURVES_OF.items(), strict=True):
            runs = by_method(archive.select(exhibit, profile).used)
            for m in logged:
                line = look(m)
                at = [1, 3, 7, 15, -1]
                ax.plot(logged[m][setting], markevery=at, label=m.upper(), **line)
                ahead = mean_lead(runs[m], runs["iwae"])
                open_marks = line | {"linestyle": "none", "markerfacecolor": "none"}
                ax.plot(ahead.index, ahead, **open_marks)
            for m in ("iwae", *logged):
                used += runs[m]
            ax.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
            ax.set(xscale="log", xlabel="epoch", title=setting.replace("-", ", "))
            ax.xaxis.set_major_formatter("{x:g}")
        first = axes[0, 0]
        first.set_ylabel("nats")
        first.set_yscale("symlog", linthresh=0.5, linscale=1)
        first.set_yticks([-0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
        first.yaxis.set_major_formatter("{x:g}")
        first.yaxis.set_minor_locator(NullLocator())
        said = "lines: the report's logs; open: ours"
        axes[0, -1].legend(title=said, title_fontsize=8, frameon=False, fontsize=8)
        return with_conditions(figure, used, None)


def signal_to_noise(archive: AnyArchive = None) -> Figure:
    """The SNR of both networks' gradients: IWAE as K grows, and five methods at T = 64.

    In every place where it was measured. Filled: the generative network's; open: the inference
    network's. Dotted: the theory's slopes. Bars: jackknife standard errors.
    """
    found = places(Archive.of(archive))
    size = (8, 0.8 + 2 * len(found))
    with styled_figure(len(found), 2, size, sharey="row", sharex="col") as (figure, axes):
        for (sweep, methods), (where, rows) in zip(axes, found, strict=True):
            for net, line in (("theta", {}), ("phi", DASHED_PHI)):
                _draw_sweep(sweep, rows, net, line)
                for place, layout in enumerate(AT_T):
                    e = snr_of(rows, layout, net)
                    methods.errorbar(place, e.value, e.se, capsize=2, **look(layout.method) | line)
            sweep.set(xscale="log", yscale="log", ylabel="signal-to-noise ratio", title=where)
            sweep.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            sweep.yaxis.set_major_formatter("{x:g}")
            sweep.yaxis.set_minor_locator(NullLocator())
        bottom, methods = axes[-1]
        bottom.set(xlabel="K of IWAE, M = 1")
        bottom.set_xticks(COUNTS, COUNTS)
        bottom.minorticks_off()
        names = [layout.method.upper() for layout in AT_T]
        methods.set(xticks=range(len(AT_T)), xticklabels=names, xlabel="method, T = 64")
        legend_above(figure, axes[0, 0], 2)
    return figure


def _draw_sweep(ax: plt.Axes, rows, net: str, line: dict) -> None:
    """IWAE's SNR as K grows, and the theory's slope from K = 1 on."""
    found = [snr_of(rows, Layout("iwae", 1, K), net) for K in COUNTS]
    values = [e.value for e in found]
    errors = [e.se for e in found]
    name = f"gradient of the {NETWORK_TITLES[net]} network"
    ax.errorbar(COUNTS, values, errors, capsize=2, label=name, **look("iwae") | line)
    theory = [values[0] * K ** THEORY[net] for K in COUNTS]
    ax.plot(COUNTS, theory, ":", color=GREY, linewidth=1)
