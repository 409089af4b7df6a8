"""Curves by epoch: Figures 1 to 3, the report's logs, and runs just trained.

Of the logs there are committed summaries, in blocks of 20 epochs.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from repro import ReproError
from repro.records import Archive, Record, Selection
from repro.studies import style
from repro.studies.captions import METHOD_TITLES, label, labels
from repro.studies.frames import AnyArchive, by_method
from repro.words.exhibits import CURVES_OF, runs_of
from repro.words.experiments import TABLE_METHODS, Experiment


def blocks_of_logs(archive: Archive) -> pd.DataFrame:
    """Means and standard deviations of blocks of 20 epochs, by setting and method."""
    return archive.table("logs")[0]


def last_block(blocks: pd.DataFrame, setting: str, method: str) -> pd.Series:
    """The last 20 epochs of a run's log."""
    mine = blocks[(blocks.setting == setting) & (blocks.method == method)]
    return mine.loc[mine.last_epoch.idxmax()]


def logged(block: pd.Series, metric: str) -> float:
    """The mean of what a block calls IWAE-64, log p-hat or the gap."""
    return block["gap_mean" if metric == "minus_kl" else f"{metric}_mean"]


def leads_in_logs(archive: Archive) -> pd.DataFrame:
    """PIWAE's and MIWAE's logged log p-hat minus IWAE's, by setting and last epoch of 20."""
    blocks = blocks_of_logs(archive)
    log_px = blocks.pivot(index=["setting", "last_epoch"], columns="method", values="log_px_mean")
    return log_px.sub(log_px.iwae, axis=0)[["piwae", "miwae"]]


def passed_for_good(leads: pd.Series) -> int | None:
    """The epoch from which on a lead (by epoch) is below 0; None if it is not at the end."""
    ahead = leads.index[leads > 0]
    last_ahead = ahead[-1] if len(ahead) else -1
    after = leads.index[leads.index > last_ahead]
    return int(after[0]) if len(after) else None


def nodes_of(curve: pd.Series) -> dict[float, float]:
    """The values at three betas of a curve in the report's Figure 4."""
    return {float(name[3:]): curve[name] for name in curve.index if name.startswith("at_")}


def checkpoint_of(e: Experiment, archive: Archive) -> pd.Series:
    """A released run's row in the table of best checkpoints."""
    found = archive.table("checkpoints")[0].set_index(["setting", "method"])
    return found.loc[e.setting, e.method]


def draw_logs(ax, blocks: pd.DataFrame, column: str, names: dict[str, str]) -> None:
    """A line for each method in the logs of one setting, with some markers."""
    for m, name in names.items():
        log = blocks[blocks.method == m]
        line = style.look(m) | {"label": name, "markevery": max(len(log) // 8, 1)}
        ax.plot(log.last_epoch, log[column], **line)


def logged_log_px(archive: AnyArchive = None):
    """The logs' log p-hat by epoch, in means of 20 epochs: which methods lie together."""
    blocks = blocks_of_logs(Archive.of(archive))
    with style.styled_figure(1, 3, (8, 3)) as (figure, axes):
        for ax, setting in zip(axes.flat, blocks.setting.unique(), strict=True):
            run = blocks[blocks.setting == setting]
            draw_logs(ax, run, "log_px_mean", {m: m.upper() for m in TABLE_METHODS})
            late = run[run.last_epoch > run.last_epoch.max() / 10].log_px_mean
            limits = (late.min(), late.max() + 0.5)
            ax.set(xlabel="epoch", title=setting.replace("-", ", "), ylim=limits)
        axes[0, 0].set_ylabel("nats")
        style.legend_above(figure, axes[0, 0], 5)
    return figure


def leads(profile: str = "best", archive: AnyArchive = None):
    """PIWAE's and MIWAE's lead over IWAE in log p-hat: lines from the logs, open marks ours."""
    archive = Archive.of(archive)
    logged = leads_in_logs(archive)
    used = []
    with style.styled_figure(1, 3, (8, 3.2), sharex=True, sharey=True) as (figure, axes):
        for ax, (setting, exhibit) in zip(axes.flat, CURVES_OF.items(), strict=True):
            runs = by_method(of_same_images(archive.select(exhibit, profile).used))
            for m in logged:
                at = [1, 3, 7, 15, -1]
                ax.plot(logged[m][setting], markevery=at, label=m.upper(), **style.look(m))
                ahead = mean_lead(runs[m], runs["iwae"])
                open_marks = style.look(m) | {"linestyle": "none", "markerfacecolor": "none"}
                ax.plot(ahead.index, ahead, **open_marks)
            used += [record for m in ("iwae", *logged) for record in runs[m]]
            ax.axhline(0, color=style.GREY, linewidth=0.8, linestyle=":")
            ax.set(xscale="log", xlabel="epoch", title=setting.replace("-", ", "))
            ax.xaxis.set_major_formatter("{x:g}")
        first = axes[0, 0]
        first.set_ylabel("nats")
        first.set_yscale("symlog", linthresh=0.5, linscale=1)
        first.set_yticks([-0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
        first.yaxis.set_major_formatter("{x:g}")
        first.set_yticks([], minor=True)
        said = "lines: the report's logs; open: ours"
        axes[0, -1].legend(title=said, title_fontsize=8, frameon=False, fontsize=8)
        return style.with_conditions(figure, used, None)


def mean_lead(a: Sequence[Record], b: Sequence[Record]) -> pd.Series:
    """Mean over the seeds that both have of the difference in log p-hat, by epoch."""
    return (curves_of(a, "log_px") - curves_of(b, "log_px")).mean(axis=1).dropna()


def curves_of(runs: Sequence[Record], metric: str) -> pd.DataFrame:
    """A metric on the curve of each seed, [epoch, seed]."""
    curves = {r.experiment.seed: r.curve.set_index("epoch")[metric] for r in runs}
    return pd.DataFrame(curves, dtype=float)


WINDOWS = {"figure1": 10, "figure2": 5, "figure3": 10}  # of (a), in epochs, as in the report
METRICS_OF_PANELS = ("iwae_64", "log_px")


def training_curves(name: str, profile: str = "best", archive: AnyArchive = None):
    """Figures 1 to 3: (a) IWAE-64 and (b) log p-hat of the test set by epoch.

    Above from the report's logs, below ours. (a) has the report's rolling window, below; the logs
    are kept in means of 20 epochs. Bars: standard errors over the test images. Bands: standard
    errors between seeds, if there are several.
    """
    archive = Archive.of(archive)
    selection = archive.select(name, profile)
    ours = of_same_images(selection.used)
    selection = selection._replace(used=ours)
    window = WINDOWS[name]
    if ours and ours[0].experiment.epochs < 20 * window:
        window = 1
    rows = 2 if ours else 1
    with style.styled_figure(rows, 2, (8, 0.6 + 2.9 * rows), sharey="row") as (figure, axes):
        for ax in axes.flat:
            ax.set(xlabel="epoch")
            style.whole_epochs(ax)
        for row in axes:
            row[0].set_ylabel("nats")
        _draw_logs(axes[0], runs_of(name, "short")[0].setting, archive, archive.released_in(name))
        if ours:
            _draw_ours(axes[1], selection, window)
        style.legend_above(figure, axes[0, 0], 5)
        return style.with_conditions(figure, ours)


def _draw_logs(row, setting: str, archive: Archive, again: Sequence[Record]) -> None:
    """The report's logs, and stars for the released weights measured ``again``."""
    row[0].set_title("report: (a) logged as IWAE-64")
    row[1].set_title("report: (b) log p̂(x), logged")
    blocks = blocks_of_logs(archive)
    blocks = blocks[blocks.setting == setting]
    last = blocks.last_epoch.max()
    for ax, metric in zip(row, METRICS_OF_PANELS, strict=True):
        draw_logs(ax, blocks, f"{metric}_mean", METHOD_TITLES)
        for r in again:
            star = {"color": style.COLOURS[r.experiment.method], "markersize": 9}
            ax.plot(last * 1.03, r.metrics[metric]["value"], "*", **star)
        if again:
            said = "★ these weights, measured again"
            ax.text(0.98, 0.03, said, transform=ax.transAxes, ha="right", fontsize=8)
    late = blocks[blocks.last_epoch > last / 10].log_px_mean
    lowest = min([late.min(), *(r.metrics["iwae_64"]["value"] for r in again)])
    row[0].set_ylim(lowest - 0.3, late.max() + 0.7)


def _draw_ours(row, selection: Selection, window: int) -> None:
    """Our own curves."""
    rolling = f", rolling mean of {window}" if window > 1 else ""
    row[0].set_title(f"ours: (a) IWAE-64{rolling}")
    row[1].set_title("ours: (b) log p̂(x)")
    counts: list[int] = []
    for m, runs in by_method(selection.used).items():
        draw_by_epoch(row[0], runs, "iwae_64", window, style.look(m))
        counts += draw_by_epoch(row[1], runs, "log_px", 1, style.look(m))
    if len(set(counts)) > 1:
        row[1].set_title(f"ours: (b) log p̂(x), of {min(counts)} to {max(counts)} seeds")
    row[1].set_xlim(row[0].get_xlim())  # log p-hat may be known of the last epoch alone
    without_the_first_tenth(row[0], selection.used, METRICS_OF_PANELS)
    say_what_is_missing(row, selection.missing)


def without_the_first_tenth(ax, ours: Sequence[Record], metrics: Iterable[str]) -> None:
    """Let the first tenth of training fall off the page, as it does in the report's figures."""
    late = pd.concat([r.curve[r.curve.epoch >= r.experiment.epochs / 10] for r in ours])
    values = late[[*metrics]].melt().value
    margin = 0.05 * (values.max() - values.min()) or 1
    ax.set_ylim(values.min() - margin, values.max() + margin)


def draw_by_epoch(
    ax, runs: Sequence[Record], metric: str, window: int, line: dict, name: str | None = None
) -> list[int]:
    """Mean over the seeds that have an epoch, rolling; a band between seeds, or bars over images.

    Returns how many seeds each drawn epoch has.
    """
    if not runs:
        return []
    measured = [r.curve.set_index("epoch").dropna(subset=[metric]) for r in runs]
    rolling = [_rolling(m[metric], window) for m in measured]
    values = pd.concat(rolling, axis=1).sort_index()
    counts = values.count(axis=1)
    mean = values.mean(axis=1)
    if metric == "log_px":  # measured at a few epochs only
        line = line | {"linestyle": "none", "markersize": 5}
    every = max(len(values) // 8, 1) if metric == "iwae_64" else 1
    ax.plot(mean.index, mean, markevery=every, label=name, **line)
    if len(runs) > 1:
        error = values.std(axis=1, ddof=1) / np.sqrt(counts)
    else:
        error = measured[0][f"{metric}_se"]
    if metric == "log_px":
        bars = {"fmt": "none", "ecolor": line["color"], "capsize": 2}
        ax.errorbar(mean.index, mean, error, **bars)
    elif len(runs) > 1:
        band = {"color": line["color"], "alpha": 0.25, "linewidth": 0}
        ax.fill_between(mean.index, mean - error, mean + error, **band)
    return counts.tolist()


def _rolling(values: pd.Series, window: int) -> pd.Series:
    """Rolling mean over so many epochs, at those that were measured."""
    every_epoch = values.reindex(range(1, values.index.max() + 1))
    return every_epoch.rolling(window, min_periods=1).mean()[values.index]


def of_same_images(shown: Sequence[Record]) -> list[Record]:
    """The records, with log p-hat of one number of test images at each epoch.

    Of the others' it is left out: most records have that number, or it is the larger one.
    """
    if not shown:
        return []
    together = pd.concat([r.curve for r in shown]).dropna(subset=["log_px"])
    images = together.log_px_images.fillna(np.inf)  # of all, where none is said
    usual = images.groupby(together.epoch).agg(lambda of_epoch: of_epoch.mode().max())
    return [_with_log_px_of(r, usual) for r in shown]


def _with_log_px_of(record: Record, images: pd.Series) -> Record:
    """A copy of a record with log p-hat only where it is of so many images, by epoch."""
    curve = record.curve.copy()
    others = curve.log_px_images.fillna(np.inf) != curve.epoch.map(images)
    curve.loc[others, "log_px"] = np.nan
    copy = replace(record)
    vars(copy)["curve"] = curve
    return copy


def say_what_is_missing(axes, missing: Sequence[Experiment]) -> None:
    """Name on the axes the runs that are missing."""
    names = list(dict.fromkeys(label(e) for e in missing))
    for ax in axes if names else ():
        said = "not run: " + textwrap.fill(", ".join(names), 40)
        ax.text(0.98, 0.03, said, transform=ax.transAxes, ha="right", va="bottom", fontsize=8)


def run_curves(shown: Sequence[Record]):
    """IWAE-64 and log p-hat of the test set by epoch, a line for each record."""
    some(shown)
    shown = of_same_images(shown)
    with style.styled_figure(1, 2, (8, 3.4), sharey=True) as (figure, axes):
        titles = ("IWAE-64", "log p̂(x)")
        for ax, metric, title in zip(axes.flat, METRICS_OF_PANELS, titles, strict=True):
            for record, name in zip(shown, labels(shown), strict=True):
                measured = record.curve.dropna(subset=[metric])
                epochs, values, errors = (measured[k] for k in ("epoch", metric, f"{metric}_se"))
                line = style.look(record.experiment.method)
                ax.errorbar(epochs, values, errors, label=name, capsize=2, **line)
            ax.set(xlabel="epoch", title=title)
            style.whole_epochs(ax)
        axes[0, 0].set_ylabel("nats")
        axes[0, 0].legend(frameon=False, fontsize=8)
        return style.with_conditions(figure, shown)


def some(shown: Sequence[Record]) -> None:
    """Raise ReproError if there is nothing to draw."""
    if not shown:
        raise ReproError(
            "there is no finished run to draw; "
            "`python -m repro status` lists the commands that make some"
        )
