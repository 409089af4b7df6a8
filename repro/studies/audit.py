"""The report's printed numbers beside its own logs and its released weights.

The released evaluation computes 5,000 log-weights for every test image, in shuffled batches of 20,
and slices the list of batches where the list of samples was meant. So its "IWAE-64" is log p-hat on
64 random batches, 1,280 images, and its "-KL" the difference between that subset and the whole set.
A table's cell is the mean of the last 20 epochs.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from itertools import chain, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro.records import Archive, Record, records_of_any_seed
from repro.records.estimates import CLEAR, NOT_RUN, ErrorOf, Estimate, estimate_of, over_seeds
from repro.studies import evidence, similarity, style
from repro.studies.captions import (
    COUNTING_TRAINING,
    METHOD_TITLES,
    METRIC_TITLES,
    OVER_IMAGES,
    about_released,
    conditions,
    made_by,
)
from repro.studies.curves import blocks_of_logs, last_block
from repro.studies.estimator_runs import log_px_of_one_decoder
from repro.studies.frames import (
    THE_REPORTS,
    AnyArchive,
    Rows,
    by_method,
    for_methods,
    framed,
    from_to,
    show_origins,
)
from repro.studies.reported import TABLE1
from repro.studies.tables import paired_differences
from repro.words.exhibits import LOG_BLOCK, SETTINGS
from repro.words.experiments import TABLE_METHODS, Experiment, commands, plan

SUBSET = 64 * 20  # images in 64 batches


# Table 1 cell by cell


class CellVerdict(StrEnum):
    """The possible verdicts on a printed cell of Table 1."""

    CONFIRMED = "confirmed"
    DIFFERS = "differs"
    NOT_SHOWN_WRONG = "not shown to be wrong"
    NOT_IWAE_64 = "not IWAE-64"
    NOISE = "noise about 0"
    NOT_THE_GAP = "not the gap"


class Cell(NamedTuple):
    """A cell of the report's Table 1, and the weights behind it if they are measured."""

    model: str
    metric: str
    method: str
    record: Record | None
    block: pd.Series  # the last 20 epochs of the run's log

    @property
    def printed(self) -> float:
        """The value that the report prints."""
        return TABLE1["report"][self.model][self.metric][self.method].value

    @property
    def paper(self) -> Estimate | None:
        """The value that the paper prints, if it does."""
        return TABLE1["paper"].get(self.model, {}).get(self.metric, {}).get(self.method)

    @property
    def logged(self) -> float:
        """The value in the report's log, the mean of the last 20 epochs as the report takes it."""
        name = {"minus_kl": "gap"}.get(self.metric, self.metric)
        return self.block[f"{name}_mean"]

    @property
    def error(self) -> float:
        """The standard error of (printed - corrected), if the cell measured what its row says.

        log p-hat: the log's spread from epoch to epoch, for one evaluation and for the mean of 20.
        IWAE-64: that and the noise of the subset. -KL: the noise of the subset alone.
        """
        whole = self.block.log_px_sd * np.sqrt(1 + 1 / LOG_BLOCK)
        subset = subset_error(self.record)
        errors = {"log_px": whole, "iwae_64": np.hypot(whole, subset), "minus_kl": subset}
        return float(errors[self.metric])

    @property
    def z(self) -> float:
        """The z-score: (printed - corrected) / ``error``."""
        return (self.printed - self.record.metrics[self.metric]["value"]) / self.error

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of 95 % of the values that the released evaluation prints of these weights.

        Both of its estimates are of log p-hat, one on a random subset of the images; its "-KL" is
        about 0.
        """
        centre = 0.0 if self.metric == "minus_kl" else self.record.metrics["log_px"]["value"]
        return centre - 1.96 * self.error, centre + 1.96 * self.error

    @property
    def inside(self) -> bool:
        """True if the printed cell lies in ``interval``."""
        low, high = self.interval
        return low <= self.printed <= high

    @property
    def verdict(self) -> CellVerdict:
        """The verdict on the printed cell."""
        agrees = abs(self.z) < CLEAR
        if self.metric == "log_px":
            return CellVerdict.CONFIRMED if agrees else CellVerdict.DIFFERS
        if agrees:
            return CellVerdict.NOT_SHOWN_WRONG
        if self.metric == "iwae_64":
            return CellVerdict.NOT_IWAE_64
        return CellVerdict.NOISE if self.inside else CellVerdict.NOT_THE_GAP


def cells_of_table1(archive: Archive) -> list[Cell]:
    """All thirty cells of the report's Table 1, in the order of the table."""
    blocks = blocks_of_logs(archive)
    cells = []
    for model, metric, method in product(TABLE1["report"], METRIC_TITLES, TABLE_METHODS):
        record = archive.released.get(("mnist", model, method))
        block = last_block(blocks, f"mnist-{model}", method)
        cells.append(Cell(model, metric, method, record, block))
    return cells


def subset_error(record: Record) -> float:
    """Standard deviation of log p-hat's mean over 1,280 random images about that over all.

    As many such means as a block has epochs, each of another subset, are averaged.
    """
    values = record.images["log_px"]
    return float(values.std(ddof=1) * np.sqrt((1 / SUBSET - 1 / len(values)) / LOG_BLOCK))


def table(archive: AnyArchive = None) -> pd.DataFrame:
    """Table 1 cell by cell: as printed, as logged, as the released weights measure, the paper's.

    95 %: the interval that the released evaluation gives on these weights, in 95 % of cases.
    z: (printed - corrected) / its standard error, were the printed number what its row says.
    Rows: model, metric, source.

    >>> print(table().loc[("reference", "IWAE-64", "verdict"), "IWAE(64)"])
    not IWAE-64
    """
    archive = Archive.of(archive)
    rows: Rows = defaultdict(dict)
    for cell in cells_of_table1(archive):
        for source, shown in _shown(cell).items():
            row = rows[cell.model, METRIC_TITLES[cell.metric], source]
            row[METHOD_TITLES[cell.method]] = shown
    for index, row in [*rows.items()]:
        if set(row.values()) == {""}:
            del rows[index]
    used = [r for r in archive.released.values() if r.experiment.dataset == "mnist"]
    return framed(rows, ["model", "metric", "source"], **about_released(used, expected=10))


def _shown(cell: Cell) -> dict[str, object]:
    """The values of a cell that the table shows, by source."""
    shown = {"printed": Estimate(cell.printed), "logs": Estimate(cell.logged)}
    if cell.record is None:
        shown |= {"95 % from": "", "95 % to": "", "corrected": NOT_RUN, "z": "", "verdict": ""}
    else:
        low, high = cell.interval
        shown |= {
            "95 % from": Estimate(low),
            "95 % to": Estimate(high),
            "corrected": estimate_of(cell.record.metrics[cell.metric]),
            "z": Estimate(cell.z, digits=1),
            "verdict": cell.verdict,
        }
    return shown | {"paper": cell.paper or ""}


# The released models beside one another


def paired(archive: AnyArchive = None) -> pd.DataFrame:
    """Differences between the released runs, of which each method has one.

    >>> print(paired().loc[("mnist, reference", "IWAE-64"), "PIWAE − IWAE"])
    0.22 ± 0.11
    """
    archive = Archive.of(archive)
    found = [*archive.released.values()]
    shown = paired_differences(archive, found, [*SETTINGS.values()])
    shown.attrs = about_released(found, 15, f"± standard error {COUNTING_TRAINING}")
    return shown


def closeness(archive: AnyArchive = None) -> pd.DataFrame:
    """The distance of q from the posterior: ELBO - log p-hat = -KL(q || p(z|x)), by image.

    >>> print(closeness().loc[("mnist, reference", "ELBO − log p̂(x)"), "VAE"])
    −4.05 ± 0.03
    """
    released = Archive.of(archive).released
    titles = ("ELBO", "ELBO − log p̂(x)", "effective sample size of 64", "active units")
    rows: Rows = defaultdict(dict)
    for (dataset, model), method in product(SETTINGS.values(), TABLE_METHODS):
        cells = [NOT_RUN] * len(titles)
        if record := released.get((dataset, model, method)):
            elbo, ess, units = (
                estimate_of(record.metrics[k]) for k in ("elbo", "ess", "active_units")
            )
            apart = record.images["elbo"] - record.images["log_px"]
            cells = [elbo, Estimate.mean_of(apart, ErrorOf.IMAGES), ess, units.shown_with(0)]
        for title, cell in zip(titles, cells, strict=True):
            rows[f"{dataset}, {model}", title][METHOD_TITLES[method]] = cell
    return framed(rows, ["runs", "metric"], **about_released([*released.values()], expected=15))


# What was trained


def protocols(archive: AnyArchive = None) -> pd.DataFrame:
    """Our own runs with the released code's training beside those with the paper's, in pairs.

    Below, the released CIWAE, a VAE of two samples, beside the VAE of 64. Of the profile with most
    such pairs; of two as good, full.

    >>> [*protocols().columns]
    ['as in the paper', 'as released', 'difference']
    """
    archive = Archive.of(archive)
    choices = [_twins(archive, profile) for profile in ("full", "short")]
    runs, missing = max(choices, key=lambda twins: _completeness(twins[0].values()))
    used = [record for pair in runs.values() for record in chain(*pair)]
    beside = {METHOD_TITLES[m]: pair for m, pair in runs.items()}
    of_vae = f"{METHOD_TITLES['vae']}; {METHOD_TITLES['ciwae']}"
    beside[of_vae] = (runs["vae"][0], runs["ciwae"][1])
    rows: Rows = {}
    for name, (paper, released) in beside.items():
        for metric, title in METRIC_TITLES.items():
            rows[name, title] = {
                "as in the paper": over_seeds(paper, metric),
                "as released": over_seeds(released, metric),
                "difference": evidence.difference(archive, released, paper, metric),
            }
    said = conditions(used, f"{OVER_IMAGES}, and for differences {COUNTING_TRAINING}")
    return framed(rows, ["method", "metric"], f"Ours: {said}", commands(missing))


def _twins(archive: Archive, profile: str) -> tuple[dict[str, tuple], list[Experiment]]:
    """Runs of every seed, as in the paper and as released, by method; and what is missing."""
    found = archive.records(profile)
    runs = {}
    missing: list[Experiment] = []
    for released in plan("all", profile=profile, protocol="released"):
        pair = (*plan(released.method, profile=profile), released)
        runs[released.method] = tuple(records_of_any_seed(e, found) for e in pair)
        missing += [e for e in pair if not archive.holds(e)]
    return runs, missing


def origins(results: AnyArchive = None) -> None:
    """Display in a notebook the records that the audit shows."""
    archive = Archive.of(results)
    show_origins("audit", {THE_REPORTS: [*archive.released.values()]})


def _completeness(pairs: Collection[tuple]) -> tuple[int, int]:
    """The numbers of pairs that are whole, and that have at least one side."""
    return sum(map(all, pairs)), sum(map(any, pairs))


# The logs, and the drawings


def gaps(archive: AnyArchive = None) -> pd.DataFrame:
    """The logged "-KL" over each whole run: its mean, its spread, how often it is above 0.

    >>> print(gaps().loc[("mnist-reference", "IWAE"), "mean"])
    −0.001 ± 0.011
    """
    rows: Rows = {}
    blocks = blocks_of_logs(Archive.of(archive))
    for (setting, method), mine in blocks.groupby(["setting", "method"], sort=False):
        mean = mine.gap_mean
        spread = float(np.sqrt((mine.gap_sd**2).mean() + mean.var()))  # of single epochs
        se = spread / (LOG_BLOCK * len(mine)) ** 0.5
        rows[setting, method.upper()] = {
            "mean": Estimate(mean.mean(), se, digits=3),
            "one epoch's standard deviation": Estimate(spread),
            "of 20 epochs' mean": Estimate(mean.std(ddof=1)),
            "the last 20 epochs": Estimate(mean.iloc[-1]),
            "blocks above 0": f"{(mean > 0).mean():.0%}",
        }
    caption = "From the released logs, in blocks of 20 epochs (results/published/logs.csv)."
    return framed(rows, ["released logs", "method"], caption)


def drawers(archive: AnyArchive = None) -> pd.DataFrame:
    """IWAE-64 of the released Omniglot models on the drawings of drawers 1 to 15 and 16 to 20.

    The latter are this project's test set. Below, each method's minus IWAE's. ± standard error
    between drawers.

    >>> print(drawers().loc[("IWAE-64", "difference"), "IWAE(64)"])
    −2.16 ± 1.32
    """
    found, about = Archive.of(archive).table("drawers")
    rows: Rows = {}
    of_split = by_drawer(found)
    minus = {split: values.sub(values.iwae, axis=0) for split, values in of_split.items()}
    for what, shown in (("IWAE-64", of_split), ("minus IWAE's", minus)):
        means = {}
        for split, v in shown.items():
            means[split] = {m: Estimate.mean_of(v[m], ErrorOf.DRAWS) for m in v}
            rows[what, f"drawers {v.index[0]} to {v.index[-1]}"] = for_methods(means[split])
        apart = {m: means["test"][m] - means["train"][m] for m in TABLE_METHODS}
        rows[what, "difference"] = for_methods(apart)
    caption = (
        f"{about['data']['variant']}; {found.images.iloc[0]} characters, each third; "
        f"± standard error between drawers; {made_by(about)}."
    )
    return framed(rows, ["what", "drawings"], caption)


PROPOSALS = {  # what the table of proposals shows: title -> its value and its error, and digits
    "k̂ above 0.7, share of images": ("khat_above", None, 2),
    "k̂, median": ("khat_median", None, 2),
    "log p̂ rises with ten times the samples": ("rise", "rise_se", 3),
    "as predicted": ("predicted", None, 3),
}


def proposals(archive: AnyArchive = None) -> pd.DataFrame:
    """The trust that log p-hat of the released models deserves, by their importance weights.

    Pareto's k-hat of 5,000 weights, and by how much log p-hat rises with 50,000: measured, and as
    half the relative variance of the mean weight predicts.

    >>> print(proposals().loc[("mnist reference", "k̂, median"), "VAE"])
    0.91
    """
    found, about = Archive.of(archive).table("proposals")
    rows: Rows = defaultdict(dict)
    for of_model in found.to_dict("records"):
        for title, (value, error, digits) in PROPOSALS.items():
            cell = Estimate(of_model[value], of_model.get(error), digits=digits)
            setting = of_model["setting"].replace("-", " ")
            rows[setting, title][METHOD_TITLES[of_model["method"]]] = cell
    first = found.iloc[0]
    caption = (
        f"k̂ of 5,000 weights each of {first.images} test images; the rise of {first.deep_images} "
        f"test images, ± standard error between them; {made_by(about)}."
    )
    return framed(rows, ["setting", "what"], caption)


def by_drawer(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """IWAE-64 by drawer (a person who drew) and method, for each split: train and test."""
    values = found.pivot(index="drawer", columns="method", values="iwae_64")[[*TABLE_METHODS]]
    splits = found.groupby("split", sort=False)
    return {split: values.loc[[*rows.drawer.unique()]] for split, rows in splits}


# Facts for the book's pages


def by_binarisation(archive: Archive, setting: str) -> str:
    """The range, over models, of IWAE-64's standard deviation between test binarisations."""
    runs = archive.released_of(*SETTINGS[setting])
    return from_to([r.metrics["iwae_64"]["binarisation_sd"] for r in runs])


# Findings


def findings(archive: AnyArchive = None) -> list[str]:
    """A summary of the tables above, in sentences of Markdown whose numbers are counted here.

    >>> findings()[0][:37]
    '**30 of 30** printed cells of Table 1'
    """
    archive = Archive.of(archive)
    cells = cells_of_table1(archive)
    return [
        *_of_printed_and_logged(cells, blocks_of_logs(archive)),
        *_of_measured([c for c in cells if c.record]),
        *_of_omniglot(archive),
        *_of_ssim(archive),
        *_of_the_papers_claim(archive),
        "log p̂ compares proposals as well as generative networks: with one decoder, that of the "
        "student report's IWAE, and encoders trained alone with different bounds, it is "
        f"**{log_px_of_one_decoder(archive)}**.",
    ]


def _share(tests: Iterable[bool]) -> str:
    """The number of tests that hold, as **3 of 10**."""
    tests = list(map(bool, tests))
    return f"**{sum(tests)} of {len(tests)}**"


def _of_printed_and_logged(cells: Sequence[Cell], blocks: pd.DataFrame) -> list[str]:
    """A sentence on the printed table beside the logs, and on the logged gap."""
    per_log = blocks.groupby(["setting", "method"]).gap_mean.agg(["mean", "sem"])
    return [
        f"{_share(abs(c.printed - c.logged) < 0.0051 for c in cells)} printed cells of Table 1 "
        f"are, to the printed digit, the mean of the last {LOG_BLOCK} epochs of the released logs.",
        f'The logged "−KL" is positive in **{(blocks.gap_mean > 0).mean():.0%}** of all blocks of '
        f"{LOG_BLOCK} epochs; its mean over a whole run is further than {CLEAR:g} standard errors "
        f"from 0 in {_share(per_log['mean'].abs() > CLEAR * per_log['sem'])} runs.",
    ]


def _of_measured(cells: Sequence[Cell]) -> list[str]:
    """A sentence on the printed cells, by the weights behind them."""
    if not cells:
        return []
    log_px = [c for c in cells if c.metric == "log_px"]
    iwae_64 = [c for c in cells if c.metric == "iwae_64"]
    minus_kl = [c for c in cells if c.metric == "minus_kl"]
    gaps_measured = [estimate_of(c.record.metrics["minus_kl"]) for c in minus_kl]
    values = [gap.value for gap in gaps_measured]
    return [
        f"{_share(c.inside for c in cells)} lie in the interval where the released evaluation of "
        "these weights puts 95 % of such cells.",
        f"{_share(abs(c.z) < CLEAR for c in log_px)} printed values of log p̂ agree with the "
        "released weights measured again.",
        f"{_share(c.z > CLEAR for c in iwae_64)} printed values of IWAE-64 are not these weights' "
        "IWAE-64, which is lower.",
        f"{_share(c.z > CLEAR for c in minus_kl)} printed values of −KL are incompatible with the "
        "gap of these weights, which is negative.",
        f"Measured on the same images, −KL is below 0 by more than {CLEAR:g} standard errors in "
        f"{_share(gap.value < -CLEAR * gap.se for gap in gaps_measured)} models, from "
        f"{from_to(values)} nats.",
    ]


def _of_omniglot(archive: Archive) -> list[str]:
    """A sentence on log p-hat of the released Omniglot models beside the released logs."""
    models = {m: archive.released.get(("omniglot", "reference", m)) for m in TABLE_METHODS}
    if not all(models.values()):
        return []
    blocks = blocks_of_logs(archive)
    off = []
    for method, record in models.items():
        block = last_block(blocks, "omniglot-reference", method)
        off.append(abs(record.metrics["log_px"]["value"] - block.log_px_mean))
    version = models["iwae"].provenance.data["variant"]
    return [
        f"On Omniglot these weights, measured on {version}, have log p̂ within **{max(off):.2f} "
        "nats** of the released logs, all five; how its drawings are resized was chosen with a "
        "view to that."
    ]


def _of_ssim(archive: Archive) -> list[str]:
    """A sentence on the printed SSIM values that are the released weights', or a checkpoint's."""
    verdicts = similarity.verdicts(archive, "Figure")
    if not verdicts:
        return []
    confirmed = verdicts.count(similarity.SsimVerdict.CONFIRMED)
    fit = verdicts.count(similarity.SsimVerdict.CHECKPOINT)
    return [
        f"Of {len(verdicts)} printed SSIM values of Figures 5 and 6 **{confirmed}** are the "
        f"released weights', and **{fit}** fit the checkpoint that the released code calls its "
        "best, measured on its weights."
    ]


def _of_the_papers_claim(archive: Archive) -> list[str]:
    """In how many settings MIWAE and PIWAE are ahead of IWAE."""
    said = []
    described = {
        "miwae": "MIWAE, at equal cost,",
        "piwae": "PIWAE, its inference network with 100 samples,",
    }
    for method, what in described.items():
        of_settings = [by_method(archive.released_of(*s)) for s in SETTINGS.values()]
        pairs = [(of[method], of["iwae"]) for of in of_settings if of[method] and of["iwae"]]
        if pairs:
            scores = [evidence.difference(archive, a, b, "iwae_64") for a, b in pairs]
            gaps_apart = [evidence.difference(archive, a, b, "minus_kl") for a, b in pairs]
            said.append(
                "The paper's claim, in these weights, of one training each: "
                f"{what} is clearly ahead of IWAE on IWAE-64 in "
                f"{_share(d.beyond(CLEAR) for d in scores)} settings, and has a clearly smaller "
                f"gap in {_share(d.beyond(CLEAR) for d in gaps_apart)}. The errors count what "
                "another training would change."
            )
    return said


BESIDE = {"report": -0.2, "paper": 0.2}  # a method's place


@style.styled()
def printed_and_corrected(archive: AnyArchive = None):
    """Table 1's printed values, the released weights measured again, and the paper's values."""
    found = []
    for cell in cells_of_table1(Archive.of(archive)):
        shown = {"report": Estimate(cell.printed), "paper": cell.paper}
        if cell.record:
            value = cell.record.metrics[cell.metric]["value"]
            shown[cell.method] = Estimate(value, cell.error)
        for look, nats in shown.items():
            x = TABLE_METHODS.index(cell.method) + BESIDE.get(look, 0.0)
            row = {"model": cell.model, "metric": METRIC_TITLES[cell.metric], "x": x}
            found.append(row | {"look": look, "nats": nats, "open": look == "report"})
    point = {"color": style.GREY, "marker": "o", "linestyle": "none"}
    looks = {"report": point, "paper": point | {"marker": "X"}}
    looks |= {m: style.look(m) for m in TABLE_METHODS}
    points = style.each_in_its("look", looks) | {"linestyle": "none", "markersize": 5}
    facets = {"row": "model", "col": "metric", "sharey": False}
    grid = style.faceted(pd.DataFrame(found).dropna(), (8, 4.6), "x", "nats", points, **facets)
    for (_, metric), ax in grid.axes_dict.items():
        ax.set_xticks(range(len(TABLE_METHODS)), [m.upper() for m in TABLE_METHODS], fontsize=7)
        if metric == METRIC_TITLES["minus_kl"]:
            ax.axhline(0, color=style.GREY, linewidth=0.8, linestyle=":")
    grid.set_axis_labels("", "nats")
    named = {
        "report, as printed": looks["report"] | style.OPEN,
        "the same weights, measured again": point | {"color": style.INK},
        "paper": looks["paper"],
    }
    style.legend_above(grid.figure, named)
    return grid.figure


@style.styled()
def logged_gaps(archive: AnyArchive = None):
    """The report's logged gaps on MNIST, in means of 20 epochs, a panel for each model.

    Grey: two standard deviations of what the choice of 1,280 images adds to them.
    """
    archive = Archive.of(archive)
    blocks = blocks_of_logs(archive)
    dots = {"linestyle": "none", "markersize": 2.5, "alpha": 0.6}
    models = {f"mnist-{model}": model for model in TABLE1["report"]}
    of_mnist = blocks[blocks.setting.isin(models)]
    grid = style.faceted(of_mnist, (8, 3), "last_epoch", "gap_mean", dots, col="setting")
    for setting, ax in grid.axes_dict.items():
        if iwae := archive.released.get(("mnist", models[setting], "iwae")):
            error = 2 * subset_error(iwae)
            ax.axhspan(-error, error, color=style.GREY, alpha=0.2, linewidth=0)
        ax.axhline(0, color=style.GREY, linewidth=0.8)
        ax.set_title(models[setting])
    grid.set_axis_labels("epoch", "nats")
    style.legend_above(grid.figure, style.titled(METHOD_TITLES))
    return grid.figure
