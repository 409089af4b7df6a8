"""The report's Figure 4: beta fixed, learned and chosen; its table and its figures."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from repro import plural
from repro.records import Archive, Record, Selection, curves_of, frame_of
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, estimate_of, number, over_seeds
from repro.studies import style
from repro.studies.captions import OVER_IMAGES
from repro.studies.curves import nodes_of, say_what_is_missing, without_the_first_tenth
from repro.studies.frames import AnyArchive, Rows, from_to, rounded_up, table_of_ours
from repro.studies.reported import FIGURE4
from repro.words.exhibits import KINDS_OF_BETA

# Fields in which runs that choose their beta may differ from the default
OF_CHOSEN = ("epochs", "precision", "estimator")


def betas(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Figure 4 in numbers: IWAE-64 for each value of beta, fixed, and learned from it.

    >>> print(betas().loc[("report, text",), "learned"])
    −80.34 ± 0.49
    """
    archive = Archive.of(archive)
    selection = archive.select("figure4", profile)
    rows: Rows = {}
    end = "learned beta at the end"
    for beta in sorted({e.beta for e in selection.wanted}):
        runs = {k: by_beta(selection.used, m).get(beta, []) for m, k in KINDS_OF_BETA.items()}
        row = {kind: over_seeds(found, "iwae_64", selection.used) for kind, found in runs.items()}
        ends = [r.curve.beta.iloc[-1] for r in runs["learned"]]
        rows[(f"{beta:g}",)] = row | {end: f"{np.mean(ends):.2g}" if ends else NOT_RUN}
    spreads = {kind: spread_over_betas(archive, m, profile) for m, kind in KINDS_OF_BETA.items()}
    rows[("mean ± standard deviation",)] = spreads | {end: ""}
    for said, fixed in (("report, text", "fixed"), ("report, caption", "fixed, caption")):
        printed = {"fixed": FIGURE4[fixed], "learned": FIGURE4["learned"], end: ""}
        rows[(said,)] = printed
    about = "IWAE-64 of CIWAE with a fixed β, and with one that is learned from there."
    error = f"{OVER_IMAGES}, where not said otherwise"
    return table_of_ours(rows, ["beta"], selection, about, error)


def by_beta(shown: Sequence[Record], method: str) -> dict[float, list[Record]]:
    """A method's records of every seed, by beta (initial, if it is learned) in rising order."""
    found: dict[float, list[Record]] = {}
    for record in shown:
        if record.experiment.method == method:
            found.setdefault(record.experiment.beta, []).append(record)
    return dict(sorted(found.items()))


def scores_by_beta(shown: Sequence[Record], method: str) -> np.ndarray:
    """Mean IWAE-64 over the seeds of a method's runs for each beta, in rising order: [beta]."""
    runs = frame_of(shown)
    return runs[runs.method == method].groupby("beta").iwae_64.mean().to_numpy()


def chosen_betas(archive: Archive, method: str = "ciwae-chosen") -> list[Record]:
    """Our runs on MNIST that choose beta during training, with Figure 4's epochs, by seed.

    With ``ciwae-chosen`` the inference network alone ascends CIWAE's bound, the other one IWAE's;
    with ``ciwae-chosen-both`` both networks ascend it.
    """
    shown = archive.select("figure4").used
    lengths = {r.experiment.epochs for r in shown}
    found = []
    for record in archive.records("short"):
        e = record.experiment
        kind = (e.method, e.setting_folder, e.epochs in lengths)
        if kind == (method, "mnist-reference", True) and e.departs_only_in(*OF_CHOSEN):
            found.append(record)
    return sorted(found, key=lambda r: r.experiment.seed)


def spread_over_betas(archive: Archive, method: str, profile: str = "best"):
    """Mean ± standard deviation of our runs' IWAE-64 over the values of beta."""
    scores = scores_by_beta(archive.select("figure4", profile).used, method)
    if len(scores) < 2:
        return NOT_RUN
    return Estimate(float(scores.mean()), float(scores.std(ddof=1)), error_of=ErrorOf.SPREAD)


# Facts for the book's pages


def between_betas(archive: Archive, method: str) -> str:
    """The range of our runs' IWAE-64 over the betas of Figure 4."""
    scores = scores_by_beta(archive.select("figure4").used, method)
    return from_to(scores) if len(scores) > 1 else str(NOT_RUN)


def highest_learned_beta(archive: Archive, epoch: int | None = None) -> str:
    """The highest learned beta over runs after ``epoch``, by default the last, rounded up."""
    used = archive.select("figure4").used
    curves = curves_of(r for r in used if r.experiment.method == "ciwae-learned")
    if curves.empty:
        return str(NOT_RUN)
    ends = curves.groupby("run").beta_now.last()
    found = ends if epoch is None else curves[curves.epoch == epoch].beta_now
    return rounded_up(found.max())


def range_of_chosen(archive: Archive, epoch: int) -> str:
    """The lowest and the highest beta that runs choose from ``epoch`` on, as text."""
    curves = curves_of(chosen_betas(archive))
    values = curves[curves.epoch >= epoch].beta_now
    if values.empty:
        return str(NOT_RUN)
    return f"{number(values.min())} and {number(values.max())}"


def seeds_of_chosen(archive: Archive) -> str:
    """The number of our runs that choose their beta."""
    return plural(len(chosen_betas(archive)), "seed")


# Figures

ENDS_OF_BETA = (0.1, 0.9)  # of the report's Figure 4


@style.styled()
def beta_curves(name: str = "figure4", profile: str = "best", archive: AnyArchive = None):
    """Figure 4: IWAE-64 with beta fixed and learned, where each ends, and the learned beta."""
    selection = Archive.of(archive).select(name, profile)
    ours = selection.used
    if not ours:
        return style.nothing()
    curves = curves_of(ours)
    figure, ((fixed, learned), (ends, values)) = style.subplots(2, 2, (8, 6))
    learned.sharey(fixed)
    for ax, (m, kind) in zip((fixed, learned), KINDS_OF_BETA.items(), strict=True):
        of_kind = curves[curves.method == m]
        style.lines(of_kind, "epoch", "iwae_64", ax, errorbar="se", **_shades(selection, m))
        ax.set(title=f"IWAE-64, β {kind}", xlabel="epoch", ylabel="nats")
        say_what_is_missing(ax, [e for e in selection.missing if e.method == m])
    learns = curves[curves.method == "ciwae-learned"]
    first = _from_the_start(learns[learns.seed == learns.groupby("beta").seed.transform("min")])
    style.lines(first, "epoch", "beta_now", values, **_shades(selection, "ciwae-learned"))
    values.set(title="β while it is learned", xlabel="epoch", ylabel="β", yscale="log")
    _draw_ends(ends, ours, KINDS_OF_BETA)
    ends.set(title="IWAE-64 at the end", xlabel="β, fixed or at the start", ylabel="nats")
    without_the_first_tenth(fixed, curves, "iwae_64")
    for ax in (fixed, learned, values):
        style.whole_epochs(ax)
    shades = _shades(selection, "ciwae")["palette"].items()
    fixed.legend(handles=style.entries({f"{b:g}": {"color": s} for b, s in shades}), title="β")
    ends.legend(handles=style.entries(style.titled(KINDS_OF_BETA)))
    return style.with_conditions(figure, ours)


def _shades(selection: Selection, method: str) -> dict:
    """seaborn's words for a line of each beta, from dark to light."""
    import seaborn as sns

    betas = sorted({e.beta for e in selection.wanted})
    shades = sns.color_palette("viridis", len(betas) + 1)[:-1]
    marker = style.look(method)["marker"]
    looks = {b: {"color": s, "marker": marker} for b, s in zip(betas, shades, strict=True)}
    return style.each_in_its("beta", looks)


def _from_the_start(curves: pd.DataFrame) -> pd.DataFrame:
    """Curves with the beta of epoch 0, where it starts."""
    start = curves[curves.epoch == 1]
    return pd.concat([start.assign(epoch=0, beta_now=start.beta), curves])


@style.styled()
def chosen_beta(archive: AnyArchive = None):
    """The beta that is chosen, by epoch, and IWAE-64 beside that of every fixed beta."""
    archive = Archive.of(archive)
    chosen = chosen_betas(archive)
    if not chosen:
        return style.nothing()
    figure, ((values, scores),) = style.subplots(1, 2, (8, 3.2))
    curves = _from_the_start(curves_of(chosen))
    style.lines(curves, "epoch", "beta_now", values, units="seed", estimator=None)
    values.set(title="β while it is chosen", xlabel="epoch", ylabel="β", ylim=(0, 1))
    style.whole_epochs(values)
    _draw_ends(scores, archive.select("figure4").used, ["ciwae"])
    ended = curves[curves.epoch == curves.epochs]
    estimates = [estimate_of(r.metrics["iwae_64"]) for r in chosen]
    style.lines(ended.assign(nats=estimates), "beta_now", "nats", scores, linestyle="none")
    scores.set(title="IWAE-64 at the end", xlabel="β, fixed or at the end", ylabel="nats")
    named = style.titled({"ciwae": "fixed", "ciwae-chosen": "chosen"})
    scores.legend(handles=style.entries(named))
    return style.with_conditions(figure, chosen)


@style.styled()
def reported_betas(archive: AnyArchive = None):
    """The two curves of the report's Figure 4: parabolas through three round values each."""
    table = Archive.of(archive).table("figure4")[0].set_index("curve")
    betas = np.linspace(*ENDS_OF_BETA, 100)
    figure, ((ax,),) = style.subplots(1, 1, (5, 2.8))
    for method, kind in KINDS_OF_BETA.items():
        nodes = nodes_of(table.loc[kind])
        parabola = np.polyfit([*nodes], [*nodes.values()], 2)
        line = style.look(method)
        ax.plot(betas, np.polyval(parabola, betas), color=line["color"], label=f"β {kind}")
        ax.plot([*nodes], [*nodes.values()], linestyle="none", **line)
    ax.set(xlabel="β, fixed or at the start", ylabel="IWAE-64, nats")
    ax.legend()
    return figure


def _draw_ends(ax, ours: Sequence[Record], methods: Iterable[str]) -> None:
    """IWAE-64 at the end, by beta."""
    rows = []
    for method in methods:
        for beta, runs in by_beta(ours, method).items():
            estimate = over_seeds(runs, "iwae_64", ours)
            rows.append({"method": method, "beta": beta, "nats": estimate})
    style.lines(pd.DataFrame(rows, columns=["method", "beta", "nats"]), "beta", "nats", ax)
