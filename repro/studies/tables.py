"""Records -> tables: what the records and the printed numbers say, and nothing else.

A table is a DataFrame whose cells are ``Estimate``, ``NOT_RUN`` or words. Its ``attrs`` hold a
caption that says where the numbers come from, and the commands that would make what is missing.
``as_strings`` turns cells into text; ``as_text`` and ``show`` are the edges where that happens.

``archive`` is always an ``Archive`` or the folder of one.
"""

import html
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from repro import plural, records
from repro.bounds import T
from repro.records import Archive, Record, Selection, omniglot_of
from repro.records.estimates import ENOUGH, NOT_RUN, ErrorOf, Estimate, of_metric, over_seeds
from repro.studies import gradients, trainings
from repro.studies.captions import (
    COUNTING_TRAINING,
    FAMILY_TITLES,
    METHOD_TITLES,
    METRIC_TITLES,
    OVER_IMAGES,
    conditions,
    labels,
    length_of_ours,
    made_by,
    origin,
)
from repro.studies.estimator_runs import (
    BOTH_EARLIER,
    BOTH_LONGER,
    BOTH_NETWORKS,
    ENCODER_ALONE,
    GROUPS,
    EstimatorRuns,
    Setting,
)
from repro.studies.reported import FIGURE4, SSIM, TABLE1, TABLE2_OMNIGLOT
from repro.words.exhibits import KINDS_OF_BETA
from repro.words.experiments import TABLE_METHODS, Experiment, commands

AnyArchive = Archive | str | Path | None
Rows = dict[tuple, dict[str, object]]

OF_WEIGHTS = "report's weights"  # measured again
PAIRS = (("piwae", "iwae"), ("miwae", "iwae"), ("ciwae", "iwae"), ("vae", "iwae"), ("ciwae", "vae"))


def framed(rows: Rows, levels: Sequence[str], caption: str, missing: Sequence[str] = ()):
    """Rows by their index as a DataFrame with a caption and the commands for what is missing.

    Where all estimates of a row have as many seeds, its label says how many, and its cells do not.
    """
    rows = dict(_with_seeds_in_label(index, row) for index, row in rows.items())
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=levels)
    table.attrs = {"caption": caption, "missing": [*missing]}
    return table


def _with_seeds_in_label(index: tuple, row: Mapping[str, object]) -> tuple[tuple, dict]:
    estimates = [cell for cell in row.values() if isinstance(cell, Estimate)]
    counts = {e.seeds for e in estimates}
    kinds = {e.error_of for e in estimates}
    if len(counts) != 1 or counts == {1} or kinds != {ErrorOf.SEEDS}:
        return index, dict(row)
    label = f"{index[-1]}, {plural(counts.pop(), 'seed')}"
    shown = {
        name: replace(cell, seeds=1) if isinstance(cell, Estimate) else cell
        for name, cell in row.items()
    }
    return (*index[:-1], label), shown


def _of_ours(rows: Rows, levels: Sequence[str], selection: Selection, error: str):
    """A table of our own runs."""
    used = selection.used
    caption = f"Ours: {conditions(used, error)}" if used else conditions(used)
    return framed(rows, levels, caption, commands(selection.missing))


def by_method(runs: Sequence[Record], methods: Sequence[str] = TABLE_METHODS) -> dict:
    """The records of each method, in the order of Table 1."""
    found: dict[str, list[Record]] = {method: [] for method in methods}
    for record in runs:
        if record.experiment.method in found:
            found[record.experiment.method].append(record)
    return found


def for_methods(cells: Mapping[str, object]) -> dict[str, object]:
    """A row: the cells of Table 1's methods, under their titles."""
    return {title: cells[m] for m, title in METHOD_TITLES.items()}


def table1(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Table 1: our records and the report's weights beside what the report and the paper print.

    Rows: model, metric, source; columns: methods.
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
                rows[model, title, source] = _row_of_table1(runs, metric)
            for source, printed in TABLE1.items():
                if of_mnist and model in printed:
                    rows[model, title, source] = for_methods(printed[model][metric])
    error = f"{OVER_IMAGES}; the paper's ± is as printed, over four runs"
    return _of_ours(rows, ["model", "metric", "source"], selection, error)


def _row_of_table1(runs: Sequence[Record], metric: str) -> dict[str, object]:
    """A metric of each method, its error from all the runs together."""
    of_method = by_method(runs)
    return for_methods({m: over_seeds(found, metric, runs) for m, found in of_method.items()})


def table2(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Table 2: SSIM on Omniglot of models of both datasets; mean ± deviation over the images."""
    archive = Archive.of(archive)
    selection = archive.select("table2", profile)
    version = omniglot_of(selection.used or archive.released.values())
    rows: Rows = {}
    printed_rows = {"mnist": SSIM["mnist"]["omniglot"], "omniglot": TABLE2_OMNIGLOT}
    for trained, printed in printed_rows.items():
        ours = [r for r in selection.used if r.experiment.family == trained]
        length = length_of_ours(e for e in selection.wanted if e.family == trained)
        rows[trained, length] = _row_of_ssim(ours, version)
        theirs = archive.released_of(trained, "reference")
        rows[trained, OF_WEIGHTS] = _row_of_ssim(theirs, version)
        rows[trained, "report"] = for_methods(printed)
    error = f"SSIM on {version} ± standard deviation over the test images, as the report gives it"
    return _of_ours(rows, ["trained on", "source"], selection, error)


def _row_of_ssim(runs: Sequence[Record], tested: str) -> dict[str, object]:
    return for_methods({m: ssim_spread(found, tested) for m, found in by_method(runs).items()})


def ssim_on(record: Record, tested: str) -> dict[str, float] | None:
    """A record's SSIM on a dataset; None if it was not tested there."""
    own = record.experiment.dataset == tested
    return record.metrics.get("ssim" if own else f"ssim_on_{tested}")


def ssim_spread(runs: Sequence[Record], tested: str):
    """SSIM on a dataset: means over seeds of the mean and of the standard deviation over images."""
    values = list(filter(None, (ssim_on(r, tested) for r in runs)))
    if not values:
        return NOT_RUN
    mean = np.mean([v["value"] for v in values])
    sd = np.mean([v["sd"] for v in values])
    return Estimate(float(mean), float(sd), error_of=ErrorOf.SPREAD, digits=3)


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
    return _of_ours(rows, ["beta"], selection, f"{OVER_IMAGES}, where not said otherwise")


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
        kind = (e.method, e.group, e.decoder)
        if kind == (method, "mnist-reference", "own") and e.epochs in lengths:
            found.append(record)
    return sorted(found, key=lambda r: r.experiment.seed)


def spread_over_betas(shown: Sequence[Record], method: str):
    """IWAE-64 over the values of beta: mean ± standard deviation."""
    scores = scores_by_beta(shown, method)
    if len(scores) < 2:
        return NOT_RUN
    return Estimate(float(scores.mean()), float(scores.std(ddof=1)), error_of=ErrorOf.SPREAD)


def differences_in_table1(profile: str = "best", archive: AnyArchive = None) -> pd.DataFrame:
    """Differences between the methods of our own runs in Table 1."""
    archive = Archive.of(archive)
    return paired_differences(archive, archive.select("table1", profile).used)


def paired_differences(
    archive: Archive, shown: Sequence[Record], settings: Sequence[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """Differences between methods that share data, binarisation and noise.

    Their errors count what other trainings would change, which ``archive`` tells. ``settings`` are
    pairs of a dataset's family and a model; by default those shown.
    """
    if settings is None:
        settings = dict.fromkeys((r.experiment.dataset, r.experiment.model) for r in shown)
    rows: Rows = {}
    for dataset, model in settings:
        of_setting = [
            r
            for r in shown
            if r.experiment.model == model
            and dataset in (r.experiment.dataset, r.experiment.family)
        ]
        runs = by_method(of_setting)
        for metric, title in METRIC_TITLES.items():
            row: dict[str, object] = {}
            for a, b in PAIRS:
                apart = trainings.difference(archive, runs[a], runs[b], metric, of_setting)
                row[f"{a.upper()} − {b.upper()}"] = apart
            rows[f"{dataset}, {model}", title] = row
    caption = (
        "± standard error of the difference: between seeds, pooled over the methods once each seed "
        f"has its own mean, where {ENOUGH} degrees of freedom or more tell it; else "
        f"{COUNTING_TRAINING}, and none where a record does not hold the single images."
    )
    return framed(rows, ["runs", "metric"], caption)


def metrics(shown: Sequence[Record]) -> pd.DataFrame:
    """Every metric of each record with its standard error over the test images."""
    titles = {
        "elbo": "ELBO",
        **METRIC_TITLES,
        "ess": "effective sample size",
        "active_units": "active units",
        "ssim": "SSIM",
    }
    columns = {}
    for name, record in zip(labels(shown), shown, strict=True):
        column = {title: of_metric(record.metrics[k]) for k, title in titles.items()}
        column["SSIM"] = column["SSIM"].shown_with(3)
        columns[name] = column
    return as_strings(pd.DataFrame(columns))


def snr_ratios(archive: AnyArchive = None) -> pd.DataFrame:
    """The SNR of the five methods' gradients at T = 64, its parts, and the ESS of the weights."""
    archive = Archive.of(archive)
    about = "Signal and noise in multiples of IWAE's. "
    return _of_gradients(gradients.ratios_of_methods(archive), archive, about)


def snr_exponents(archive: AnyArchive = None) -> pd.DataFrame:
    """d log SNR / d log K of IWAE's gradients between one K and the next, beside the theory's."""
    archive = Archive.of(archive)
    return _of_gradients(gradients.exponents_of_iwae(archive), archive)


def snr_estimators(archive: AnyArchive = None) -> pd.DataFrame:
    """The SNR of both gradients of each bound at T = 64, phi's under each estimator."""
    archive = Archive.of(archive)
    rows = gradients.ratios_of_estimators(archive)
    p = archive.table("estimators")[1]
    caption = (
        f"± standard error, by jackknife over {p['batches']} batches of {p['batch_size']} "
        f"training images, {p['replicates']} estimates each. β = {p['beta']:g}. {made_by(p)}."
    )
    return framed(rows, ["where", "bound"], caption)


def snr_in_training(archive: AnyArchive = None) -> pd.DataFrame:
    """The SNR of both gradients of our runs along their training, where it was measured."""
    runs = [r for r in Archive.of(archive).records("short") if r.gradients is not None]
    if not runs:
        return framed({("no run yet", ""): {}}, ["run", "after"], "")
    caption = (
        f"Ours: {conditions(runs, 'standard error, by jackknife over batches of images')} The "
        "gradients are those of the run's own bound, in its networks as they are then."
    )
    return framed(gradients.ratios_in_training(runs), ["run", "after"], caption)


def trained_estimators(archive: AnyArchive = None) -> pd.DataFrame:
    """What 40 epochs of training make of each bound, under both estimators."""
    about = "Both networks trained on MNIST, in TensorFloat-32."
    return _of_estimators(Archive.of(archive), BOTH_NETWORKS, about)


def trained_estimators_earlier(archive: AnyArchive = None) -> pd.DataFrame:
    """What 13 epochs of training make of each bound, under both estimators."""
    about = "Both networks trained on MNIST."
    return _of_estimators(Archive.of(archive), BOTH_EARLIER, about)


def trained_estimators_longer(archive: AnyArchive = None) -> pd.DataFrame:
    """What 364 epochs of training make of each bound, and of two under both estimators."""
    about = "Both networks trained on MNIST, in TensorFloat-32."
    return _of_estimators(Archive.of(archive), BOTH_LONGER, about)


def trained_groups(archive: AnyArchive = None) -> pd.DataFrame:
    """What 40 epochs of training make of MIWAE and PIWAE with other numbers of groups."""
    runs = EstimatorRuns(Archive.of(archive), BOTH_NETWORKS)
    rows: Rows = {}
    for method in ("miwae", "piwae"):
        found = {title: runs.by_groups(method, m) for m, title in METRIC_TITLES.items()}
        for M in GROUPS:
            row = {title: values.get(M, NOT_RUN) for title, values in found.items()}
            rows[method.upper(), f"{M} × {T // M}"] = row
    caption = (
        "M × K: groups, and samples in a group. One group is IWAE, and MIWAE with 64 groups is the "
        f"VAE. After {BOTH_NETWORKS.epochs} epochs on MNIST, in TensorFloat-32, in "
        "nats; ± standard error between trainings."
    )
    return framed(rows, ["bound", "M × K"], caption)


def encoders_alone(archive: AnyArchive = None) -> pd.DataFrame:
    """What 4 epochs make of encoders trained alone, for the decoder of the report's IWAE."""
    about = "Encoders alone, trained on MNIST for the decoder of the report's IWAE."
    return _of_estimators(Archive.of(archive), ENCODER_ALONE, about)


def _of_estimators(archive: Archive, setting: Setting, about: str) -> pd.DataFrame:
    runs = EstimatorRuns(archive, setting)
    error = f"one training each; {OVER_IMAGES}, and for differences {COUNTING_TRAINING}"
    if runs.spread("iwae_64")[1]:
        error = f"± standard error between trainings, pooled where fewer than {ENOUGH + 1} tell it"
    caption = f"{about} After {setting.epochs} epochs, in nats; {error}."
    return framed(dict(runs.table_rows()), ["metric", "bound"], caption)


def _of_gradients(rows: Rows, archive: Archive, about: str = "") -> pd.DataFrame:
    p = archive.table("gradients")[1]
    draws = f"{p['problems']} problems, or {p['batches']} batches of {p['batch_size']}"
    caption = (
        f"{about}± standard error, by jackknife over {draws} training images. β = {p['beta']:g}. "
        f"{made_by(p)}."
    )
    return framed(rows, ["where", "network"], caption)


# Where cells become text


def as_strings(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with every cell as text."""
    shown = table.map(str)
    shown.attrs = table.attrs
    return shown


def as_text(table: pd.DataFrame, form: str = "text", name: str = "repro") -> str:
    """The table with its caption, as text, csv, markdown or latex (booktabs)."""
    from tabulate import tabulate

    caption = table.attrs["caption"]
    flat = as_strings(table).reset_index()
    if form == "csv":
        return flat.to_csv(index=False).rstrip()
    if form == "latex":
        escaped = flat.to_latex(
            index=False, escape=True, caption=_tex(caption), label=f"tab:{name}"
        )
        return _tex_signs(escaped).rstrip()
    grid = {"text": "presto", "markdown": "pipe"}[form]
    lines = tabulate(flat, headers="keys", tablefmt=grid, showindex=False, disable_numparse=True)
    needed = [f"missing; make it with: {command}" for command in table.attrs["missing"]]
    return "\n".join([lines, "", caption, *needed])


def _tex(text: str) -> str:
    """Escape what LaTeX would read as a command; pandas does this for cells, not for captions."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "&%$#_{}"})


def _tex_signs(text: str) -> str:
    """Mathematical signs as LaTeX has them."""
    signs = {"p̂": r"$\hat p$", "‖": r"$\|$", "−": "$-$", "±": r"$\pm$", "β": r"$\beta$"}
    for sign, tex in signs.items():
        text = text.replace(sign, tex)
    return text


def show(table: pd.DataFrame) -> None:
    """The table in a notebook, with missing cells grey, its caption, and what would fill gaps."""
    from IPython.display import HTML, Markdown, display

    text = as_strings(table)
    grey = "color: grey; font-style: italic"
    style = text.style.map(lambda cell: grey if cell == str(NOT_RUN) else "")
    # The same name every time, and a different one for each table of a page.
    name = zlib.crc32("".join([table.attrs["caption"], *map(str, table.index)]).encode())
    display(HTML(style.set_uuid(f"{name:08x}").to_html()), Markdown(table.attrs["caption"]))
    if table.attrs["missing"]:
        display(_to_fill(table.attrs["missing"]))


def _to_fill(needed: Sequence[str]):
    from IPython.display import Markdown

    return Markdown("To fill the gaps:\n```bash\n" + "\n".join(needed) + "\n```")


def sources(exhibit: str, profile: str = "best", archive: AnyArchive = None) -> None:
    """In a notebook: where an exhibit's numbers come from, and commands for what is missing."""
    from IPython.display import display

    archive = Archive.of(archive)
    ours, missing = archive.select(exhibit, profile)
    show_origins(exhibit, {"Ours": ours, THE_REPORTS: archive.released_in(exhibit)})
    if missing and exhibit not in TABLES:
        display(_to_fill(commands(missing)))


THE_REPORTS = "The report's weights"


def show_origins(notebook: str, runs_by_name: Mapping[str, Sequence[Record]]) -> None:
    """In a notebook: which records it shows, with commits, dates and devices, folded."""
    from IPython.display import HTML, display

    said = []
    for whose, runs in runs_by_name.items():
        if runs:
            text = html.escape(origin(runs, None), quote=False)
            said.append(f"<p><b>{whose}</b>: {text} Records: {_links(runs)}.</p>")
    link = f'<a href="../notebooks/{notebook}.ipynb">notebooks/{notebook}.ipynb</a>'
    said.append(f"<p>Made by {link}.</p>")
    summary = "<summary>Where these numbers come from</summary>"
    display(HTML(f'<details class="origin">{summary}{"".join(said)}</details>'))


def _links(runs: Sequence[Record]) -> str:
    named = zip(runs, labels(runs), strict=True)
    return ", ".join(_link(record, name) for record, name in named)


def _link(record: Record, name: str) -> str:
    """A link from ``notebooks``, here and in the book, if the record is kept with the project."""
    e: Experiment = record.experiment
    name = f"{name} {FAMILY_TITLES.get(e.family, e.dataset)}"
    if e.model != "reference":
        name += f", {e.model}"
    kept = record.path.is_relative_to(records.root() / "results")
    if not kept or e.profile == "smoke":
        return name
    return f'<a href="../{record.path.relative_to(records.root())}/metrics.json">{name}</a>'


TABLES = {"table1": table1, "table2": table2, "figure4": betas}
