"""What the printed numbers are: the report's tables beside its own logs and beside its released weights measured again. Pure.

The released evaluation takes 5,000 log-weights of every test image, in shuffled batches of 20, and slices the list of
batches where the list of samples was meant. So its "IWAE-64" is log p-hat on 64 random batches, 1,280 images, and its
"-KL" the difference between that subset and the whole set. A table's cell is the mean of the last 20 epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from repro import published, records, tables
from repro.evaluation import mean_and_error
from repro.experiments import TABLE_METHODS, Experiment, commands, plan
from repro.records import Record
from repro.reported import SSIM, TABLE1, TABLE2_OMNIGLOT
from repro.tables import IMAGES, METRIC_NAMES, MISSING, NAMES, origin, similarity, with_error

SUBSET = 64 * 20  # images in 64 batches
SSIM_NEAR = {3: 0.005, 2: 0.01}  # a printed SSIM of so many digits is confirmed where it is as near
CLEAR = 3.0  # standard errors from which on a difference is called one
MISSING_COMMAND = ["python -m repro audit"]


def logs(results: str | Path | None = None) -> pd.DataFrame:
    """The released logs in blocks of 20 epochs; see ``published.log_blocks``."""
    return records.read_table("logs", results)[0]


def last_block(blocks: pd.DataFrame, group: str, method: str) -> pd.Series:
    """The last 20 epochs of a run's log."""
    mine = blocks[(blocks.group == group) & (blocks.method == method)]
    return mine.loc[mine.last_epoch.idxmax()]


def subset_error(record: Record, epochs: int = published.BLOCK) -> float:
    """Standard deviation of (mean over 1,280 random test images - mean over all), averaged over so many epochs."""
    values = record.images["log_px"]
    return float(values.std(ddof=1) * np.sqrt((1 / SUBSET - 1 / len(values)) / epochs))


def errors(record: Record, block: pd.Series) -> dict[str, float]:
    """For each metric, the standard error of (printed - corrected) if the released procedure had measured that metric.

    log p-hat: the log's spread from epoch to epoch, for one evaluation and for the mean of 20. IWAE-64 and -KL: the noise of
    the subset besides.
    """
    whole, subset = block.log_px_sd * np.sqrt(1 + 1 / published.BLOCK), subset_error(record)
    return {"log_px": whole, "iwae_64": float(np.hypot(whole, subset)), "minus_kl": subset}


def interval(metric: str, record: Record, block: pd.Series) -> tuple[float, float]:
    """Where 95 % of printed cells lie when the released procedure meets these weights.

    Both of its estimates are of log p-hat, one on a random subset of the images; its "-KL" is about 0.
    """
    centre = 0.0 if metric == "minus_kl" else record.metrics["log_px"]["value"]
    error = 1.96 * errors(record, block)[metric]
    return centre - error, centre + error


def table(results: str | Path | None = None) -> pd.DataFrame:
    """Table 1 cell by cell: as printed, as the released logs give it, as the released weights measure, and the paper's.

    95 %: the interval that the released evaluation gives on these weights, in 95 % of cases.
    z: (printed - corrected) / its standard error were the printed number what its row says. Rows: model, metric, source.
    """
    found, blocks, rows = records.released(results), logs(results), {}
    for model in TABLE1["report"]:
        for metric, title in METRIC_NAMES.items():
            cells = {}
            for m in TABLE_METHODS:
                cells[NAMES[m]] = _cells(metric, model, m, found.get(("mnist", model, m)), last_block(blocks, f"mnist-{model}", m))
            for source in ("printed", "logs", "95 % from", "95 % to", "corrected", "z", "verdict", "paper"):
                row = {name: c[source] for name, c in cells.items()}
                if any(row.values()):
                    rows[model, title, source] = row
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["model", "metric", "source"])
    return _captioned(shown, [found[k] for k in found if k[0] == "mnist"], expected=10)


def _cells(metric: str, model: str, method: str, record: Record | None, block: pd.Series) -> dict[str, str]:
    printed, paper = TABLE1["report"][model][metric][method][0], TABLE1["paper"].get(model, {}).get(metric, {}).get(method)
    logged = block["gap_mean" if metric == "minus_kl" else f"{metric}_mean"]
    cells = {"printed": with_error(printed), "logs": with_error(logged), "paper": with_error(*paper) if paper else ""}
    if record is None:
        return cells | {"95 % from": "", "95 % to": "", "corrected": MISSING, "z": "", "verdict": ""}
    value, error = record.metrics[metric]["value"], errors(record, block)[metric]
    z, (low, high) = (printed - value) / error, interval(metric, record, block)
    cells |= {"95 % from": with_error(low), "95 % to": with_error(high)}
    return cells | {
        "corrected": with_error(value, record.metrics[metric]["se"]),
        "z": with_error(z, digits=1),
        "verdict": verdict(metric, z, low <= printed <= high),
    }


def verdict(metric: str, z: float, inside: bool) -> str:
    """What a printed cell of Table 1 is, in a word or two. ``inside``: it lies where the released evaluation puts 95 % of such cells."""
    if metric == "log_px":
        return "confirmed" if abs(z) < CLEAR else "differs"
    return "not shown to be wrong" if abs(z) < CLEAR else {"iwae_64": "not IWAE-64", "minus_kl": "noise about 0" if inside else "not the gap"}[metric]


def ssim_table(results: str | Path | None = None) -> pd.DataFrame:
    """The SSIM values of Figures 5 and 6 and of Table 2 beside the released weights'; ± standard deviation over the images."""
    found, rows, short = records.released(results), {}, records.read_all("short", results)
    exhibits = [("Figure 5", "mnist", "mnist", SSIM["mnist"]["mnist"], 3), ("Figure 6", "omniglot", "omniglot", SSIM["omniglot"]["omniglot"], 3)]
    exhibits += [("Table 2", "mnist", "omniglot", SSIM["mnist"]["omniglot"], 2), ("Table 2", "omniglot", "omniglot", TABLE2_OMNIGLOT, 2)]
    for exhibit, trained, tested, printed, digits in exhibits:
        models = {m: found[trained, "reference", m] for m in TABLE_METHODS if (trained, "reference", m) in found}
        version = tested if tested == "mnist" else records.omniglot_of(found.values())
        again = {m: similarity(models[m], version) if m in models else None for m in TABLE_METHODS}
        earlier = {m: range_ for m, range_ in ssim_of_checkpoints(models, short, results).items() if tested == trained}
        what, near = f"{exhibit}: {trained} to {tested}", SSIM_NEAR[digits]
        rows[what, "printed"] = {NAMES[m]: with_error(*printed[m], digits=digits) for m in TABLE_METHODS}
        rows[what, "again"] = {NAMES[m]: with_error(o["value"], o["sd"], digits=3) if o else MISSING for m, o in again.items()}
        rows[what, "difference"] = {NAMES[m]: with_error(printed[m][0] - o["value"], digits=3) if o else "" for m, o in again.items()}
        if earlier:
            rows[what, "best checkpoint, estimated"] = {NAMES[m]: _between(earlier[m]) if m in earlier else "" for m in TABLE_METHODS}
        rows[what, "verdict"] = {NAMES[m]: _ssim_verdict(printed[m][0], o["value"], earlier.get(m), near) if o else "" for m, o in again.items()}
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["what", "source"])
    return _captioned(shown, [r for k, r in found.items() if k[1] == "reference"], expected=10, error="± standard deviation over the test images")


def _between(estimate: dict[str, tuple[float, float]]) -> str:
    """As 0.714–0.718 ± 0.096–0.098."""
    ranges = (sorted({with_error(v, digits=3) for v in estimate[k]}) for k in ("value", "sd"))
    return " ± ".join("–".join(ends) for ends in ranges)


def _ssim_verdict(printed: float, again: float, earlier: dict[str, tuple[float, float]] | None, near: float) -> str:
    if abs(printed - again) <= near:
        return "confirmed"
    low, high = earlier["value"] if earlier else (np.inf, -np.inf)
    return CHECKPOINT if low - near <= printed <= high + near else "differs"


CHECKPOINT = "fits best checkpoint"


def ssim_of_checkpoints(
    models: dict[str, Record], ours: Sequence[Record], results: str | Path | None = None
) -> dict[str, dict[str, tuple[float, float]]]:
    """What SSIM the checkpoints that the released code calls best should have, by how far their log p-hat is from the last epoch's.

    ``models``: the released ones of one dataset, by method. SSIM gained for each nat is taken between ``ours``, short runs, and the
    released weights, of every method in turn; so an estimate is a range. So is its standard deviation over the images, ``sd``.
    """
    per_nat: dict[str, list[float]] = {"value": [], "sd": []}
    for record in models.values():
        e = record.experiment
        young = records.of_any_seed(plan(e.method, e.dataset, e.model, profile_name="short")[0], ours)
        if young:
            gain = record.metrics["log_px"]["value"] - np.mean([r.metrics["log_px"]["value"] for r in young])
            for k, slopes in per_nat.items():
                slopes.append((record.metrics["ssim"][k] - np.mean([r.metrics["ssim"][k] for r in young])) / gain)
    found = {}
    for m, record in models.items() if per_nat["value"] else ():
        mine = checkpoint_of(record.experiment, results)
        if not mine.continued:
            ends = {k: [record.metrics["ssim"][k] + slope * (mine.log_px_there - mine.log_px_end) for slope in per_nat[k]] for k in per_nat}
            found[m] = {k: (float(min(v)), float(max(v))) for k, v in ends.items()}
    return found


def checkpoint_of(e: Experiment, results: str | Path | None = None) -> pd.Series:
    """A released run's row of ``published.checkpoints``."""
    found = records.read_table("checkpoints", results)[0].set_index(["group", "method"])
    return found.loc[f"{e.dataset.split('-')[0]}-{e.model}", e.method]


def checkpoints(results: str | Path | None = None) -> pd.DataFrame:
    """The checkpoint that the released code calls best: by how many images it was chosen, and when. And how training ended.

    The choice is log p-hat of the first K batches of 20. Its noise, the standard deviation of the choice about log p-hat over the
    last 200 epochs of the log, beside that of the mean of so many random images. Slope: of log p-hat over the last eighth.
    """
    found, rows = records.released(results), {}
    for dataset, model, m in ((*group, m) for group in published.GROUPS for m in TABLE_METHODS if (*group, m) in found):
        record = found[dataset, model, m]
        mine, values = checkpoint_of(record.experiment, results), record.images["log_px"]
        images = 20 * int(mine.batches)
        rows[f"{dataset}, {model}", NAMES[m]] = {
            "images": f"{images:,}",
            "noise": with_error(mine.choice_sd),
            "of so many": with_error(values.std(ddof=1) * np.sqrt(1 / images - 1 / len(values))),
            "best epoch": "continued" if mine.continued else f"{mine.best_epoch:.0f} of {mine.epochs}",
            "log p̂ there − at the end": "" if mine.continued else with_error(mine.log_px_there - mine.log_px_end),
            "slope at the end": with_error(mine.slope, mine.slope_se),
        }
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["released logs", "method"])
    caption = "From the released logs (results/published/checkpoints.csv). Slope: nats of log p̂ per 1000 epochs, over the last eighth of them."
    shown.attrs = {"caption": caption, "missing": [] if len(found) == 15 else MISSING_COMMAND}
    return shown


def paired(results: str | Path | None = None) -> pd.DataFrame:
    """Differences between the released runs, image by image; see ``tables.paired``. One training run each."""
    found = [*records.released(results).values()]
    return _captioned(tables.paired(found, [*published.GROUPS]), found, expected=15, error=f"{IMAGES}, paired")


def closeness(results: str | Path | None = None) -> pd.DataFrame:
    """How near q comes to the posterior in the released models: ELBO - log p-hat = -KL(q || p(z|x)), image by image, and its companions."""
    found, rows = records.released(results), {}
    titles = {"elbo": "ELBO", "minus_kl_q": "ELBO − log p̂(x)", "ess": "effective sample size of 64", "active_units": "active units"}
    for dataset, model in published.GROUPS:
        columns = {}
        for m in TABLE_METHODS:
            record = found.get((dataset, model, m))
            known = record.metrics | {"minus_kl_q": mean_and_error(record.images["elbo"] - record.images["log_px"])} if record else {}
            columns[NAMES[m]] = {
                k: with_error(known[k]["value"], known[k]["se"], 0 if k == "active_units" else 2) if record else MISSING for k in titles
            }
        for metric, title in titles.items():
            rows[f"{dataset}, {model}", title] = {name: cells[metric] for name, cells in columns.items()}
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["runs", "metric"])
    return _captioned(shown, [*found.values()], expected=15)


def protocols(results: str | Path | None = None) -> pd.DataFrame:
    """Our own runs with the released code's training beside those with the paper's, and the paired difference.

    Below, the released CIWAE, a VAE of two samples, beside the VAE of 64. Of the profile with most such pairs, full before short.
    """

    def wanted(profile: str) -> dict[str, list[Experiment]]:
        return {e.method: [*plan(e.method, profile_name=profile), e] for e in plan("all", profile_name=profile, protocol="released")}

    def runs(profile: str) -> dict[str, list[list[Record]]]:
        found = records.read_all(profile, results)
        return {method: [records.of_any_seed(e, found) for e in twins] for method, twins in wanted(profile).items()}

    profile = max(("full", "short"), key=lambda name: [sum(map(of, runs(name).values())) for of in (all, any)])
    trained, rows = runs(profile), {}
    beside = {NAMES[m]: pair for m, pair in trained.items()} | {f"{NAMES['vae']}; {NAMES['ciwae']}": [trained["vae"][0], trained["ciwae"][1]]}
    for name, (paper, released) in beside.items():
        for metric, title in METRIC_NAMES.items():
            apart = tables.difference(released, paper, metric)
            columns = {how: tables.cell(found, metric) for how, found in (("as in the paper", paper), ("as released", released))}
            rows[name, title] = columns | {"difference": apart.text() if apart else MISSING}
    used = [r for pair in trained.values() for found in pair for r in found]
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["method", "metric"])
    missing = [e for twins in wanted(profile).values() for e in twins if not records.exists(e, results)]
    shown.attrs = {"caption": f"Ours: {origin(used, f'{IMAGES}, of differences paired')}", "missing": commands(missing)}
    return shown


def lead(results: str | Path | None = None) -> pd.DataFrame:
    """Logged log p-hat of PIWAE and MIWAE minus IWAE's, in means of 20 epochs: group x method by last epoch of each."""
    logged = logs(results).pivot(index=["group", "last_epoch"], columns="method", values="log_px_mean")
    return logged.sub(logged.iwae, axis=0)[["piwae", "miwae"]]


def passed(leads: pd.Series) -> int | None:
    """The epoch from which on a lead (by epoch) is below 0; None where it is not at the end."""
    ahead = leads.index[leads > 0]
    after = leads.index[leads.index > (ahead[-1] if len(ahead) else -1)]
    return int(after[0]) if len(after) else None


def drawers(results: str | Path | None = None) -> pd.DataFrame:
    """IWAE-64 of the released Omniglot models on the drawings of drawers 1 to 15 and 16 to 20, which are this project's test set.

    Below, each method's minus IWAE's. ± standard error between drawers.
    """
    found, origin = records.read_table("drawers", results)
    groups = by_drawer(found)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for what, of in (("IWAE-64", lambda v: v), ("minus IWAE's", lambda v: v.sub(v.iwae, axis=0))):
        mean, se = ({split: getattr(of(v), f)() for split, v in groups.items()} for f in ("mean", "sem"))
        for split, v in groups.items():
            rows[what, f"drawers {v.index[0]} to {v.index[-1]}"] = {NAMES[m]: with_error(mean[split][m], se[split][m]) for m in TABLE_METHODS}
        rows[what, "difference"] = {
            NAMES[m]: with_error(mean["test"][m] - mean["train"][m], np.hypot(se["test"][m], se["train"][m])) for m in TABLE_METHODS
        }
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["what", "drawings"])
    images = f"{found.images.iloc[0]} characters, each third"
    caption = f"{origin['data']['variant']}; {images}; ± standard error between drawers; {origin['device']}, commit {origin['commit'][:10]}."
    shown.attrs = {"caption": caption, "missing": []}
    return shown


def by_drawer(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """IWAE-64 by drawer and method, of the drawings for training and of those for testing."""
    values = found.pivot(index="drawer", columns="method", values="iwae_64")[[*TABLE_METHODS]]
    return {split: values.loc[[*rows.drawer.unique()]] for split, rows in found.groupby("split", sort=False)}


def gaps(results: str | Path | None = None) -> pd.DataFrame:
    """The logged "-KL" over the whole of each run: its mean with standard error, its spread, how often it is positive."""
    rows = {}
    for (group, method), mine in logs(results).groupby(["group", "method"], sort=False):
        mean, n = mine.gap_mean, published.BLOCK * len(mine)
        spread = np.sqrt((mine.gap_sd**2).mean() + mean.var())
        rows[group, method.upper()] = {
            "mean": with_error(mean.mean(), spread / np.sqrt(n), digits=3),
            "one epoch's standard deviation": with_error(spread),
            "of 20 epochs' mean": with_error(mean.std(ddof=1)),
            "the last 20 epochs": with_error(mean.iloc[-1]),
            "blocks above 0": f"{(mean > 0).mean():.0%}",
        }
    shown = pd.DataFrame.from_dict(rows, orient="index")
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["released logs", "method"])
    shown.attrs = {"caption": "From the released logs, in blocks of 20 epochs (results/published/logs.csv).", "missing": []}
    return shown


def claims(results: str | Path | None = None) -> list[str]:
    """What the tables above come to, in sentences of Markdown whose numbers are counted here."""
    found, blocks = records.released(results), logs(results)
    cells = [(model, metric, m) for model in TABLE1["report"] for metric in METRIC_NAMES for m in TABLE_METHODS]

    def logged(model: str, metric: str, m: str) -> float:
        return last_block(blocks, f"mnist-{model}", m)["gap_mean" if metric == "minus_kl" else f"{metric}_mean"]

    same = sum(abs(TABLE1["report"][model][metric][m][0] - logged(model, metric, m)) < 0.0051 for model, metric, m in cells)
    logs_say = f"the mean of the last {published.BLOCK} epochs of the released logs"
    said = [f"**{same} of {len(cells)}** printed cells of Table 1 are, to the printed digit, {logs_say}."]
    per_log = blocks.groupby(["group", "method"]).gap_mean.agg(["mean", "sem"])
    far = (per_log["mean"].abs() > CLEAR * per_log["sem"]).sum()
    said.append(
        f'The logged "−KL" is positive in **{(blocks.gap_mean > 0).mean():.0%}** of all blocks of {published.BLOCK} epochs; '
        f"its mean over a whole run is further than {CLEAR:g} standard errors from 0 in **{far} of {len(per_log)}** runs."
    )
    known = [(c, found.get(("mnist", c[0], c[2]))) for c in cells]
    known = [(c, r, last_block(blocks, f"mnist-{c[0]}", c[2])) for c, r in known if r]
    if known:
        z = {c: (TABLE1["report"][c[0]][c[1]][c[2]][0] - r.metrics[c[1]]["value"]) / errors(r, b)[c[1]] for c, r, b in known}
        inside = [low <= TABLE1["report"][c[0]][c[1]][c[2]][0] <= high for c, r, b in known for low, high in [interval(c[1], r, b)]]
        said.append(f"**{sum(inside)} of {len(inside)}** lie in the interval where the released evaluation of these weights puts 95 % of such cells.")
        for metric, title, text in (
            ("log_px", "log p̂", "agree with the released weights measured again"),
            ("iwae_64", "IWAE-64", "are not these weights' IWAE-64, which is lower"),
            ("minus_kl", "−KL", "are incompatible with the gap of these weights, which is negative"),
        ):
            values = [v for c, v in z.items() if c[1] == metric]
            count = sum(abs(v) < CLEAR for v in values) if metric == "log_px" else sum(v > CLEAR for v in values)
            said.append(f"**{count} of {len(values)}** printed values of {title} {text}.")
        gap = {c: r.metrics["minus_kl"] for c, r, _ in known if c[1] == "minus_kl"}
        below = sum(m["value"] < -CLEAR * m["se"] for m in gap.values())
        low, high = (with_error(f(m["value"] for m in gap.values())) for f in (min, max))
        many = f"**{below} of {len(gap)}** models, from {low} to {high} nats"
        said.append(f"Measured on the same images, −KL is below 0 by more than {CLEAR:g} standard errors in {many}.")
    omniglot = {m: found.get(("omniglot", "reference", m)) for m in TABLE_METHODS}
    if all(omniglot.values()):
        version = omniglot["iwae"].provenance["data"]["variant"]
        off = [abs(r.metrics["log_px"]["value"] - last_block(blocks, "omniglot-reference", m).log_px_mean) for m, r in omniglot.items()]
        near = f"have log p̂ within **{max(off):.2f} nats** of the released logs, all five"
        said.append(f"On Omniglot these weights, measured on {version}, {near}; how its drawings are resized was chosen with a view to that.")
    shown = ssim_table(results)
    verdicts = [v for what in shown.index.levels[0] if what.startswith("Figure") for v in shown.loc[(what, "verdict")] if v]
    if verdicts:
        same, other = (verdicts.count(v) for v in ("confirmed", CHECKPOINT))
        said.append(
            f"Of {len(verdicts)} printed SSIM values of Figures 5 and 6 **{same}** are the released weights', and **{other}** fit the "
            f"checkpoint that the released code calls its best, by an estimate from its place in the log."
        )
    for m, what in (("miwae", "MIWAE, at equal cost,"), ("piwae", "PIWAE, its inference network with 100 samples,")):
        pairs = [(found.get((*g, m)), found.get((*g, "iwae"))) for g in published.GROUPS]
        pairs = [p for p in pairs if all(p)]
        clear = {metric: [tables.difference([a], [b], metric) for a, b in pairs] for metric in ("iwae_64", "minus_kl")}
        better = {metric: sum(bool(d.beyond(CLEAR)) for d in differences) for metric, differences in clear.items()}
        if pairs:
            said.append(
                f"The paper's claim, in these weights: {what} is ahead of IWAE on IWAE-64 by more than {CLEAR:g} paired standard errors of the "
                f"images in **{better['iwae_64']} of {len(pairs)}** settings, and has the smaller gap in **{better['minus_kl']} of {len(pairs)}**."
            )
    return said


def _captioned(shown: pd.DataFrame, used: Sequence[Record], expected: int, error: str = IMAGES) -> pd.DataFrame:
    caption = f"Measured again: {origin(used, error)}" if used else "No released model is measured yet."
    shown.attrs = {"caption": caption, "missing": [] if len(used) == expected else MISSING_COMMAND}
    return shown
