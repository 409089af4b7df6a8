"""What the report's released logs say, from their committed summaries in blocks of 20 epochs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.records import Archive, Record
from repro.studies.frames import AnyArchive, by_method
from repro.studies.style import GREY, legend_above, look, styled_figure, with_conditions
from repro.words.exhibits import CURVES_OF
from repro.words.experiments import TABLE_METHODS, Experiment


def blocks_of_logs(archive: Archive) -> pd.DataFrame:
    """Means and standard deviations of blocks of 20 epochs; ``group`` names the setting."""
    return archive.table("logs")[0]


def last_block(blocks: pd.DataFrame, setting: str, method: str) -> pd.Series:
    """The last 20 epochs of a run's log."""
    mine = blocks[(blocks.group == setting) & (blocks.method == method)]
    return mine.loc[mine.last_epoch.idxmax()]


def logged(block: pd.Series, metric: str) -> float:
    """The mean of what a block calls IWAE-64, log p-hat or the gap."""
    return block["gap_mean" if metric == "minus_kl" else f"{metric}_mean"]


def spread_of_gap(blocks: pd.DataFrame) -> float:
    """The standard deviation of one epoch's gap over all epochs of one run's blocks."""
    return float(np.sqrt((blocks.gap_sd**2).mean() + blocks.gap_mean.var()))


def leads_in_logs(archive: Archive) -> pd.DataFrame:
    """PIWAE's and MIWAE's logged log p-hat minus IWAE's, by setting and last epoch of 20."""
    blocks = blocks_of_logs(archive)
    log_px = blocks.pivot(index=["group", "last_epoch"], columns="method", values="log_px_mean")
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
    found = archive.table("checkpoints")[0].set_index(["group", "method"])
    return found.loc[e.setting, e.method]


def draw_logs(ax, blocks: pd.DataFrame, column: str, names: dict[str, str]) -> None:
    """A line for each method in the logs of one setting, with some markers."""
    for m, name in names.items():
        log = blocks[blocks.method == m]
        line = look(m) | {"label": name, "markevery": max(len(log) // 8, 1)}
        ax.plot(log.last_epoch, log[column], **line)


def logged_log_px(archive: AnyArchive = None):
    """The logs' log p-hat by epoch, in means of 20 epochs: which methods lie together."""
    blocks = blocks_of_logs(Archive.of(archive))
    with styled_figure(1, 3, (8, 3)) as (figure, axes):
        for ax, group in zip(axes.flat, blocks.group.unique(), strict=True):
            run = blocks[blocks.group == group]
            draw_logs(ax, run, "log_px_mean", {m: m.upper() for m in TABLE_METHODS})
            late = run[run.last_epoch > run.last_epoch.max() / 10].log_px_mean
            limits = (late.min(), late.max() + 0.5)
            ax.set(xlabel="epoch", title=group.replace("-", ", "), ylim=limits)
        axes[0, 0].set_ylabel("nats")
        legend_above(figure, axes[0, 0], 5)
    return figure


def leads(profile: str = "best", archive: AnyArchive = None):
    """PIWAE's and MIWAE's lead over IWAE in log p-hat: lines from the logs, open marks ours."""
    archive = Archive.of(archive)
    logged = leads_in_logs(archive)
    used = []
    with styled_figure(1, 3, (8, 3.2), sharex=True, sharey=True) as (figure, axes):
        for ax, (setting, exhibit) in zip(axes.flat, CURVES_OF.items(), strict=True):
            runs = by_method(archive.select(exhibit, profile).used)
            for m in logged:
                at = [1, 3, 7, 15, -1]
                ax.plot(logged[m][setting], markevery=at, label=m.upper(), **look(m))
                ahead = mean_lead(runs[m], runs["iwae"])
                open_marks = look(m) | {"linestyle": "none", "markerfacecolor": "none"}
                ax.plot(ahead.index, ahead, **open_marks)
            used += [record for m in ("iwae", *logged) for record in runs[m]]
            ax.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
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
        return with_conditions(figure, used, None)


def mean_lead(a: Sequence[Record], b: Sequence[Record]) -> pd.Series:
    """Mean over the seeds that both have of the difference in log p-hat, by epoch."""
    return (curves_of(a, "log_px") - curves_of(b, "log_px")).mean(axis=1).dropna()


def curves_of(runs: Sequence[Record], metric: str) -> pd.DataFrame:
    """A metric on the curve of each seed, [epoch, seed]."""
    curves = {r.experiment.seed: r.curve.set_index("epoch")[metric] for r in runs}
    return pd.DataFrame(curves, dtype=float)
