"""The figure of the chapter on bounds and estimators."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from repro.records import Archive
from repro.records.estimates import NOT_RUN
from repro.studies.captions import METRIC_TITLES
from repro.studies.designs import COUNTS, NETWORKS_OF_ESTIMATORS, OF_ESTIMATORS, OFFSETS, THEORY
from repro.studies.estimator_runs import BOTH_NETWORKS, BOUNDS, DOUBLY, GROUPS, USUAL, EstimatorRuns
from repro.studies.figures.style import GREY, legend_above, look, styled_figure
from repro.studies.gradients import rates_in_linear_gaussian, ratios_by_count, snr_of
from repro.studies.tables import AnyArchive

PLACE = "MNIST, the report's IWAE"  # where the first panel's gradients were measured
ASIDE = {USUAL: -0.13, DOUBLY: 0.13}  # of a method's place
LINES = {USUAL: {}, DOUBLY: {"markerfacecolor": "none"}}


def bounds_and_estimators(archive: AnyArchive = None) -> Figure:
    """Each bound under two estimators: its gradient's SNR, and what training makes of it.

    Filled: the usual estimator; open: the doubly reparameterised one. Bars: standard errors,
    between batches in the first panel and between trainings in the others.
    """
    archive = Archive.of(archive)
    runs = EstimatorRuns(archive, BOTH_NETWORKS)
    methods = [m for m in BOUNDS if m in set(runs.rows.method)]
    with styled_figure(2, 2, (8, 5.6)) as (figure, axes):
        _draw_ratios(axes[0, 0], archive, methods)
        for ax, (metric, title) in zip(axes.flat[1:], METRIC_TITLES.items(), strict=True):
            _draw_metric(ax, runs, methods, metric)
            ax.set(title=f"{title} after {BOTH_NETWORKS.epochs} epochs", ylabel="nats")
        for ax in axes.flat:
            ax.set_xticks(range(len(methods)), [m.upper() for m in methods], fontsize=7)
        for name, line in LINES.items():
            axes[0, 0].plot([], [], "o", color=GREY, label=name, **line)
        legend_above(figure, axes[0, 0], len(LINES))
    return figure


RATES = {  # (network, estimator) -> title, and the line
    ("theta", "rep"): ("generative", {"color": "#0072B2", "marker": "o"}),
    ("phi", "rep"): ("inference, rep", {"color": "#D55E00", "marker": "s"}),
    ("phi", "drep"): (
        "inference, drep",
        {"color": "#D55E00", "marker": "s", "markerfacecolor": "none"},
    ),
}


def samples_and_clarity(archive: AnyArchive = None) -> Figure:
    """How gradients change with K: IWAE's rates against the ESS, and phi's SNR in networks.

    In the networks, filled: the usual estimator; open: the doubly reparameterised one.
    """
    archive = Archive.of(archive)
    with styled_figure(1, 3, (8, 3.4)) as (figure, (axes,)):
        _draw_rates(axes[0], archive)
        _draw_iwae_in_networks(axes[1], archive)
        _draw_bounds_in_a_network(axes[2], archive)
        legend_above(figure, axes[0], len(RATES))
    return figure


def by_groups(archive: AnyArchive = None) -> Figure:
    """MIWAE and PIWAE with M groups of the 64 samples, from IWAE's bound on the left to the VAE's.

    Bars: standard errors between trainings.
    """
    runs = EstimatorRuns(Archive.of(archive), BOTH_NETWORKS)
    with styled_figure(1, 3, (8, 3.2)) as (figure, (axes,)):
        for ax, (metric, title) in zip(axes, METRIC_TITLES.items(), strict=True):
            for method in ("miwae", "piwae"):
                found = runs.by_groups(method, metric)
                values = [e.value for e in found.values()]
                errors = [e.se for e in found.values()]
                ax.errorbar(
                    [*found], values, errors, capsize=2, **look(method), label=method.upper()
                )
            ax.set(xscale="log", xlabel="M", title=title)
            ax.set_xticks(GROUPS, GROUPS)
            ax.xaxis.set_minor_locator(NullLocator())
        axes[0].set(ylabel=f"nats, after {BOTH_NETWORKS.epochs} epochs")
        legend_above(figure, axes[0], 2)
    return figure


def _draw_rates(ax, archive: Archive) -> None:
    """Exponents of the linear Gaussian model at all offsets, against the effective sample size."""
    for rate in (THEORY["theta"], THEORY["phi"]):
        ax.axhline(rate, color=GREY, linestyle=":", linewidth=1)
    rates = rates_in_linear_gaussian(archive)
    for (net, estimator), (title, line) in RATES.items():
        for offset in OFFSETS:
            mine = [r for r in rates if r[:3] == (net, estimator, offset)]
            values = [r.exponent.value for r in mine]
            errors = [r.exponent.se for r in mine]
            label = title if offset == OFFSETS[0] else None
            thin = {"linewidth": 0.7, "elinewidth": 0.7, "markersize": 4, "label": label}
            ax.errorbar([r.ess for r in mine], values, errors, **line, **thin)
    ax.set(
        xscale="log",
        xlabel="effective sample size",
        ylabel="d log SNR / d log K",
        title="Linear Gaussian model",
    )
    ax.xaxis.set_major_formatter("{x:g}")


def _draw_iwae_in_networks(ax, archive: Archive) -> None:
    """The SNR of IWAE's gradient of phi in each network, as a multiple of that with one sample."""
    for place in NETWORKS_OF_ESTIMATORS:
        for estimator, line in LINES.items():
            ratios = ratios_by_count(archive, place, estimator)
            times = [r / ratios[1] for r in ratios.values()]
            ax.plot([*ratios], times, **look("iwae") | line)
    ax.set(title="IWAE in five networks", ylabel="SNR over that at K = 1", ylim=(0, None))
    _set_counts(ax)


def _draw_bounds_in_a_network(ax, archive: Archive) -> None:
    """The SNR of phi's gradient under three bounds in one network."""
    titles = {"miwae": "MIWAE, M = 8", "ciwae": "CIWAE(0.5)", "iwae": "IWAE"}
    for method, title in titles.items():
        for estimator, line in LINES.items():
            ratios = ratios_by_count(archive, PLACE, estimator, method)
            label = title if estimator == USUAL else None
            ax.plot([*ratios], [*ratios.values()], label=label, **look(method) | line)
    ax.set(title="In the report's IWAE", ylabel="SNR", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.legend(frameon=False, fontsize=7)
    _set_counts(ax)


def _set_counts(ax) -> None:
    ax.set(xscale="log", xlabel="K")
    ax.set_xticks(COUNTS, COUNTS)
    ax.xaxis.set_minor_locator(NullLocator())


def _draw_ratios(ax, archive: Archive, methods: list[str]) -> None:
    """SNR of phi's gradient. PIWAE's inference network has MIWAE's bound."""
    measured, _ = archive.table("estimators")
    rows = measured[measured["where"] == PLACE]
    layouts = {layout.method: layout for layout in OF_ESTIMATORS}
    layouts["piwae"] = layouts["miwae"]
    for name in LINES:
        of_estimator = rows[rows.estimator == name]
        points = [snr_of(of_estimator, layouts[m], "phi") for m in methods]
        _draw(ax, methods, points, name)
    ax.set(yscale="log", title="SNR of the inference network's gradient", ylabel="SNR")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_metric(ax, runs: EstimatorRuns, methods: list[str], metric: str) -> None:
    for name in LINES:
        _draw(ax, methods, [runs.value(m, name, metric) for m in methods], name)


def _draw(ax, methods: list[str], points: list, estimator: str) -> None:
    """One estimator's points, with bars where the error is known."""
    aside = ASIDE[estimator]
    line = LINES[estimator]
    for place, (method, point) in enumerate(zip(methods, points, strict=True)):
        if point is not NOT_RUN:
            ax.errorbar(place + aside, point.value, point.se, capsize=2, **look(method) | line)
