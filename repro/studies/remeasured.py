"""The report's released weights and logs, measured again."""

import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress

from repro import ReproError, datasets, scores
from repro.catalogue import OMNIGLOT
from repro.datasets import check_hash, verified_file
from repro.models import Autoencoder
from repro.records import Archive, Record
from repro.records.provenance import code_and_date, device_name
from repro.records.schema import Provenance
from repro.training import released_files
from repro.training.engines import fastest
from repro.training.networks import model_of
from repro.training.progress import Progress
from repro.training.run import assess, pick_device, write_record
from repro.words import exhibits
from repro.words.exhibits import LOG_BLOCK
from repro.words.experiments import PROFILES, Experiment

SHAPED_IMAGES = 1000  # of the test set, whose k-hat is taken
DEEP_IMAGES = 200  # of the test set, whose log p-hat is taken with many samples
DEEP_SAMPLES = (5000, 50_000)
TRUSTED_KHAT = 0.7  # above it, a mean of importance weights is not to be trusted
BINARISATIONS = 5  # of the test set, to see how much the choice of one matters
EARLY_EPOCHS = (40, 100)  # 100 is the released code's default
# --k in the commands that made them: so many test batches choose the best checkpoint.
CHOICE_BATCHES = {"iwae": 64, "piwae": 8, "miwae": 8, "ciwae": 1, "vae": 1}
FILE_OF_FIGURE4 = "figure4.csv"  # the points of Figure 4's two curves, read from the report's PDF
FIGURE4_SHA256 = "4f5fc010f2a4738e62fa2c0be036b3b51855aac5d3ed5d0355c7907bb34aebec"
NODES_OF_FIGURE4 = (0.1, 0.5, 0.9)  # of beta
FROM_PDF = "the vectors of Figure 4 in the report's PDF"


def released_model(e: Experiment, data: str | Path | None, device: str) -> Autoencoder:
    """The model of experiment ``e`` with the report's released weights."""
    model = model_of(e, released_files.released_weights(e, data)).to(device)
    model.prepare = fastest()
    return model


def remeasure(
    e: Experiment, archive: Archive, data: str | Path | None = None, device: str = "auto"
) -> Record:
    """Evaluate the report's released weights of ``e`` as we evaluate ours, and write a record."""
    code = code_and_date()
    begun = time.monotonic()
    device = pick_device(device)
    dataset = datasets.load(e.dataset, data)
    other = datasets.load_other(e.dataset, data)
    samples = PROFILES[e.profile].log_px_samples
    model = released_model(e, data, device)
    (found,) = assess(model, dataset, other, [e.seed], samples, f"{e.setting_folder} {e.method}")
    (spread,) = scores.other_binarisations(model, dataset.test, [e.seed], BINARISATIONS)
    for name, sd in spread.items():
        found.metrics[name]["binarisation_sd"] = sd
    provenance = Provenance(
        **code,
        device=device_name(device),
        data=dataset.provenance,
        log_px_samples=samples,
        precision="float32",
        seconds={"evaluation": round(time.monotonic() - begun, 1)},
        binarisations=BINARISATIONS,
        weights=released_files.provenance_of_weights(e),
    )
    write_record(archive, e, [], found, None, provenance)
    return archive.get(e)


def write_table(
    name: str, archive: Archive, data: str | Path | None = None, device: str = "auto"
) -> None:
    """Measure the table ``name`` of ``MEASURED`` from released logs or models, unless it exists."""
    if archive.table_path(name).exists():
        return
    rows_of, kind = MEASURED[name]
    runs = exhibits.released_runs()
    provenance = code_and_date()
    given: tuple = (data,)
    if kind != "log":
        given = (data, pick_device(device))
        provenance["device"] = device_name(given[-1])
    if name == "drawers":
        runs = [e for e in runs if e.dataset == OMNIGLOT]
        provenance["data"] = datasets.load(OMNIGLOT, data).provenance
    rows: list[dict] = []
    with Progress(1, name) as bar:
        for done, e in enumerate(runs, 1):
            rows += rows_of(e, *given)
            bar.fraction(done / len(runs))
    provenance["blobs"] = dict(released_files.file_and_blob(e, kind) for e in runs)
    print(f"wrote {archive.write_table(name, pd.DataFrame(rows), provenance)}", flush=True)


def released_log(e: Experiment, folder: str | Path | None = None) -> dict[str, np.ndarray]:
    """The values that the released code wrote in each epoch, in nats, each [epochs].

    ``iwae_64`` and ``log_px`` as it calls them. ``choice`` is log p-hat of the first
    ``CHOICE_BATCHES`` shuffled batches of 20 test images, by which it chooses its best checkpoint.
    """
    import h5py

    names = {
        "iwae_64": "metrics_iwae_64",
        "log_px": "metrics_iwae_5000",
        "choice": "metrics_iwae_k",
    }

    def parse(raw: bytes) -> dict[str, np.ndarray]:
        with h5py.File(io.BytesIO(raw)) as file:
            return {ours: -file[theirs][:].astype(float) for ours, theirs in names.items()}

    return released_files.verified(e, "log", folder, parse)


def log_blocks(e: Experiment, data: str | Path | None = None) -> Iterator[dict]:
    """Means and standard deviations of blocks of 20 epochs of a run's log.

    ``gap`` is the log's IWAE-64 minus its log p-hat. Some logs are one epoch longer than the
    others; the report's plots leave that last epoch out, and so does this.
    """
    logged = released_log(e, data)
    values = pd.DataFrame({name: logged[name][: e.epochs] for name in ("iwae_64", "log_px")})
    values["gap"] = values.iwae_64 - values.log_px
    last_epochs = (values.index // LOG_BLOCK + 1) * LOG_BLOCK
    for last_epoch, block in values.groupby(last_epochs):
        row = {"setting": e.setting, "method": e.method, "last_epoch": last_epoch}
        row |= block.mean().add_suffix("_mean").to_dict()
        yield row | block.std().add_suffix("_sd").to_dict()


def log_checkpoint(e: Experiment, data: str | Path | None = None) -> Iterator[dict]:
    """The end of a run, and the checkpoint that the released code calls its best.

    From its log:

    - ``continued``: the log has a line too many, the mark of a training that was continued. Its
      best was then chosen anew, and is not given here.
    - ``slope``, ``slope_se``: of log p-hat over the last eighth of the epochs, in nats per 1000
      epochs.
    - ``best_epoch``: that of the highest ``choice``; ``log_px_there`` and ``log_px_end``: log p-hat
      in the mean of the 20 epochs around it, and of the last 20.
    - ``choice_sd``: standard deviation of (choice - log p-hat) over the last 200 epochs.
    - ``highest_...``: the highest of each score over all epochs; of the choice also over the first
      ``EARLY_EPOCHS``.
    """
    logged = released_log(e, data)
    values = {name: of_epoch[: e.epochs] for name, of_epoch in logged.items()}
    log_px = values["log_px"]
    choice = values["choice"]
    continued = len(logged["choice"]) > e.epochs
    best = int(choice.argmax())
    around_best = log_px[max(best - LOG_BLOCK // 2, 0) : best + LOG_BLOCK // 2]
    eighth = e.epochs // 8
    line = linregress(np.arange(eighth) / 1000, log_px[-eighth:])
    row = {
        "setting": e.setting,
        "method": e.method,
        "epochs": e.epochs,
        "batches": CHOICE_BATCHES[e.method],
        "continued": continued,
        "slope": line.slope,
        "slope_se": line.stderr,
        "best_epoch": pd.NA if continued else best + 1,
        "log_px_there": np.nan if continued else around_best.mean(),
        "log_px_end": log_px[-LOG_BLOCK:].mean(),
        "choice_sd": (choice - log_px)[-200:].std(ddof=1),
    }
    row |= {f"highest_{name}": of_epoch.max() for name, of_epoch in values.items()}
    yield row | {f"highest_choice_by_{n}": choice[:n].max() for n in EARLY_EPOCHS}


def check_of_proposal(e: Experiment, data: str | Path | None, device: str) -> Iterator[dict]:
    """Pareto's k-hat of a run's importance weights, and log p-hat with ten times the samples.

    ``predicted`` is by how much log p-hat should rise with them: its bias to first order is minus
    half the relative variance of the mean weight, 1/ESS - 1/K.
    """
    model = model_of(e, released_files.released_weights(e, data)).to(device)
    images = datasets.load(e.dataset, data).test
    khat = scores.pareto_shapes(model, images[:SHAPED_IMAGES], [e.seed])
    log_px = []
    biases = []
    for K in DEEP_SAMPLES:
        sums = scores.log_px_and_ess(model, images[:DEEP_IMAGES], [e.seed], K)
        log_px.append(sums["iwae"][0])
        biases.append(float((1 / K - 1 / sums["ess"][0]).mean() / 2))
    rise = log_px[1] - log_px[0]
    yield {
        "setting": e.setting,
        "method": e.method,
        "images": len(khat),
        "khat_median": float(np.median(khat)),
        "khat_above": float((khat > TRUSTED_KHAT).mean()),
        "deep_images": len(rise),
        "rise": float(rise.mean()),
        "rise_se": float(rise.std() / len(rise) ** 0.5),
        "predicted": biases[1] - biases[0],
    }


def ssim_of_best(e: Experiment, data: str | Path | None, device: str) -> Iterator[dict]:
    """SSIM of a run's best checkpoint, and whether its weights are the last epoch's."""
    best = released_files.released_weights(e, data, "best")
    last = released_files.released_weights(e, data)
    model = model_of(e, best)
    images = datasets.load(e.dataset, data).test
    (here,) = scores.mean_ssim(model.to(device), images, [e.seed], "evaluate")
    other = datasets.load_other(e.dataset, data)
    (elsewhere,) = scores.mean_ssim(model, other.test, [e.seed], "other")
    yield {
        "setting": e.setting,
        "method": e.method,
        "is_the_last": all(torch.equal(best[name], last[name]) for name in last),
        "ssim": here["value"],
        "ssim_sd": here["sd"],
        "ssim_elsewhere": elsewhere["value"],
        "ssim_elsewhere_sd": elsewhere["sd"],
    }


def iwae_64_by_drawer(e: Experiment, data: str | Path | None, device: str) -> Iterator[dict]:
    """IWAE-64 of released Omniglot weights for each person who drew, on every third character."""
    model = released_model(e, data, device)
    dataset = datasets.load(OMNIGLOT, data)
    for split, drawers in datasets.DRAWERS.items():
        images = getattr(dataset, split)
        of_characters = images.unflatten(0, (-1, len(drawers)))[::3]  # [character, drawer, pixels]
        flat = of_characters.flatten(0, 1)
        values = scores.iwae_bound(model, flat, [e.seed], f"drawers: {split}")
        for drawer, of_drawer in zip(drawers, values.view(-1, len(drawers)).T, strict=True):
            yield {
                "method": e.method,
                "drawer": drawer,
                "split": split,
                "images": len(of_drawer),
                "iwae_64": of_drawer.mean().item(),
                "iwae_64_sd": of_drawer.std().item(),
            }


MEASURED = {  # table -> what makes its rows of a run, and the kind of released file that it is of
    "logs": (log_blocks, "log"),
    "checkpoints": (log_checkpoint, "log"),
    "drawers": (iwae_64_by_drawer, "model"),
    "best": (ssim_of_best, "best"),
    "proposals": (check_of_proposal, "model"),
}


def figure4_parabolas(folder: str | Path | None = None) -> pd.DataFrame:
    """The parabola nearest to each curve of the report's Figure 4.

    A row for each curve: its values at ``NODES_OF_FIGURE4``, the largest distance of a drawn point
    from it, and the number of points, their mean and their standard deviation.
    """

    def points(path: Path) -> pd.DataFrame:
        raw = path.read_bytes()
        check_hash(hashlib.sha256(raw).hexdigest(), FIGURE4_SHA256)
        return pd.read_csv(io.BytesIO(raw), index_col="beta")

    expected = f"SHA-256 {FIGURE4_SHA256}"
    curves = verified_file(folder, "published", FILE_OF_FIGURE4, FROM_PDF, expected, points)
    rows = []
    for name, values in curves.items():
        parabola = np.polynomial.Polynomial.fit(values.index, values, 2)
        row = {"curve": name.rsplit("_", 1)[1]}
        row |= {f"at_{beta:g}": parabola(beta) for beta in NODES_OF_FIGURE4}
        row["furthest"] = np.abs(parabola(values.index.to_numpy()) - values).max()
        rows.append(row | {"points": len(values), "mean": values.mean(), "sd": values.std()})
    return pd.DataFrame(rows)


def sum_up_figure4(archive: Archive, data: str | Path | None) -> None:
    """Write the table of ``figure4_parabolas``, unless it exists."""
    if archive.table_path("figure4").exists():
        return
    try:
        table = figure4_parabolas(data)
    except ReproError as error:
        print(f"Figure 4 will be left out: {error}", flush=True)
        return
    provenance = code_and_date() | {"from": FROM_PDF, "sha256": FIGURE4_SHA256}
    print(f"wrote {archive.write_table('figure4', table, provenance)}", flush=True)
