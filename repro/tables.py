"""Records -> tables. Pure: a table is what the records and the printed numbers say, and nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from repro import experiments, records
from repro.experiments import TABLE_METHODS, Experiment, with_epochs
from repro.records import Record
from repro.reported import TABLE1

METRIC_NAMES = {"iwae_64": "IWAE-64", "log_px": "log p̂(x)", "minus_kl": "−KL(Q‖P)"}
MISSING = "not run"


def label(e: Experiment) -> str:
    """What a run is called in tables and figures, as PIWAE(8,8)."""
    if e.protocol == "released":
        return label(replace(e, protocol="paper")) + " as released"
    if e.method == "vae":
        return "VAE"
    if e.method == "ciwae-learned":
        return "CIWAE(learned)"
    inner = {"iwae": f"{e.K}", "ciwae": f"{e.beta}"}.get(e.method, f"{e.M},{e.K}")
    return f"{e.method.upper()}({inner})"


def labels(shown: Sequence[Record]) -> list[str]:
    """A label for each record, with the seed where several seeds are shown."""
    several = len({r.experiment.seed for r in shown}) > 1
    return [label(r.experiment) + f", seed {r.experiment.seed}" * several for r in shown]


def table1_runs(profile: str = "best", results: str | Path | None = None) -> tuple[list[Record], list[Experiment]]:
    """The records that Table 1 shows, all of one length of training, and the experiments it still wants.

    The best profile is the one longest trained that has a record for it.
    """
    names = list(reversed(experiments.TRAINED)) if profile == "best" else [experiments.profile(profile).name]
    for name in names:
        wanted, found = experiments.exhibit("table1", name), records.read_all(name, results)
        shown = with_epochs(wanted, _epochs_shown(wanted, found))
        used = [r for e in shown for r in _same(e, found)]
        if used:
            break
    return used, [w for w, e in zip(wanted, shown, strict=True) if not _same(e, found)]


def table1(profile: str = "best", results: str | Path | None = None) -> pd.DataFrame:
    """Table 1: for each model and metric, our records beside what the report and the paper print.

    Rows: model, metric, source; columns: methods; cells: "value ± standard error". ``attrs`` holds the caption, which
    says where the numbers come from, and the commands that would make what is missing.
    """
    shown, missing = table1_runs(profile, results)
    wanted = [*(r.experiment for r in shown), *missing]
    columns, rows = {m: next(label(e) for e in wanted if e.method == m) for m in TABLE_METHODS}, {}
    for model in dict.fromkeys(e.model for e in wanted):
        runs = {m: [r for r in shown if (r.experiment.model, r.experiment.method) == (model, m)] for m in TABLE_METHODS}
        for metric, metric_name in METRIC_NAMES.items():
            rows[model, metric_name, "ours"] = {columns[m]: cell([r.metrics[metric] for r in runs[m]]) for m in TABLE_METHODS}
            for source, printed in TABLE1.items():
                if model in printed:
                    values = printed[model][metric]
                    rows[model, metric_name, source] = {columns[m]: with_error(*values[m]) for m in TABLE_METHODS}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=["model", "metric", "source"])
    error = "± standard error: between seeds where there are several, else over the test images; the paper's ± is as printed, over four runs"
    table.attrs = {"caption": f"Ours: {origin(shown, error)}" if shown else origin(shown), "missing": experiments.commands(missing)}
    return table


def _epochs_shown(wanted: Sequence[Experiment], found: Sequence[Record]) -> int:
    """The length of training with most of the wanted runs; the longer where two have as many. Lengths are not mixed."""
    lengths = {r.experiment.epochs for r in found} | {wanted[0].epochs}
    return max(lengths, key=lambda n: (sum(bool(_same(e, found)) for e in with_epochs(list(wanted), n)), n))


def _same(wanted: Experiment, found: Sequence[Record]) -> list[Record]:
    """The records that are of this experiment but for the seed."""
    fields = {k: v for k, v in wanted.as_dict().items() if k != "seed"}
    return [r for r in found if {k: v for k, v in r.experiment.as_dict().items() if k != "seed"} == fields]


def cell(metrics: Sequence[dict[str, float]]) -> str:
    """Mean over seeds with its standard error: between seeds where there are several, else over the test images."""
    if not metrics:
        return MISSING
    values = np.array([m["value"] for m in metrics])
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else metrics[0]["se"]
    return with_error(values.mean(), error)


def with_error(value: float, error: float | None = None, digits: int = 2) -> str:
    """Value ± error, with a true minus sign."""
    number = f"{value:.{digits}f}"
    number = number.removeprefix("-") if float(number) == 0 else number.replace("-", "−")
    return number if error is None else f"{number} ± {error:.{digits}f}"


def origin(used: Sequence[Record], error: str = "± standard error over the test images") -> str:
    """What every exhibit says of its numbers: profile, data, epochs, seeds, the kind of error, commit, device."""
    if not used:
        return "No records yet."
    first, seeds = used[0], sorted({r.experiment.seed for r in used})
    profile, epochs = first.experiment.profile, first.experiment.epochs
    planned = experiments.PROFILES[profile].epochs[first.experiment.dataset]
    length = f"{epochs} epochs" if epochs == planned else f"{epochs} of the profile's {planned} epochs"
    trained_here = experiments.PROFILES[profile].trained_here
    data = " and ".join(dict.fromkeys(r.provenance["data"]["variant"] for r in used))
    seed = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    said = [
        f"{profile} profile, {data}, {length}" if trained_here else f"{len(used)} released model{'s' * (len(used) > 1)}, on {data}",
        seed if trained_here else f"evaluated with {seed}",
        f"log p̂ with K = {first.provenance['log_px_samples']}",
        error,
        "commit " + ", ".join(sorted({c for r in used for c in _commits(r)})),
        ", ".join(sorted({r.provenance["device"] for r in used})),
    ]
    return "; ".join(said) + "."


def _commits(record: Record) -> list[str]:
    """The code that trained and wrote the record, shortened, and said of it where it held changes."""
    p = record.provenance
    own = (p["commit"] or "unknown")[:10] + " (with changes)" * bool(p["dirty"])
    return [own, *(c[:10] for c in p.get("trained_by", []) if not own.startswith(c[:10]))]


def as_text(table: pd.DataFrame, form: str = "text") -> str:
    """The table as text, csv, markdown or latex (booktabs), with its caption."""
    caption = table.attrs["caption"]
    flat = table.reset_index()
    if form == "csv":
        return flat.to_csv(index=False).rstrip()
    if form == "latex":
        caption, flat = (_tex(caption), flat.map(_tex).rename(columns=_tex))
        return flat.to_latex(index=False, caption=caption, label="tab:1").rstrip()
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
    """Every metric of each record, as value ± standard error over the test images."""
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
        display(Markdown("To fill the gaps:\n```bash\n" + "\n".join(table.attrs["missing"]) + "\n```"))
