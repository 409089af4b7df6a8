"""Curves by epoch: Figures 1 to 3, the report's logs, and runs just trained.

Of the logs there are committed summaries, in blocks of 20 epochs.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro import ReproError
from repro.catalogue import OMNIGLOT
from repro.records import Archive, Record, Selection, curves_of, frame_of
from repro.records.estimates import CLEAR, ErrorOf, Estimate
from repro.studies import evidence, style
from repro.studies.captions import METHOD_TITLES, METRIC_TITLES, label, labels
from repro.studies.frames import AnyArchive, by_method
from repro.words.exhibits import CURVES_OF, runs_of
from repro.words.experiments import TABLE_METHODS, Experiment, plan


def blocks_of_logs(archive: Archive) -> pd.DataFrame:
    """Means and standard deviations in the report's logs, a row for each block of 20 epochs."""
    return archive.table("logs")[0]


def last_block(blocks: pd.DataFrame, setting: str, method: str) -> pd.Series:
    """The row of the last 20 epochs in a released run's log."""
    mine = blocks[(blocks.setting == setting) & (blocks.method == method)]
    return mine.loc[mine.last_epoch.idxmax()]


def leads_in_logs(archive: Archive) -> pd.DataFrame:
    """PIWAE's and MIWAE's logged log p-hat minus IWAE's, by setting and last epoch of a block."""
    return _leads(blocks_of_logs(archive), ["setting", "last_epoch"], "log_px_mean")


def our_leads(curves: pd.DataFrame) -> pd.DataFrame:
    """PIWAE's and MIWAE's log p-hat minus IWAE's in ``curves``, by setting, epoch and seed."""
    return _leads(curves, ["setting", "epoch", "seed"], "log_px")


def _leads(rows: pd.DataFrame, index: list[str], values: str) -> pd.DataFrame:
    log_px = rows.pivot(index=index, columns="method", values=values)
    known = log_px.reindex(columns=["iwae", *LEADERS])
    return known.sub(known.iwae, axis=0)[[*LEADERS]]


LEADERS = {"piwae": "PIWAE", "miwae": "MIWAE"}


def passed_for_good(leads: pd.Series) -> int | None:
    """The first epoch from which on the lead over IWAE stays at 0 or below; None if it does not."""
    ahead = leads.index[leads > 0]
    last_ahead = ahead[-1] if len(ahead) else -1
    after = leads.index[leads.index > last_ahead]
    return int(after[0]) if len(after) else None


def logged_lead(archive: Archive, setting: str, method: str, epoch: int) -> Estimate:
    """A method's lead over IWAE in a log's log p-hat, in the 20 epochs that end there.

    >>> print(logged_lead(Archive(), "mnist-reference", "miwae", 40))
    0.60
    """
    return Estimate(leads_in_logs(archive)[method][setting, epoch])


def passed_by_iwae(archive: Archive, setting: str, method: str) -> str:
    """The epoch from which on IWAE leads a method in the report's logged log p-hat, or "never"."""
    return str(passed_for_good(leads_in_logs(archive)[method][setting]) or "never")


def nodes_of(curve: pd.Series) -> dict[float, float]:
    """The values at three betas of a curve in the report's Figure 4."""
    return {float(name[3:]): curve[name] for name in curve.index if name.startswith("at_")}


def checkpoint_of(e: Experiment, archive: Archive) -> pd.Series:
    """A released run's row in the table of best checkpoints."""
    found = archive.table("checkpoints")[0].set_index(["setting", "method"])
    return found.loc[e.setting, e.method]


def change_by_tf32(archive: Archive, which: str) -> Estimate:
    """IWAE-64 trained in TF32 minus float32, Omniglot, 40 epochs: the largest, or the mean.

    Or the standard deviation, "deviation", of the methods but for the VAE, which is the last.
    """
    exact = plan("all", OMNIGLOT, profile="short", precision="float32")
    rounded = plan("all", OMNIGLOT, profile="full", precision="tf32")
    apart = _iwae_64_after(40, rounded, archive) - _iwae_64_after(40, exact, archive)
    found = {
        "largest": np.abs(apart).max(),
        "mean": apart.mean(),
        "deviation": apart[:-1].std(ddof=1),
    }
    return Estimate(float(found[which]))


def change_by_bfloat16(archive: Archive, which: str) -> Estimate:
    """IWAE-64 trained in bfloat16 minus TF32, MNIST, 13 epochs: the largest or the mean."""
    words = {"dataset": "mnist", "seed": "10,11", "profile": "short"}
    rounded = plan("all", epochs=13, precision="bf16", **words)
    exact = plan("all", precision="tf32", **words)
    apart = _iwae_64_after(13, rounded, archive) - _iwae_64_after(13, exact, archive)
    if which == "largest":
        return Estimate(float(np.abs(apart).max()))
    return Estimate.mean_of(apart, ErrorOf.DRAWS)


def _iwae_64_after(epoch: int, runs: Sequence[Experiment], archive: Archive) -> np.ndarray:
    """IWAE-64 on the curve of each run, [run]."""
    curves = curves_of(map(archive.get, runs))
    return curves[curves.epoch == epoch].iwae_64.to_numpy()


@style.styled()
def logged_log_px(archive: AnyArchive = None):
    """The logs' log p-hat by epoch, in means of 20 epochs: which methods lie together."""
    blocks = blocks_of_logs(Archive.of(archive))
    apart = {"sharex": False, "sharey": False}
    grid = style.faceted(blocks, (8, 3), "last_epoch", "log_px_mean", MARKS, col="setting", **apart)
    for setting, ax in grid.axes_dict.items():
        run = blocks[blocks.setting == setting]
        late = run[run.last_epoch > run.last_epoch.max() / 10].log_px_mean
        ax.set(title=setting.replace("-", ", "), ylim=(late.min(), late.max() + 0.5))
    grid.set_axis_labels("epoch", "nats")
    style.legend_above(grid.figure, style.titled(METHOD_TITLES))
    return grid.figure


MARKS = {"markevery": 0.15}  # of the length of a line, on the page


@style.styled()
def leads(profile: str = "best", archive: AnyArchive = None):
    """PIWAE's and MIWAE's lead over IWAE in log p-hat: lines from the logs, open marks ours.

    >>> [ax.get_title() for ax in leads().axes]
    ['mnist, reference', 'omniglot, reference', 'mnist, larger']
    """
    archive = Archive.of(archive)
    shown = [r for exhibit in CURVES_OF.values() for r in archive.select(exhibit, profile).used]
    compared = [r for r in shown if r.experiment.method in ("iwae", *LEADERS)]
    ours = _tidy(our_leads(with_log_px_of_same_images(curves_of(shown)))).assign(open=True)
    logged = _tidy(leads_in_logs(archive))
    marks = {"markevery": [1, 3, 7, 15, -1]}
    panels = {"col": "setting", "col_order": CURVES_OF}
    grid = style.faceted(logged, (8, 3.2), "last_epoch", "nats", marks, **panels)
    grid.refline(y=0, color=style.GREY, linewidth=0.8, linestyle=":")
    for setting, ax in grid.axes_dict.items():
        style.lines(ours[ours.setting == setting], "epoch", "nats", ax, linestyle="none")
        ax.set(title=setting.replace("-", ", "), xscale="log", xlabel="epoch")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yscale("symlog", linthresh=0.5, linscale=1)
    ax.set_yticks([-0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
    ax.set_yticks([], minor=True)
    ax.yaxis.set_major_formatter("{x:g}")
    said = "lines: the student report; open: ours"
    ax.legend(handles=style.entries(style.titled(LEADERS)), title=said)
    return style.with_conditions(grid.figure, compared, None)


def _tidy(by_method: pd.DataFrame) -> pd.DataFrame:
    """A row for each value of a table with a column for each method."""
    return by_method.rename_axis(columns="method").stack().rename("nats").reset_index()


WINDOWS = {"figure1": 10, "figure2": 5, "figure3": 10}  # of (a), in epochs, as in the report
METRICS_OF_PANELS = {"iwae_64": "IWAE-64", "log_px": "log p̂(x)"}


@style.styled()
def training_curves(name: str, profile: str = "best", archive: AnyArchive = None):
    """Figures 1 to 3: (a) IWAE-64 and (b) log p-hat of the test set by epoch.

    Above from the report's logs, in means of 20 epochs. Below ours: (a) with the report's rolling
    window, and in place of (b), which few epochs have, what each method is ahead of IWAE after
    the last. Bands: standard errors between seeds, if there are several.
    """
    archive = Archive.of(archive)
    selection = archive.select(name, profile)
    ours = selection.used
    rows = 2 if ours else 1
    figure, axes = style.subplots(rows, 2, (8, 0.6 + 2.9 * rows))
    _draw_logs(axes[0], runs_of(name, "short")[0].setting, archive, archive.released_in(name))
    if ours:
        short = ours[0].experiment.epochs < 20 * WINDOWS[name]
        _draw_ours(axes[1, 0], selection, 1 if short else WINDOWS[name])
        _draw_differences(axes[1, 1], archive, ours)
    for ax in (*axes[0], *axes[1:, 0]):
        ax.set(xlabel="epoch", ylabel="nats")
        style.whole_epochs(ax)
    style.legend_above(figure, style.titled(METHOD_TITLES))
    return style.with_conditions(figure, ours, "bars: where they reach 0 a difference is not clear")


def _draw_logs(row, setting: str, archive: Archive, again: Sequence[Record]) -> None:
    """The report's logs, and stars for the released weights measured ``again``."""
    blocks = blocks_of_logs(archive)
    blocks = blocks[blocks.setting == setting]
    last = blocks.last_epoch.max()
    weights = frame_of(again).assign(epoch=1.03 * last)
    star = {"style": None, "marker": "*", "markersize": 9, "linestyle": "none"}
    for ax, metric in zip(row, METRICS_OF_PANELS, strict=True):
        every = blocks.last_epoch.nunique() // 8
        style.lines(blocks, "last_epoch", f"{metric}_mean", ax, markevery=every)
        style.lines(weights, "epoch", metric, ax, **star)
        if again:
            said = "★ these weights, measured again"
            ax.text(0.98, 0.03, said, transform=ax.transAxes, ha="right", fontsize=8)
    late = blocks[blocks.last_epoch > last / 10].log_px_mean
    lowest = np.fmin(late.min(), weights.iwae_64.min())
    for ax, title in zip(row, ("(a) logged as IWAE-64", "(b) log p̂(x), logged"), strict=True):
        ax.set(title=f"report: {title}", ylim=(lowest - 0.3, late.max() + 0.7))


def _draw_ours(ax, selection: Selection, window: int) -> None:
    """IWAE-64 along our own trainings."""
    curves = curves_of(selection.used)
    iwae_64 = rolling(curves, "iwae_64", window)
    style.lines(iwae_64, "epoch", "iwae_64", ax, errorbar="se", **MARKS)
    averaged = f", rolling mean of {window}" if window > 1 else ""
    ax.set_title(f"ours: (a) IWAE-64{averaged}")
    without_the_first_tenth(ax, curves, "iwae_64")
    say_what_is_missing(ax, selection.missing)


COMPARED = METRIC_TITLES | {evidence.LOG_P: "log p(x) by AIS"}


def _draw_differences(ax, archive: Archive, used: Sequence[Record]) -> None:
    """Each method's metrics minus IWAE's after our own trainings.

    A bar that does not reach 0 belongs to a clear difference, by the total error.
    """
    runs = by_method(used)
    titles = []
    for metric, title in COMPARED.items():
        ahead = {
            method: evidence.difference(archive, runs[method], runs["iwae"], metric, used)
            for method in TABLE_METHODS[1:]
        }
        known = [method for method, apart in ahead.items() if apart and apart.se is not None]
        for shift, method in zip(np.linspace(-0.27, 0.27, 4), ahead, strict=True):
            if method in known:
                apart = ahead[method]
                bar = {"xerr": apart.half_width(CLEAR), "linestyle": "none", "markersize": 4}
                ax.errorbar(apart.value, len(titles) + shift, **style.look(method), **bar)
        titles += [title] if known else []
    ax.axvline(0, color=style.GREY, linewidth=0.8)
    ax.set_yticks(range(len(titles)), titles)
    ax.set(title="ours: ahead of IWAE after the last epoch", xlabel="nats")
    ax.set_ylim(len(titles) - 0.5, -0.5)


def without_the_first_tenth(ax, curves: pd.DataFrame, *metrics: str) -> None:
    """Set the limits of y by the last nine tenths of training, as in the report's figures."""
    values = curves[curves.epoch >= curves.epochs / 10][[*metrics]].melt().value
    margin = 0.05 * (values.max() - values.min()) or 1
    ax.set_ylim(values.min() - margin, values.max() + margin)


def rolling(curves: pd.DataFrame, metric: str, window: int) -> pd.DataFrame:
    """Each seed's rolling mean of ``metric`` over ``window`` epochs, at measured epochs."""
    measured = curves.pivot(index="epoch", columns=["method", "seed"], values=metric)
    every_epoch = measured.reindex(range(1, measured.index.max() + 1))
    means = every_epoch.rolling(window, min_periods=1).mean()
    of_seeds = means.where(every_epoch.notna()).stack(["method", "seed"]).dropna()
    return of_seeds.rename(metric).reset_index()


def with_log_px_of_same_images(curves: pd.DataFrame) -> pd.DataFrame:
    """Keep log p-hat of one number of test images at each epoch of a setting, and drop others.

    It is the number that most records have; of two as frequent, the larger one.
    """
    images = curves.log_px_images.fillna(np.inf)  # of all, where none is said
    measured = images.where(curves.log_px.notna())
    by_epoch = measured.groupby([curves.setting, curves.epoch])
    usual = by_epoch.transform(lambda of_epoch: of_epoch.mode().max())
    return curves.assign(log_px=curves.log_px.where(images == usual))


def say_what_is_missing(ax, missing: Sequence[Experiment]) -> None:
    """Write the names of the ``missing`` runs on the axes."""
    names = list(dict.fromkeys(label(e) for e in missing))
    if names:
        said = "not run: " + textwrap.fill(", ".join(names), 40)
        ax.text(0.98, 0.03, said, transform=ax.transAxes, ha="right", va="bottom", fontsize=8)


@style.styled()
def run_curves(shown: Sequence[Record]):
    """IWAE-64 and log p-hat of the test set by epoch, a line for each record.

    >>> figure = run_curves(Archive().records("full")[:2])
    >>> [ax.get_title() for ax in figure.axes]
    ['IWAE-64', 'log p̂(x)']
    """
    some(shown)
    curves = with_log_px_of_same_images(curves_of(shown))
    looks = {r.experiment.folder: style.look(r.experiment.method) for r in shown}
    of_runs = style.each_in_its("run", looks)
    figure, (axes,) = style.subplots(1, 2, (8, 3.4), sharey=True)
    for ax, (metric, title) in zip(axes, METRICS_OF_PANELS.items(), strict=True):
        measured = curves.dropna(subset=[metric])
        estimates = [*map(Estimate, measured[metric], measured[f"{metric}_se"])]
        style.lines(measured.assign(nats=estimates), "epoch", "nats", ax, **of_runs)
        ax.set(title=title)
        style.whole_epochs(ax)
    axes[0].legend(handles=style.entries(dict(zip(labels(shown), looks.values(), strict=True))))
    return style.with_conditions(figure, shown)


def some(shown: Sequence[Record]) -> None:
    """Raise ReproError if there is nothing to draw."""
    if not shown:
        raise ReproError(
            "there is no finished run to draw; "
            "`python -m repro status` lists the commands that make some"
        )
