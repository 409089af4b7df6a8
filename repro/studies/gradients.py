"""Signal-to-noise ratios (SNR) of gradients, from the measured rows of ``signal.row``.

A place is a model in which gradients were measured; its name is the argument ``where``. ``net`` is
``theta`` or ``phi``.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise, product

import numpy as np
import pandas as pd

from repro.records import Archive, Record
from repro.records.estimates import ErrorOf, Estimate, number
from repro.studies import designs, style
from repro.studies.captions import BOUND_TITLES, METHOD_TITLES, NETWORK_TITLES, label, made_by
from repro.studies.designs import OFFSETS, SWEPT, Layout, offset_title
from repro.studies.frames import AnyArchive, Rows, framed, from_to
from repro.words.experiments import ESTIMATORS

ALL_COUNTS = tuple(layout.K for layout in SWEPT)


def places(archive: Archive) -> list[tuple[str, pd.DataFrame]]:
    """The places, models in which gradients were measured, with the rows of each."""
    return [*archive.table("gradients")[0].groupby("where", sort=False)]


def select(rows: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Select from the ``rows`` of one place those of a layout: a method with its M and K."""
    method, M, K = layout
    return rows[(rows.method == method) & (rows.M == M) & (rows.K == K)]


def ratio(rows: pd.DataFrame, layout: Layout, net: str) -> float:
    """The SNR of the gradient of ``net``: root of mean squared signal over mean squared noise.

    It is 0 if the former is negative.
    """
    mine = select(rows, layout)
    signal, noise = mine[f"{net}_signal"].mean(), mine[f"{net}_noise"].mean()
    return float(np.sqrt(np.maximum(signal, 0) / noise))


def exponent(rows: pd.DataFrame, net: str, counts: Sequence[int]) -> float:
    """d log SNR / d log K of IWAE's gradient of ``net``, from first to last K of ``counts``."""
    first = ratio(rows, Layout("iwae", 1, counts[0]), net)
    last = ratio(rows, Layout("iwae", 1, counts[-1]), net)
    return float(np.log(last / first) / np.log(counts[-1] / counts[0]))


def effective_samples(rows: pd.DataFrame, layout: Layout = designs.AT_T[0]) -> float:
    """The mean effective sample size of a layout's weights; by default of IWAE's 64."""
    return select(rows, layout).ess.mean()


def with_jackknife(
    rows: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], digits: int = 3
) -> Estimate:
    """A statistic of rows and its jackknife error, leaving out one draw (problem or batch)."""
    without_one = [statistic(rows[rows.draw != d]) for d in rows.draw.unique()]
    dof = len(without_one) - 1
    se = float(np.sqrt(dof * np.var(without_one)))
    return Estimate(statistic(rows), se, dof, error_of=ErrorOf.DRAWS, digits=digits)


def snr_of(rows: pd.DataFrame, layout: Layout, net: str) -> Estimate:
    """The SNR of the gradient of ``net`` in a layout, ``ratio``, with its jackknife error."""
    return with_jackknife(select(rows, layout), partial(ratio, layout=layout, net=net))


def exponent_of(rows: pd.DataFrame, net: str, counts: Sequence[int]) -> Estimate:
    """The exponent d log SNR / d log K, ``exponent``, with its jackknife error."""
    return with_jackknife(rows, partial(exponent, net=net, counts=counts))


def snr_ratios(archive: AnyArchive = None) -> pd.DataFrame:
    """The SNR of the five methods' gradients at T = 64, its parts, and the ESS of the weights.

    >>> rows = snr_ratios().loc["linear Gaussian, near the optimum; ESS 29.6 ± 0.7"]
    >>> print(rows.loc["inference, SNR", "IWAE(64)"])
    0.017 ± 0.002
    """
    archive = Archive.of(archive)
    rows: Rows = defaultdict(dict)
    for place, mine in places(archive):
        where = f"{place}; ESS {with_jackknife(mine, effective_samples, digits=1)}"
        for (net, network), layout in product(NETWORK_TITLES.items(), designs.AT_T):
            title = METHOD_TITLES[layout.method]
            rows[where, f"{network}, SNR"][title] = snr_of(mine, layout, net)
            for part in ("signal", "noise"):
                squared = f"{net}_{part}"
                of_iwae, size = (
                    select(mine, of)[squared].mean() ** 0.5 for of in (designs.AT_T[0], layout)
                )
                rows[where, f"{network}, {part}"][title] = f"× {number(size / of_iwae)}"
    return _framed(rows, archive, "Signal and noise in multiples of IWAE's. ")


def snr_exponents(archive: AnyArchive = None) -> pd.DataFrame:
    """d log SNR / d log K of IWAE's gradients between one K and the next, beside the theory's.

    >>> print(snr_exponents().loc[("linear Gaussian, near the optimum", "inference"), "theory"])
    −0.5
    """
    archive = Archive.of(archive)
    rows: Rows = {}
    for where, mine in places(archive):
        for net, network in NETWORK_TITLES.items():
            row: dict[str, object] = {}
            for counts in pairwise(designs.COUNTS):
                row[f"K {counts[0]} to {counts[1]}"] = exponent_of(mine, net, counts)
            rows[where, network] = row | {"theory": Estimate(designs.THEORY[net], digits=1)}
    return _framed(rows, archive)


def _framed(rows: Rows, archive: Archive, about: str = "") -> pd.DataFrame:
    p = archive.table("gradients")[1]
    draws = f"{p['problems']} problems, or {p['batches']} batches of {p['batch_size']}"
    caption = (
        f"{about}± standard error, by jackknife over {draws} training images. β = {p['beta']:g}. "
        f"{made_by(p)}."
    )
    return framed(rows, ["where", "network"], caption)


def snr_estimators(archive: AnyArchive = None) -> pd.DataFrame:
    """The SNR of both gradients of each bound at T = 64, phi's under each estimator.

    >>> print(snr_estimators().loc[("MNIST, untrained", "IWAE(64)"), "inference, drep"])
    1.35 ± 0.01
    """
    archive = Archive.of(archive)
    p = archive.table("estimators")[1]
    rows: Rows = {}
    for place in designs.NETWORKS_OF_ESTIMATORS:
        of_place = at_t(archive, place)
        by_estimator = {name: of_place[of_place.estimator == name] for name in ESTIMATORS}
        for layout in designs.OF_ESTIMATORS:
            rows[place, BOUND_TITLES[layout.method]] = _ratios_by_estimator(by_estimator, layout)
    caption = (
        f"± standard error, by jackknife over {p['batches']} batches of {p['batch_size']} "
        f"training images, {p['replicates']} estimates each. β = {p['beta']:g}. "
        f"{_made_with_rws(archive, 'estimators')}"
    )
    return framed(rows, ["where", "bound"], caption)


NONE = "none"  # of the VAE's bound under ``rws``


def _ratios_by_estimator(by_estimator: dict[str, pd.DataFrame], layout: Layout) -> dict:
    """Cells of a row: the SNR of theta's gradient, and of phi's under each estimator."""
    cells = {"generative": snr_of(by_estimator["rep"], layout, "theta").shown_with(2)}
    for name, rows in by_estimator.items():
        found = NONE if select(rows, layout).empty else snr_of(rows, layout, "phi").shown_with(2)
        cells[f"inference, {name}"] = found
    return cells


def snr_by_count(archive: AnyArchive = None) -> pd.DataFrame:
    """The SNR of phi's gradient of IWAE for each K from 4 on, under three estimators.

    With one sample ``rws`` is zero. CIWAE's gradient under it is IWAE's times 1 - beta.
    """
    archive = Archive.of(archive)
    rows: Rows = defaultdict(dict)
    places = [*map(offset_title, designs.LOOSER_OFFSETS), *designs.NETWORKS_OF_ESTIMATORS]
    for place, estimator in product(places, designs.OF_MOST[1]):
        mine = swept(archive, place, estimator)
        for layout in designs.FROM_FOUR:
            found = snr_of(mine, layout, "phi").shown_with(2)
            rows[place, estimator][f"K = {layout.K}"] = found
    p = archive.table("wake")[1]
    caption = (
        f"± standard error, by jackknife over {p['problems']} problems, or {p['batches']} batches "
        f"of {p['batch_size']} training images. {_made_with_rws(archive, 'samples')} "
        f"K = 512: {made_by(archive.table('most')[1])}."
    )
    return framed(rows, ["where", "estimator"], caption)


def _made_with_rws(archive: Archive, table: str) -> str:
    """Where a table was measured, and where ``rws`` beside it was."""
    first, of_rws = (made_by(archive.table(name)[1]) for name in (table, "wake"))
    return f"{first}; rws: {of_rws}."


def _measured(archive: Archive, *tables: str) -> pd.DataFrame:
    """The rows of several tables."""
    return pd.concat([archive.table(name)[0] for name in tables], ignore_index=True)


def swept(archive: Archive, where: str, estimator: str, method: str = "iwae") -> pd.DataFrame:
    """The rows of a method's gradients in the model ``where`` for every K, under ``estimator``.

    MIWAE has eight groups of K samples. The signal of ``rep`` is taken from ``drep``, whose
    expectation is the same and whose noise is far smaller.
    """
    rows = _measured(archive, *(("samples", "wake", "most") if method == "iwae" else ("looser",)))
    here = (rows["where"] == where) & (rows.method == method)
    rows = rows[here].set_index(["draw", "K"])
    mine = rows[rows.estimator == estimator].copy()
    if estimator == "rep":
        mine["phi_signal"] = rows[rows.estimator == "drep"].phi_signal
    return mine.reset_index()


def ratios_by_count(
    archive: Archive, where: str, estimator: str, method: str = "iwae"
) -> pd.Series:
    """The SNR of phi's gradient in the network ``where`` by K; MIWAE has eight groups of K."""
    rows = swept(archive, where, estimator, method)
    M = int(rows.M.iloc[0])
    counts = [K for K in designs.COUNTS if K in set(rows.K)]
    return pd.Series({K: ratio(rows, Layout(method, M, K), "phi") for K in counts})


def at_t(archive: Archive, where: str) -> pd.DataFrame:
    """The rows of all bounds' gradients at T = 64 samples, under all estimators, in ``where``."""
    rows = _measured(archive, "estimators", "wake")
    return rows[rows["where"] == where]


def snr_at_t(rows: pd.DataFrame, bound: str) -> float:
    """The SNR of phi's gradient in ``rows``, of ``at_t``, for a bound such as "iwae drep"."""
    method, estimator = bound.split()
    (layout,) = (layout for layout in designs.OF_ESTIMATORS if layout.method == method)
    return ratio(rows[rows.estimator == estimator], layout, "phi")


def snr_in_network(archive: Archive, where: str, bound: str) -> float:
    """The SNR of phi's gradient in the network ``where`` for a bound such as "iwae drep".

    It has T = 64 samples; "iwae drep 256" has K = 256, and then MIWAE has eight groups of K.
    """
    method, estimator, *count = bound.split()
    if not count:
        return snr_at_t(at_t(archive, where), bound)
    return ratios_by_count(archive, where, estimator, method)[int(count[0])]


def times_clearer(archive: Archive, a: str, b: str, where: str = "") -> str:
    """The range, over networks, of the SNR of phi's gradient under ``a`` over that under ``b``.

    Each is named as in ``snr_in_network``; ``where`` is one of the networks, if not all are meant.

    >>> times_clearer(Archive(), "miwae rep", "iwae rep")
    '3.10 to 3.57'
    """
    found = []
    for network in [where] if where else designs.NETWORKS_OF_ESTIMATORS:
        first, second = (snr_in_network(archive, network, bound) for bound in (a, b))
        found.append(first / second)
    return from_to(found)


def rate(archive: Archive, net: str, estimator: str, offset: float) -> Estimate:
    """d log SNR / d log K of IWAE at the last two K, in the linear Gaussian model at ``offset``."""
    rows = swept(archive, offset_title(offset), estimator)
    return exponent_of(rows, net, designs.COUNTS[-2:]).shown_with(2)


def ess_of_most(archive: Archive, offset: float) -> Estimate:
    """The effective sample size of 256 weights in the linear Gaussian model at ``offset``."""
    rows = swept(archive, offset_title(offset), "rep")
    return with_jackknife(rows, partial(effective_samples, layout=SWEPT[-1]), digits=1)


@style.styled()
def signal_to_noise(archive: AnyArchive = None):
    """The SNR of both networks' gradients: IWAE as K grows, and five methods at T = 64.

    In every place where it was measured. Filled: the generative network's; open: the inference
    network's. Dotted: the theory's slopes. Bars: jackknife standard errors.
    """
    measured = places(Archive.of(archive))
    size = (8, 0.8 + 2 * len(measured))
    figure, axes = style.subplots(len(measured), 2, size, sharey="row", sharex="col")
    for (sweep, methods), (where, rows) in zip(axes, measured, strict=True):
        style.lines(_ratios(rows, designs.AT_T), "name", "SNR", methods, linestyle="none")
        of_iwae = _ratios(rows, designs.IWAE_SWEPT)
        style.lines(of_iwae, "K", "SNR", sweep, OF_PHI)
        for net, first in of_iwae[of_iwae.K == 1].set_index("net").SNR.items():
            theory = [first.value * K ** designs.THEORY[net] for K in designs.COUNTS]
            sweep.plot(designs.COUNTS, theory, ":", color=style.GREY, linewidth=1)
        sweep.set(title=where, ylabel="signal-to-noise ratio")
        style.plain_ticks(sweep, 1, 3)
    style.counts_below(sweep, designs.COUNTS)
    sweep.set(xlabel="K of IWAE, M = 1")
    methods.set(xlabel="method, T = 64")
    named = {
        "gradient of the generative network": style.look("iwae"),
        "gradient of the inference network": style.look("iwae") | OF_PHI,
    }
    style.legend_above(figure, named)
    return figure


OF_PHI = style.OPEN | {"linestyle": "--"}


def _ratios(rows: pd.DataFrame, layouts: Sequence[Layout]) -> pd.DataFrame:
    """The SNR of both gradients in each layout, as a tidy frame."""
    found = []
    for net, layout in product(NETWORK_TITLES, layouts):
        of_layout = {"method": layout.method, "name": layout.method.upper(), "K": layout.K}
        of_layout |= {"net": net, "open": net == "phi", "SNR": snr_of(rows, layout, net)}
        found.append(of_layout)
    return pd.DataFrame(found)


PLACE = "MNIST, the report's IWAE"  # the network whose gradients are shown beside training
LINES = {"rep": {}, "drep": style.OPEN}
GENERATIVE = {"color": "#0072B2", "marker": "o"}
INFERENCE = {"color": "#D55E00", "marker": "s"}
RATES = {  # (network, estimator) -> title and look
    ("theta", "rep"): ("generative", GENERATIVE),
    ("phi", "rep"): ("inference, rep", INFERENCE),
    ("phi", "drep"): ("inference, drep", INFERENCE | style.OPEN),
}


@style.styled()
def samples_and_clarity(archive: AnyArchive = None):
    """The change of gradients with K: IWAE's rates against the ESS, and phi's SNR in networks.

    In the networks, filled: the usual estimator; open: the doubly reparameterised one.
    """
    archive = Archive.of(archive)
    figure, ((rates, networks, bounds),) = style.subplots(1, 3, (8, 3.4))
    _draw_rates(rates, archive)
    _draw_iwae_in_networks(networks, archive)
    _draw_bounds_in_a_network(bounds, archive)
    for ax in (networks, bounds):
        style.counts_below(ax, designs.COUNTS)
    style.legend_above(figure, {name: look | {"color": "0.3"} for name, look in RATES.values()})
    return figure


@style.styled()
def snr_in_training(archive: AnyArchive = None):
    """The SNR of both gradients along our trainings, where it was measured: a line for each.

    They are those of the training's own bound, in its networks as they are then.
    """
    runs = [r for r in Archive.of(archive).records("short") if r.gradients is not None]
    if not runs:
        return style.nothing()
    found = pd.DataFrame([row for record in runs for row in _ratios_along(record)])
    looks = style.each_in_its("gradient", dict(RATES.values()))
    grid = style.faceted(found, (8, 5.6), "epoch", "SNR", looks, col="training", col_wrap=3)
    grid.set(ylim=(0, None), xticks=sorted(set(found.epoch)))
    grid.set_axis_labels("epoch", "SNR")
    grid.set_titles("{col_name}", size=8)
    style.legend_above(grid.figure, dict(RATES.values()))
    return style.with_conditions(grid.figure, runs, "bars: jackknife over batches of images")


def _ratios_along(record: Record) -> list[dict]:
    """The SNR of each gradient in ``RATES`` at each epoch where a training's was measured."""
    e = record.experiment
    layout = Layout(e.method, e.M, e.K)
    found = []
    for (where, estimator), rows in record.gradients.groupby(["where", "estimator"]):
        training = f"{label(e)}, seed {e.seed}"
        of_training = {"training": training, "epoch": int(where.removeprefix("epoch "))}
        for (net, name), (title, _) in RATES.items():
            if name == estimator:
                of_rows = {"gradient": title, "open": name == "drep"}
                found.append(of_training | of_rows | {"SNR": snr_of(rows, layout, net)})
    return found


def _draw_rates(ax, archive: Archive) -> None:
    """Exponents of the linear Gaussian model at all offsets, against the effective sample size."""
    import seaborn as sns

    offsets = dict(zip(OFFSETS, sns.color_palette("flare", len(OFFSETS)), strict=True))
    looks = style.each_in_its("gradient", dict(RATES.values()))
    looks |= {"hue": "offset", "palette": offsets}
    thin = {"linewidth": 0.7, "err_kws": {"elinewidth": 0.7, "capsize": 0}}
    for offset in OFFSETS:
        found = []
        for (net, estimator), (title, _) in RATES.items():
            rows = swept(archive, offset_title(offset), estimator)
            for pair in zip(ALL_COUNTS[:-2], ALL_COUNTS[2:], strict=True):  # K four times as large
                ess = effective_samples(rows, Layout("iwae", 1, pair[1]))
                rate = {"ess": ess, "rate": exponent_of(rows, net, pair)}
                rate |= {"offset": offset, "gradient": title, "open": estimator == "drep"}
                found.append(rate)
        style.lines(pd.DataFrame(found), "ess", "rate", ax, **looks, **thin)
    for slope in designs.THEORY.values():
        ax.axhline(slope, color=style.GREY, linestyle=":", linewidth=1)
    ax.set(xscale="log", xlabel="effective sample size", ylabel="d log SNR / d log K")
    ax.set_title("Linear Gaussian model")
    named = {f"{offset:g}": {"color": colour} for offset, colour in offsets.items()}
    ax.legend(handles=style.entries(named), title="offset", ncols=3, fontsize=6, loc="upper left")
    ax.set_ylim(top=0.85)
    ax.xaxis.set_major_formatter("{x:g}")


def _draw_iwae_in_networks(ax, archive: Archive) -> None:
    """The SNR of IWAE's gradient of phi in each network, as a multiple of that with one sample."""
    networks = designs.NETWORKS_OF_ESTIMATORS
    found = _ratios_in(archive, networks, ["iwae"])
    found["times"] = found.SNR / found.groupby(["where", "open"]).SNR.transform("first")
    looks = dict.fromkeys(networks, style.look("iwae"))
    style.lines(found, "K", "times", ax, **style.each_in_its("where", looks))
    ax.set(title="IWAE in five networks", ylabel="SNR over that at K = 1", ylim=(0, None))


ESTIMATORS_DRAWN = {  # of IWAE's gradient of phi -> look
    "rep": INFERENCE,
    "drep": {"color": "#009E73", "marker": "^"},
    "rws": {"color": "#CC79A7", "marker": "D"},
}


@style.styled()
def wake_sleep_and_clarity(archive: AnyArchive = None):
    """The SNR of IWAE's gradient of phi for each K from 4 on, under three estimators.

    In the linear Gaussian model, near the optimum and at ten times the distance, and in a network.
    Bars: jackknife standard errors.
    """
    archive = Archive.of(archive)
    titles = {
        offset_title(designs.LOOSER_OFFSETS[0]): "linear Gaussian, near the optimum",
        offset_title(designs.LOOSER_OFFSETS[1]): "linear Gaussian, further away",
        PLACE: PLACE,
    }
    found = []
    for (where, title), estimator in product(titles.items(), ESTIMATORS_DRAWN):
        rows = swept(archive, where, estimator)
        for layout in designs.FROM_FOUR:
            snr = snr_of(rows, layout, "phi")
            found.append({"where": title, "estimator": estimator, "K": layout.K, "SNR": snr})
    looks = style.each_in_its("estimator", ESTIMATORS_DRAWN)
    data = pd.DataFrame(found)
    grid = style.faceted(data, (8, 3), "K", "SNR", looks, col="where", sharey=False)
    for ax in grid.axes.flat:
        style.counts_below(ax, [layout.K for layout in designs.FROM_FOUR])
        style.plain_ticks(ax, 1, 2, 5)
    grid.set_axis_labels("K of IWAE", "signal-to-noise ratio")
    style.legend_above(grid.figure, ESTIMATORS_DRAWN)
    return grid.figure


def _draw_bounds_in_a_network(ax, archive: Archive) -> None:
    """The SNR of phi's gradient under three bounds in one network."""
    titles = {"miwae": "MIWAE, M = 8", "ciwae": "CIWAE(0.5)", "iwae": "IWAE"}
    style.lines(_ratios_in(archive, [PLACE], titles), "K", "SNR", ax)
    ax.set(title="In the report's IWAE")
    style.plain_ticks(ax, 1, 2, 5)
    ax.legend(handles=style.entries(style.titled(titles)), fontsize=7)


def _ratios_in(archive: Archive, networks: Iterable[str], methods: Iterable[str]) -> pd.DataFrame:
    """The SNR of phi's gradient for every K under both estimators, as a tidy frame."""
    found = []
    for place, method, estimator in product(networks, methods, LINES):
        ratios = ratios_by_count(archive, place, estimator, method)
        words = {"where": place, "method": method, "open": estimator == "drep"}
        found.append(pd.DataFrame({"K": ratios.index, "SNR": ratios}).assign(**words))
    return pd.concat(found, ignore_index=True)


PAGE_OF_SLIDERS = """```{{raw}} html
<div class="explorer" id="explorer">
<script type="application/json">{data}</script>
<noscript>The sliders need JavaScript.
<a href="bound_or_estimator.html">A figure</a> shows the same measurements.</noscript>
</div>
```"""


def sliders(archive: Archive) -> str:
    """The part of a page's HTML that holds the numbers for the sliders of ``explorer.js``."""
    return PAGE_OF_SLIDERS.format(data=json.dumps(for_sliders(archive), separators=(",", ":")))


def for_sliders(archive: Archive) -> dict:
    """The sliders' numbers: SNR of theta and phi, the bound's bias in nats, and ESS, each by K.

    Under ``errors`` stand the jackknife standard errors of the ratios.
    """

    def error(rows: pd.DataFrame, layout: Layout, net: str) -> float:
        return snr_of(rows, layout, net).se

    of_phi = {name: _by_count(archive, name, partial(error, net="phi")) for name in ESTIMATORS}
    of_theta = _by_count(archive, "rep", partial(error, net="theta"))
    return {
        "errors": {"theta": of_theta, "phi": of_phi},
        "counts": ALL_COUNTS,
        "offsets": OFFSETS,
        "theta": _by_count(archive, "rep", partial(ratio, net="theta")),
        "phi": {name: _by_count(archive, name, partial(ratio, net="phi")) for name in ESTIMATORS},
        "bias": _by_count(archive, "rep", lambda rows, layout: select(rows, layout).bias.mean()),
        "ess": _by_count(archive, "rep", effective_samples),
    }


def _by_count(
    archive: Archive, estimator: str, statistic: Callable[[pd.DataFrame, Layout], float]
) -> list[list[float | None]]:
    """A statistic at every offset for every K, to four significant digits: [offset][K].

    It is None where nothing was measured: ``rws`` has no gradient with one sample.
    """
    found = []
    for offset in OFFSETS:
        rows = swept(archive, offset_title(offset), estimator)
        there = set(rows.K)
        values = [statistic(rows, layout) if layout.K in there else None for layout in SWEPT]
        found.append([v if v is None else float(f"{v:.4g}") for v in values])
    return found
