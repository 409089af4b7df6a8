"""Records -> tables. Pure: a table is what the records and the printed numbers say, and nothing else."""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from repro import experiments, records, snr
from repro.experiments import TABLE_METHODS, Experiment
from repro.records import Record
from repro.reported import FIGURE4, SSIM, TABLE1, TABLE2_OMNIGLOT

METRIC_NAMES = {"iwae_64": "IWAE-64", "log_px": "log p̂(x)", "minus_kl": "−KL(Q‖P)"}
MISSING = "not run"
WEIGHTS = "report's weights"  # measured again
NAMES = {"iwae": "IWAE(64)", "piwae": "PIWAE(8,8)", "miwae": "MIWAE(8,8)", "ciwae": "CIWAE(0.5)", "vae": "VAE"}
SIDES = {"theta": "generative", "phi": "inference"}
IMAGES = "± standard error over the test images"
ENOUGH = 3  # degrees of freedom, for a spread between seeds to be told
SEEDS = f"± standard error between seeds, pooled over the methods, where {ENOUGH} degrees of freedom or more tell it, else over the test images"
PAIRS = (("piwae", "iwae"), ("miwae", "iwae"), ("ciwae", "iwae"), ("vae", "iwae"), ("ciwae", "vae"))


def label(e: Experiment) -> str:
    """What a run is called in tables and figures, as PIWAE(8,8)."""
    if e.protocol == "released":
        return label(replace(e, protocol="paper")) + " as released"
    if e.method == "vae":
        return "VAE"
    if e.method == "ciwae-learned":
        return f"CIWAE(learned{f' from {e.beta:g}' * (e.beta != 0.5)})"
    others = f"{e.M},{e.K}" + ("" if e.beta is None else f", β={e.beta:g}")
    inner = {"iwae": f"{e.K}", "ciwae": f"{e.beta}"}.get(e.method, others)
    return f"{e.method.upper()}({inner})"


def labels(shown: Sequence[Record]) -> list[str]:
    """A label for each record, with the seed where several seeds are shown."""
    several = len({r.experiment.seed for r in shown}) > 1
    return [label(r.experiment) + f", seed {r.experiment.seed}" * several for r in shown]


def table1(profile: str = "best", results: str | Path | None = None) -> pd.DataFrame:
    """Table 1: for each model and metric, our records and the report's weights beside what the report and the paper print.

    Rows: model, metric, source; columns: methods; cells: "value ± standard error". ``attrs`` holds the caption, which
    says where the numbers come from, and the commands that would make what is missing.
    """
    (ours, missing), weights, rows = records.shown("table1", profile, results), records.released(results), {}
    wanted = [*(r.experiment for r in ours), *missing]
    of_mnist = wanted[0].dataset == "mnist"  # the smoke profile's digits compare with nobody's numbers
    for model in dict.fromkeys(e.model for e in wanted):
        runs = {m: [r for r in ours if (r.experiment.model, r.experiment.method) == (model, m)] for m in TABLE_METHODS}
        theirs = {m: [weights["mnist", model, m]] if ("mnist", model, m) in weights else [] for m in TABLE_METHODS}
        mine = _ours(e for e in wanted if e.model == model)
        for metric, metric_name in METRIC_NAMES.items():
            for source, found in ((mine, runs), (WEIGHTS, theirs)) if of_mnist else ((mine, runs),):
                rows[model, metric_name, source] = {NAMES[m]: cell(found[m], metric, sum(found.values(), [])) for m in TABLE_METHODS}
            for source, printed in TABLE1.items() if of_mnist else ():
                if model in printed:
                    values = printed[model][metric]
                    rows[model, metric_name, source] = {NAMES[m]: with_error(*values[m]) for m in TABLE_METHODS}
    return _table(rows, ["model", "metric", "source"], ours, missing, f"{IMAGES}; the paper's ± is as printed, over four runs", "table1")


def _ours(wanted: Iterable[Experiment]) -> str:
    """What a table calls our own runs: how long they are, or would be, beside models of thousands of epochs."""
    return "ours, " + " and ".join(dict.fromkeys(f"{e.epochs}" for e in wanted)) + " epochs"


def table2(profile: str = "best", results: str | Path | None = None) -> pd.DataFrame:
    """Table 2: SSIM on Omniglot of models trained on MNIST and on Omniglot; "mean ± standard deviation over the images"."""
    (ours, missing), weights, rows = records.shown("table2", profile, results), records.released(results), {}
    version = records.omniglot_of(ours or weights.values())
    for trained, printed in (("mnist", SSIM["mnist"]["omniglot"]), ("omniglot", TABLE2_OMNIGLOT)):
        runs = {m: [r for r in ours if r.experiment.method == m and r.experiment.dataset.startswith(trained)] for m in TABLE_METHODS}
        theirs = {m: [weights[trained, "reference", m]] if (trained, "reference", m) in weights else [] for m in TABLE_METHODS}
        mine = _ours(e for e in [*(r.experiment for r in ours), *missing] if e.dataset.startswith(trained))
        for source, found in ((mine, runs), (WEIGHTS, theirs)):
            values = {m: [v for r in found[m] if (v := similarity(r, version))] for m in TABLE_METHODS}
            rows[trained, source] = {NAMES[m]: _mean_and_spread(values[m]) for m in TABLE_METHODS}
        rows[trained, "report"] = {NAMES[m]: with_error(*printed[m]) for m in TABLE_METHODS}
    return _table(
        rows,
        ["trained on", "source"],
        ours,
        missing,
        f"SSIM on {version} ± standard deviation over the test images, as the report gives it",
        "table2",
    )


def similarity(record: Record, tested: str) -> dict[str, float] | None:
    """A record's SSIM on a dataset, of which a version is named; None where it was not tested there."""
    return record.metrics.get("ssim" if record.experiment.dataset == tested else f"ssim_on_{tested}")


def _mean_and_spread(values: Sequence[dict[str, float]]) -> str:
    """Means over seeds of the mean and of the standard deviation over images."""
    return with_error(np.mean([v["value"] for v in values]), np.mean([v["sd"] for v in values]), digits=3) if values else MISSING


def betas(profile: str = "best", results: str | Path | None = None) -> pd.DataFrame:
    """Figure 4 in numbers: IWAE-64 for each (starting) value of beta, fixed and learned; where the learned beta ends."""
    ours, missing = records.shown("figure4", profile, results)
    wanted, rows = [*(r.experiment for r in ours), *missing], {}
    for beta in sorted({e.beta for e in wanted}):
        row = {}
        for m, name in (("ciwae", "fixed"), ("ciwae-learned", "learned")):
            runs = [r for r in ours if (r.experiment.method, r.experiment.beta) == (m, beta)]
            row[name] = cell(runs, "iwae_64", ours)
        row["learned beta at the end"] = f"{np.mean([r.curve.beta.iloc[-1] for r in runs]):.2g}" if runs else MISSING
        rows[f"{beta:g}",] = row
    spread = {"learned beta at the end": ""}
    for m, name in (("ciwae", "fixed"), ("ciwae-learned", "learned")):
        values = [np.mean([r.metrics["iwae_64"]["value"] for r in runs]) for runs in by_beta(ours, m).values()]
        spread[name] = with_error(np.mean(values), np.std(values, ddof=1)) if len(values) > 1 else MISSING
    rows["mean ± standard deviation",] = spread
    for said, name in (("report, text", "fixed"), ("report, caption", "fixed, caption")):
        rows[said,] = {"fixed": with_error(*FIGURE4[name]), "learned": with_error(*FIGURE4["learned"]), "learned beta at the end": ""}
    return _table(rows, ["beta"], ours, missing, f"{IMAGES}, where not said otherwise", "figure4")


def by_beta(shown: Sequence[Record], method: str) -> dict[float, list[Record]]:
    """A method's records of every seed, by (starting) beta in rising order."""
    runs = [r for r in shown if r.experiment.method == method]
    return {beta: [r for r in runs if r.experiment.beta == beta] for beta in sorted({r.experiment.beta for r in runs})}


def paired(shown: Sequence[Record], groups: Sequence[tuple[str, str]] | None = None) -> pd.DataFrame:
    """Differences between methods that share data, binarisation and noise, with their standard errors.

    The errors are those of ``difference``; image by image they say nothing of other seeds. ``groups``:
    (dataset, model), those shown where not given.
    """
    rows = {}
    for dataset, model in groups or dict.fromkeys((r.experiment.dataset, r.experiment.model) for r in shown):
        of_group = [r for r in shown if r.experiment.dataset.startswith(dataset) and r.experiment.model == model]
        runs = {m: [r for r in of_group if r.experiment.method == m] for m in TABLE_METHODS}
        for metric, title in METRIC_NAMES.items():
            cells = {f"{a.upper()} − {b.upper()}": difference(runs[a], runs[b], metric, of_group) for a, b in PAIRS}
            rows[f"{dataset}, {model}", title] = {name: d.text(digits=3) if d else MISSING for name, d in cells.items()}
    table = _table(rows, ["runs", "metric"], shown, [], "", "paired")
    table.attrs["caption"] = (
        f"± standard error of the difference: between seeds, pooled over the methods once each seed has its own mean, where {ENOUGH} degrees of "
        "freedom or more tell it; else paired over the test images, and none where a record does not hold the single images."
    )
    return table


class Difference(NamedTuple):
    """A paired difference: its mean, its standard error where it has one with that error's degrees of freedom, and its number of seeds."""

    value: float
    se: float | None
    dof: int
    seeds: int = 1

    def beyond(self, errors: float) -> bool | None:
        """Whether it is above 0 as clearly as a normal deviate of so many standard errors, by Student's t; None without an error."""
        return None if self.se is None else bool(self.value > stats.t.isf(stats.norm.sf(errors), self.dof) * self.se)

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2) -> str:
        """Difference ± standard error; where that is between seeds, how many."""
        return with_error(self.value, self.se, digits, self.seeds)


def difference(a: Sequence[Record], b: Sequence[Record], metric: str, among: Sequence[Record] = ()) -> Difference | None:
    """Mean of a - b over the seeds that both have, with its standard error, paired; None where they have none in common.

    The error is of another training run where a or b, or the records ``among`` which they stand, have seeds to tell it by:
    sqrt(2 / seeds) times their ``seed_spread``. Else it is over the test images, of which each has its mean over the seeds.
    """
    spread, dof = seed_spread([*a, *b, *among], metric, paired=True)
    b = {r.experiment.seed: r for r in b}
    pairs = [(r, b[r.experiment.seed]) for r in a if r.experiment.seed in b]
    if not pairs:
        return None
    value = float(np.mean([first.metrics[metric]["value"] - second.metrics[metric]["value"] for first, second in pairs]))
    if dof:
        return Difference(value, spread * np.sqrt(2 / len(pairs)), dof, len(pairs))
    if not all(r.images for pair in pairs for r in pair) or not all(np.array_equal(*(r.reconstructions[0] for r in pair)) for pair in pairs):
        return Difference(value, None, 0, len(pairs))  # single images are not there, or of another binarisation
    images = np.mean([_of_images(first, metric) - _of_images(second, metric) for first, second in pairs], axis=0)
    return Difference(value, float(images.std(ddof=1) / np.sqrt(len(images))), len(images) - 1, len(pairs))


def seed_spread(shown: Sequence[Record], metric: str, paired: bool = False) -> tuple[float, int]:
    """Standard deviation between seeds, pooled over the experiments shown, and its degrees of freedom: (0, 0) where those are not ``ENOUGH``.

    Two seeds of one method tell little of their spread; those of five methods together tell more. ``paired``: what is left
    once each seed, too, has its own mean (methods and seeds as a two-way layout): the spread for differences between methods.
    """
    runs = list({r.experiment: r for r in shown}.values())
    columns = pd.get_dummies([str(replace(r.experiment, seed=0)) for r in runs])
    if paired:
        columns = columns.join(pd.get_dummies([r.experiment.seed for r in runs]))
    values, design = np.array([r.metrics[metric]["value"] for r in runs]), columns.to_numpy(float)
    means, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    dof = len(values) - int(rank)
    return (float(np.sqrt(((values - design @ means) ** 2).sum() / dof)), dof) if dof >= ENOUGH else (0.0, 0)


def _of_images(r: Record, metric: str) -> np.ndarray:
    return r.images["iwae_64"] - r.images["log_px"] if metric == "minus_kl" else r.images[metric]


def _table(rows: dict, levels: list[str], ours: Sequence[Record], missing: Sequence[Experiment], error: str, name: str) -> pd.DataFrame:
    """The rows as a DataFrame that knows its name, its caption and the commands for what is missing."""
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=levels)
    table.attrs = {"name": name, "caption": f"Ours: {origin(ours, error)}" if ours else origin(ours), "missing": experiments.commands([*missing])}
    return table


def cell(runs: Sequence[Record], metric: str, among: Sequence[Record] = (), digits: int = 2) -> str:
    """A metric of a method's runs as mean ± standard error, with the number of seeds where there are several."""
    return with_error(*mean_and_error(runs, metric, among), digits, len(runs)) if runs else MISSING


def mean_and_error(runs: Sequence[Record], metric: str, among: Sequence[Record] = ()) -> tuple[float, float]:
    """Mean over seeds and its standard error: by the ``seed_spread`` of these runs and those ``among`` which they stand, else over the images."""
    spread, dof = seed_spread([*runs, *among], metric)
    found = [r.metrics[metric] for r in runs]
    return float(np.mean([m["value"] for m in found])), spread / len(runs) ** 0.5 if dof else found[0]["se"]


def with_error(value: float, error: float | None = None, digits: int = 2, seeds: int = 1) -> str:
    """Value ± error, with a true minus sign; where the error is between seeds, how many."""
    number = f"{value:.{digits}f}"
    number = number.removeprefix("-") if float(number) == 0 else number.replace("-", "−")
    return number if error is None else f"{number} ± {error:.{digits}f}" + f" ({seeds} seeds)" * (seeds > 1)


def origin(used: Sequence[Record], error: str | None = IMAGES) -> str:
    """What every exhibit says of its numbers: profile, data, epochs, seeds, the kind of error, commit, date, device."""
    if not used:
        return "No records yet."
    profile, seeds = used[0].experiment.profile, Counter(r.experiment.seed for r in used)
    each = ", ".join(f"{s}" + f" ({n} of the {max(seeds.values())} runs)" * (n < max(seeds.values())) for s, n in sorted(seeds.items()))
    seed = f"seed{'s' * (len(seeds) > 1)} {each}"
    error = error.replace(IMAGES, SEEDS) if error and len(seeds) > 1 else error
    dates = sorted({r.provenance["date"] for r in used})
    said = [
        *([f"{profile} profile"] if experiments.PROFILES[profile].trained_here else [f"{len(used)} released model{'s' * (len(used) > 1)}"]),
        *dict.fromkeys(_group(r) for r in used),
        seed if experiments.PROFILES[profile].trained_here else f"evaluated with {seed}",
        f"log p̂ with K = {used[0].provenance['log_px_samples']}",
        *([error] if error else []),
        "commit " + ", ".join(dict.fromkeys(c for r in used for c in _commits(r))),
        " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        ", ".join(sorted({r.provenance["device"] for r in used})),
    ]
    return "; ".join(said) + "."


def _group(record: Record) -> str:
    """The data, the model where it is not the reference, and the length of training."""
    e = record.experiment
    planned = experiments.PROFILES[e.profile].epochs[e.dataset]
    length = f"{e.epochs} epochs" if e.epochs == planned else f"{e.epochs} of the profile's {planned} epochs"
    model = f", {e.model} model" * (e.model != "reference")
    return f"{record.provenance['data']['variant']}{model}, {length}"


def _commits(record: Record) -> list[str]:
    """The code that trained and wrote the record, shortened, and said of it where it held changes."""
    p, mark = record.provenance, records.CHANGES
    code = [(p["commit"] or "unknown") + mark * bool(p["dirty"]), *p.get("trained_by", [])]
    return list(dict.fromkeys(c.removesuffix(mark)[:10] + " (with changes)" * c.endswith(mark) for c in code))


def as_text(table: pd.DataFrame, form: str = "text") -> str:
    """The table as text, csv, markdown or latex (booktabs), with its caption."""
    caption = table.attrs["caption"]
    flat = table.reset_index()
    if form == "csv":
        return flat.to_csv(index=False).rstrip()
    if form == "latex":
        caption, flat = (_tex(caption), flat.map(_tex).rename(columns=_tex))
        return flat.to_latex(index=False, caption=caption, label=f"tab:{table.attrs.get('name', 'repro')}").rstrip()
    cells = [list(map(str, flat.columns)), *flat.astype(str).values.tolist()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if form == "markdown":
        lines = [f"| {line} |" for line in lines]
    lines.insert(1, "|".join(["", *("-" * (w + 2) for w in widths), ""]) if form == "markdown" else "-" * max(map(len, lines)))
    needed = [f"missing; make it with: {command}" for command in table.attrs["missing"]]
    return "\n".join([*lines, "", caption, *needed])


def _tex(text: str) -> str:
    """Signs that LaTeX does not take as they are."""
    signs = {"p̂": r"$\hat p$", "−KL(Q‖P)": r"$-$KL(Q$\|$P)", "−": "$-$", "±": r"$\pm$", "_": r"\_", "%": r"\%"}
    for sign, tex in signs.items():
        text = text.replace(sign, tex)
    return text


def metrics(shown: Sequence[Record]) -> pd.DataFrame:
    """Every metric of each record with its standard error over the test images."""
    rows = {"elbo": "ELBO", **METRIC_NAMES, "ess": "effective sample size", "active_units": "active units", "ssim": "SSIM"}
    columns = {}
    for name, record in zip(labels(shown), shown, strict=True):
        values = {k: (record.metrics[k]["value"], record.metrics[k]["se"]) for k in rows}
        columns[name] = {text: with_error(*values[k], digits=3 if k == "ssim" else 2) for k, text in rows.items()}
    return pd.DataFrame(columns)


def show(table: pd.DataFrame) -> None:
    """The table in a notebook: missing cells greyed, and below it its caption and the commands for what is missing."""
    from IPython.display import HTML, Markdown, display

    style = table.style.map(lambda text: "color: grey; font-style: italic" if text == MISSING else "")
    name = zlib.crc32("".join(map(str, table.index)).encode())  # the same every time, and different for each table of a page
    display(HTML(style.set_uuid(f"{name:08x}").to_html()), Markdown(table.attrs["caption"]))
    if table.attrs["missing"]:
        display(_to_fill(table.attrs["missing"]))


def snr_ratios(results: str | Path | None = None) -> pd.DataFrame:
    """The SNR of the five methods' gradients at T = 64, with signal and noise in multiples of IWAE's, and the ESS of the 64 weights."""
    rows, iwae = {}, snr.AT_T[0]
    for place, mine in _gradients(results):
        where = f"{place}; ESS {with_error(*snr.with_jackknife(mine, lambda r: snr.select(r, iwae).ess.mean()), digits=1)}"
        for net, name in SIDES.items():
            found = {NAMES[layout[0]]: snr.with_jackknife(mine, functools.partial(snr.ratio, layout=layout, net=net)) for layout in snr.AT_T}
            rows[where, f"{name}, SNR"] = {m: with_error(*v, digits=3) for m, v in found.items()}
            for part in ("signal", "noise"):
                size = {layout: snr.select(mine, layout)[f"{net}_{part}"].mean() ** 0.5 for layout in snr.AT_T}
                rows[where, f"{name}, {part}"] = {NAMES[k[0]]: f"× {with_error(v / size[iwae])}" for k, v in size.items()}
    return _of_gradients(rows, ["where", "network"], results, "Signal and noise in multiples of IWAE's. ")


def snr_exponents(results: str | Path | None = None) -> pd.DataFrame:
    """d log SNR / d log K of IWAE's gradients between one K and the next, beside the theory's for many samples."""
    rows = {}
    for where, mine in _gradients(results):
        for net, name in SIDES.items():
            steps = zip(snr.COUNTS, snr.COUNTS[1:], strict=False)
            found = {s: snr.with_jackknife(mine, functools.partial(snr.exponent, net=net, counts=s)) for s in steps}
            rows[where, name] = {f"K {a} to {b}": with_error(*v, digits=3) for (a, b), v in found.items()}
            rows[where, name]["theory"] = with_error(snr.THEORY[net], digits=1)
    return _of_gradients(rows, ["where", "network"], results)


def _gradients(results) -> list[tuple[str, pd.DataFrame]]:
    return [*records.read_table("gradients", results)[0].groupby("where", sort=False)]


def _of_gradients(rows: dict[tuple, dict[str, str]], names: list[str], results, about: str = "") -> pd.DataFrame:
    table, p = pd.DataFrame.from_dict(rows, orient="index"), records.read_table("gradients", results)[1]
    table.index = pd.MultiIndex.from_tuples(table.index, names=names)
    draws = f"{p['problems']} problems, or {p['batches']} batches of {p['batch_size']} training images"
    caption = f"{about}± standard error, by jackknife over {draws}. β = {p['beta']:g}. {p['device']}, commit {p['commit'][:10]}."
    table.attrs = {"caption": caption, "missing": []}
    return table


def _to_fill(commands: Sequence[str]):
    from IPython.display import Markdown

    return Markdown("To fill the gaps:\n```bash\n" + "\n".join(commands) + "\n```")


def sources(exhibit: str, profile: str = "best", results: str | Path | None = None) -> None:
    """In a notebook: where the exhibit's numbers come from, with a link to each record, and the commands for what it still wants."""
    from IPython.display import HTML, display

    ours, missing = records.shown(exhibit, profile, results)
    for name, used in (("Ours", ours), ("The report's weights", records.released_in(exhibit, results))):
        if used:
            links = ", ".join(_link(r, text) for r, text in zip(used, labels(used), strict=True))
            said = "" if used is ours and exhibit.startswith("table") else f" {origin(used, None)}"  # a table's caption says it
            display(HTML(f"<p><b>{name}</b>:{said} Records: {links}.</p>"))
    display(HTML(f'<p>Made by <a href="../notebooks/{exhibit}.ipynb">notebooks/{exhibit}.ipynb</a>.</p>'))
    if missing and exhibit not in TABLES:
        display(_to_fill(experiments.commands(missing)))


def _link(record: Record, name: str) -> str:
    """A link from ``notebooks``, here and in the book; just the name where the record is not kept with the project."""
    e = record.experiment
    name += f" {e.dataset.split('-')[0].capitalize() if e.dataset != 'mnist' else 'MNIST'}{', ' + e.model if e.model != 'reference' else ''}"
    inside = record.path.is_relative_to(records.root() / "results") and e.profile != "smoke"
    return f'<a href="../{record.path.relative_to(records.root())}/metrics.json">{name}</a>' if inside else name


TABLES = {"table1": table1, "table2": table2, "figure4": betas}
