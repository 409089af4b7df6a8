"""Records -> tables: Table 1, and where to find the others."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import product

import pandas as pd

from repro.records import Archive, Record
from repro.records.estimates import ENOUGH, estimate_of, over_seeds
from repro.studies import evidence
from repro.studies.captions import (
    COUNTING_TRAINING,
    METRIC_TITLES,
    OVER_IMAGES,
    labels,
    length_of_ours,
)
from repro.studies.estimator_runs import (
    encoders_alone,
    trained_estimators,
    trained_estimators_earlier,
    trained_estimators_longer,
    trained_groups,
)
from repro.studies.figure4 import betas
from repro.studies.frames import (
    OF_WEIGHTS,
    THE_REPORTS,
    AnyArchive,
    Rows,
    as_strings,
    as_text,
    by_method,
    for_methods,
    framed,
    row_of,
    show,
    show_origins,
    show_source,
    table_of_ours,
    to_fill,
)
from repro.studies.gradients import snr_by_count, snr_estimators, snr_exponents, snr_ratios
from repro.studies.reported import TABLE1
from repro.studies.similarity import table2
from repro.studies.yardstick import lead_table, likelihood_table, sandwich_table
from repro.words.experiments import commands

PAIRS = (("piwae", "iwae"), ("miwae", "iwae"), ("ciwae", "iwae"), ("vae", "iwae"), ("ciwae", "vae"))


def table1(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Table 1: our records and the report's weights beside what the report and the paper print.

    Rows: model, metric, source; columns: methods.

    >>> print(table1().loc[("reference", "IWAE-64", "report's weights"), "IWAE(64)"])
    −86.14 ± 0.23
    """
    archive = Archive.of(archive)
    selection = archive.select("table1", profile)
    rows: Rows = {}
    for model in dict.fromkeys(e.model for e in selection.wanted):
        length = length_of_ours(e for e in selection.wanted if e.model == model)
        sources = {length: [r for r in selection.used if r.experiment.model == model]}
        of_mnist = selection.wanted[0].dataset == "mnist"
        if of_mnist:  # the smoke profile's digits compare with nobody's numbers
            sources[OF_WEIGHTS] = archive.released_of("mnist", model)
        for metric, title in METRIC_TITLES.items():
            for source, runs in sources.items():
                rows[model, title, source] = row_of(
                    runs, partial(over_seeds, metric=metric, among=runs)
                )
            for source, printed in TABLE1.items():
                if of_mnist and model in printed:
                    rows[model, title, source] = for_methods(printed[model][metric])
    error = f"{OVER_IMAGES}; the paper's ± is as printed, over four runs"
    about = "IWAE-64, log p̂ and the gap, −KL(Q‖P), of five methods."
    return table_of_ours(rows, ["model", "metric", "source"], selection, about, error)


def differences_in_table1(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Differences between the methods of our own runs in Table 1."""
    archive = Archive.of(archive)
    return paired_differences(archive, archive.select("table1", profile).used)


def paired_differences(
    archive: Archive, shown: Sequence[Record], settings: Sequence[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """Differences between methods in the records ``shown``, which share data and binarisation.

    Errors include the variation between trainings, from the records in ``archive``. ``settings``
    are pairs of a dataset's family and a model; by default those of the records.

    >>> released = Archive().released_of("mnist", "larger")
    >>> shown = paired_differences(Archive(), released)
    >>> print(shown.loc[("mnist, larger", "IWAE-64"), "VAE − IWAE"])
    −0.53 ± 0.12
    """
    if settings is None:
        settings = dict.fromkeys((r.experiment.dataset, r.experiment.model) for r in shown)
    rows: Rows = defaultdict(dict)
    for dataset, model in settings:
        mine = [r for r in shown if r.experiment.model == model]
        of_setting = [r for r in mine if dataset in (r.experiment.dataset, r.experiment.family)]
        runs = by_method(of_setting)
        for (metric, title), (a, b) in product(METRIC_TITLES.items(), PAIRS):
            apart = evidence.difference(archive, runs[a], runs[b], metric, of_setting)
            rows[f"{dataset}, {model}", title][f"{a.upper()} − {b.upper()}"] = apart
    caption = (
        "± standard error of the difference: between seeds, pooled over the methods once each seed "
        f"has its own mean, where {ENOUGH} degrees of freedom or more tell it; else "
        f"{COUNTING_TRAINING}, and none where a record does not hold the single images."
    )
    return framed(rows, ["runs", "metric"], caption)


def metrics(shown: Sequence[Record]) -> pd.DataFrame:
    """Every metric that a record has, with its standard error over the test images.

    >>> shown = metrics(Archive().released_of("mnist", "reference"))
    >>> print(shown.loc["effective sample size", "IWAE(64)"])
    2.96 ± 0.02
    """
    titles = {
        "elbo": "ELBO",
        **METRIC_TITLES,
        "ess": "effective sample size",
        "active_units": "active units",
        "ssim": "SSIM",
    }
    columns = {}
    for name, record in zip(labels(shown), shown, strict=True):
        there = [k for k in titles if k in record.metrics]
        found = {k: estimate_of(record.metrics[k]) for k in there}
        columns[name] = {titles[k]: e.shown_with(3 if k == "ssim" else 2) for k, e in found.items()}
    return as_strings(pd.DataFrame(columns).fillna("–"))


def sources(exhibit: str, profile: str = "best", archive: AnyArchive = None) -> None:
    """Display in a notebook the records behind a table or figure, and commands for missing ones."""
    from IPython.display import display

    archive = Archive.of(archive)
    ours, missing = archive.select(exhibit, profile)
    show_origins(exhibit, {"Ours": ours, THE_REPORTS: archive.released_in(exhibit)})
    if missing and exhibit not in TABLES:
        display(to_fill(commands(missing)))


TABLES = {"table1": table1, "table2": table2, "figure4": betas}
