"""The report's Figure 4: beta fixed, learned and chosen; its table and its figures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.records import Archive, Record
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, estimate_of, over_seeds
from repro.studies import style
from repro.studies.captions import OVER_IMAGES
from repro.studies.curves import (
    draw_by_epoch,
    nodes_of,
    say_what_is_missing,
    without_the_first_tenth,
)
from repro.studies.frames import AnyArchive, Rows, by_method, of_ours
from repro.studies.reported import FIGURE4
from repro.words.exhibits import KINDS_OF_BETA


def betas(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Figure 4 in numbers: IWAE-64 for each value of beta, fixed, and learned from it."""
    selection = Archive.of(archive).select("figure4", profile)
    rows: Rows = {}
    end = "learned beta at the end"
    for beta in sorted({e.beta for e in selection.wanted}):
        of_beta = [r for r in selection.used if r.experiment.beta == beta]
        runs = {kind: by_method(of_beta, [m])[m] for m, kind in KINDS_OF_BETA.items()}
        row = {kind: over_seeds(found, "iwae_64", selection.used) for kind, found in runs.items()}
        ends = [r.curve.beta.iloc[-1] for r in runs["learned"]]
        rows[(f"{beta:g}",)] = row | {end: f"{np.mean(ends):.2g}" if ends else NOT_RUN}
    spreads = {kind: spread_over_betas(selection.used, m) for m, kind in KINDS_OF_BETA.items()}
    rows[("mean ± standard deviation",)] = spreads | {end: ""}
    for said, fixed in (("report, text", "fixed"), ("report, caption", "fixed, caption")):
        printed = {"fixed": FIGURE4[fixed], "learned": FIGURE4["learned"], end: ""}
        rows[(said,)] = printed
    return of_ours(rows, ["beta"], selection, f"{OVER_IMAGES}, where not said otherwise")


def by_beta(shown: Sequence[Record], method: str) -> dict[float, list[Record]]:
    """A method's records of every seed, by (starting) beta in rising order."""
    found: dict[float, list[Record]] = {}
    for record in by_method(shown, [method])[method]:
        found.setdefault(record.experiment.beta, []).append(record)
    return dict(sorted(found.items()))


def scores_by_beta(shown: Sequence[Record], method: str) -> np.ndarray:
    """IWAE-64 of a method's runs, the mean over seeds, in the order of beta."""
    means = []
    for runs in by_beta(shown, method).values():
        means.append(np.mean([r.metrics["iwae_64"]["value"] for r in runs]))
    return np.array(means)


def chosen_betas(archive: Archive, method: str = "ciwae-chosen") -> list[Record]:
    """Our runs on MNIST that choose their beta, as long as those of Figure 4, by seed.

    With ``ciwae-chosen`` the inference network alone takes the mixture, with ``ciwae-chosen-both``
    both networks do.
    """
    shown = archive.select("figure4").used
    lengths = {r.experiment.epochs for r in shown}
    found = []
    for record in archive.records("short"):
        e = record.experiment
        kind = (e.method, e.setting_folder, e.decoder)
        if kind == (method, "mnist-reference", "own") and e.epochs in lengths:
            found.append(record)
    return sorted(found, key=lambda r: r.experiment.seed)


def spread_over_betas(shown: Sequence[Record], method: str):
    """IWAE-64 over the values of beta: mean ± standard deviation."""
    scores = scores_by_beta(shown, method)
    if len(scores) < 2:
        return NOT_RUN
    return Estimate(float(scores.mean()), float(scores.std(ddof=1)), error_of=ErrorOf.SPREAD)


ENDS_OF_BETA = (0.1, 0.9)  # of the report's Figure 4


def beta_curves(name: str = "figure4", profile: str = "best", archive: AnyArchive = None):
    """Figure 4: IWAE-64 with beta fixed and learned, where each ends, and the learned beta."""
    selection = Archive.of(archive).select(name, profile)
    ours = selection.used
    if not ours:
        return style.nothing()
    shades = _shades(sorted({e.beta for e in selection.wanted}))
    with style.styled_figure(2, 2, (8, 6)) as (figure, axes):
        (fixed, learned), (ends, values) = axes
        learned.sharey(fixed)
        for ax, (m, kind) in zip((fixed, learned), KINDS_OF_BETA.items(), strict=True):
            ax.set(title=f"IWAE-64, β {kind}", xlabel="epoch")
            for beta, runs in by_beta(ours, m).items():
                line = style.look(m) | {"color": shades[beta]}
                draw_by_epoch(ax, runs, "iwae_64", 1, line, f"{beta:g}")
            say_what_is_missing([ax], [e for e in selection.missing if e.method == m])
            _draw_ends(ends, by_beta(ours, m), ours, m)
        for start, runs in by_beta(ours, "ciwae-learned").items():
            _draw_beta(values, runs[0], style.look("ciwae-learned") | {"color": shades[start]})
        values.set(title="β while it is learned", xlabel="epoch", ylabel="β", yscale="log")
        fixed.set_ylabel("nats")
        ends.set(title="IWAE-64 at the end", xlabel="β, fixed or at the start", ylabel="nats")
        without_the_first_tenth(fixed, ours, ["iwae_64"])
        for ax in (fixed, learned, values):
            style.whole_epochs(ax)
        for ax, title in ((fixed, "β"), (ends, "")):
            if ax.get_legend_handles_labels()[0]:
                ax.legend(title=title, frameon=False, fontsize=8, title_fontsize=8)
        return style.with_conditions(figure, ours)


def _shades(betas: Sequence[float]) -> dict[float, tuple]:
    """A colour for each beta, from dark to light."""
    import seaborn as sns

    return dict(zip(betas, sns.color_palette("viridis", len(betas) + 1), strict=False))


def chosen_beta(archive: AnyArchive = None):
    """The beta that is chosen, by epoch, and IWAE-64 beside that of every fixed beta."""
    archive = Archive.of(archive)
    chosen = chosen_betas(archive)
    if not chosen:
        return style.nothing()
    fixed = by_beta(archive.select("figure4").used, "ciwae")
    with style.styled_figure(1, 2, (8, 3.2)) as (figure, ((values, scores),)):
        line = style.look("ciwae-chosen")
        for record in chosen:
            _draw_beta(values, record, line)
        values.set(title="β while it is chosen", xlabel="epoch", ylabel="β", ylim=(0, 1))
        _draw_ends(scores, fixed, [r for runs in fixed.values() for r in runs], "ciwae")
        for place, record in enumerate(chosen):
            beta = record.curve.beta.iloc[-1]
            end = estimate_of(record.metrics["iwae_64"])
            style.error_bars(scores, [beta], [end], label=None if place else "chosen", **line)
        scores.set(title="IWAE-64 at the end", xlabel="β, fixed or at the end", ylabel="nats")
        scores.legend(frameon=False, fontsize=8)
        style.whole_epochs(values)
        return style.with_conditions(figure, chosen)


def reported_betas(archive: AnyArchive = None):
    """The two curves of the report's Figure 4: parabolas through three round values each."""
    table = Archive.of(archive).table("figure4")[0].set_index("curve")
    betas = np.linspace(*ENDS_OF_BETA, 100)
    with style.styled_figure(1, 1, (5, 2.8)) as (figure, ((ax,),)):
        for method, kind in KINDS_OF_BETA.items():
            nodes = nodes_of(table.loc[kind])
            parabola = np.polyfit([*nodes], [*nodes.values()], 2)
            line = style.look(method)
            ax.plot(betas, np.polyval(parabola, betas), color=line["color"], label=f"β {kind}")
            ax.plot([*nodes], [*nodes.values()], line["marker"], color=line["color"])
        ax.set(xlabel="β, fixed or at the start", ylabel="IWAE-64, nats")
        ax.legend(frameon=False, fontsize=8)
    return figure


def _draw_beta(ax, record: Record, line: dict) -> None:
    """The beta of a run by epoch, from its start."""
    curve = record.curve
    ax.plot([0, *curve.epoch], [record.experiment.beta, *curve.beta], **line)


def _draw_ends(ax, runs: dict[float, list[Record]], ours: Sequence[Record], method: str) -> None:
    """IWAE-64 at the end, by beta."""
    found = [over_seeds(of_beta, "iwae_64", ours) for of_beta in runs.values()]
    if found:
        style.error_bars(ax, [*runs], found, label=KINDS_OF_BETA[method], **style.look(method))
