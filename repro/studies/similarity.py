"""The report's SSIM values beside the released weights', and what its best checkpoints explain.

``archive`` is always an ``Archive`` or the folder of one.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro import ReproError
from repro.records import Archive, Record, omniglot_of
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate
from repro.studies.captions import METHOD_TITLES, about_released
from repro.studies.logs import checkpoint_of
from repro.studies.reported import SSIM, TABLE2_OMNIGLOT, Row
from repro.studies.tables import AnyArchive, Rows, for_methods, framed, ssim_on
from repro.words.exhibits import SETTINGS
from repro.words.experiments import TABLE_METHODS

NEAR = {3: 0.005, 2: 0.01}  # a printed SSIM of so many digits is confirmed within this distance


class SsimVerdict(StrEnum):
    """What a printed SSIM is."""

    CONFIRMED = "confirmed"
    CHECKPOINT = "fits best checkpoint"
    DIFFERS = "differs"


class PrintedRow(NamedTuple):
    """A row of SSIM values that the report prints."""

    name: str
    trained: str
    tested: str
    printed: Row

    @property
    def title(self) -> str:
        """As it stands in the table."""
        return f"{self.name}: {self.trained} to {self.tested}"


PRINTED = (
    PrintedRow("Figure 5", "mnist", "mnist", SSIM["mnist"]["mnist"]),
    PrintedRow("Figure 6", "omniglot", "omniglot", SSIM["omniglot"]["omniglot"]),
    PrintedRow("Table 2", "mnist", "omniglot", SSIM["mnist"]["omniglot"]),
    PrintedRow("Table 2", "omniglot", "omniglot", TABLE2_OMNIGLOT),
)


class Comparison(NamedTuple):
    """A printed SSIM, the last epoch's (None if not measured), and the best checkpoint's."""

    printed: Estimate
    again: Estimate | None
    checkpoint: Estimate | None

    @property
    def verdict(self) -> SsimVerdict | None:
        """What the printed value is; None if the weights were not measured."""
        if self.again is None:
            return None
        near = NEAR[self.printed.digits]
        if abs(self.printed.value - self.again.value) <= near:
            return SsimVerdict.CONFIRMED
        if self.checkpoint and abs(self.printed.value - self.checkpoint.value) <= near:
            return SsimVerdict.CHECKPOINT
        return SsimVerdict.DIFFERS


def comparisons(archive: Archive) -> dict[str, dict[str, Comparison]]:
    """Every printed SSIM beside the released weights', by exhibit and method."""
    released = archive.released
    best = best_checkpoints(archive)
    found = {}
    for exhibit in PRINTED:
        of_setting = archive.released_of(exhibit.trained, "reference")
        models = {r.experiment.method: r for r in of_setting}
        version = exhibit.tested
        if version == "omniglot":
            version = omniglot_of(released.values())
        column = "ssim" if exhibit.tested == exhibit.trained else "ssim_elsewhere"
        row = {}
        for m in TABLE_METHODS:
            again = _spread(ssim_on(models[m], version)) if m in models else None
            printed = exhibit.printed[m]
            row[m] = Comparison(printed, again, best.get((exhibit.trained, m, column)))
        found[exhibit.title] = row
    return found


def best_checkpoints(archive: Archive) -> dict[tuple[str, str, str], Estimate]:
    """SSIM of the best checkpoints of the reference model, by dataset, method and column."""
    try:
        table = archive.table("best")[0]
    except ReproError:
        return {}
    found = {}
    for row in table[table.group.str.endswith("-reference")].itertuples():
        for column in ("ssim", "ssim_elsewhere"):
            value = getattr(row, column)
            sd = getattr(row, f"{column}_sd")
            spread = Estimate(value, sd, error_of=ErrorOf.SPREAD, digits=3)
            found[row.group.split("-")[0], row.method, column] = spread
    return found


def _spread(measured: dict[str, float] | None) -> Estimate | None:
    if measured is None:
        return None
    return Estimate(measured["value"], measured["sd"], error_of=ErrorOf.SPREAD, digits=3)


def verdicts(archive: Archive, title_prefix: str) -> list[SsimVerdict]:
    """The verdicts on all measured values of the exhibits whose title starts so."""
    rows = [row for title, row in comparisons(archive).items() if title.startswith(title_prefix)]
    return [c.verdict for row in rows for c in row.values() if c.verdict]


def ssim_table(archive: AnyArchive = None) -> pd.DataFrame:
    """The printed SSIM values beside the weights'; ± standard deviation over the images."""
    archive = Archive.of(archive)
    rows: Rows = {}
    for title, row in comparisons(archive).items():
        shown = {m: _shown(c) for m, c in row.items()}
        for source in ("printed", "again", "difference", "best checkpoint", "verdict"):
            cells = for_methods({m: of_method[source] for m, of_method in shown.items()})
            if source != "best checkpoint" or any(cells.values()):
                rows[title, source] = cells
    used = [r for r in archive.released.values() if r.experiment.model == "reference"]
    error = "± standard deviation over the test images"
    return framed(rows, ["what", "source"], **about_released(used, 10, error))


def _shown(c: Comparison) -> dict[str, object]:
    """What the table shows of a printed value, by source."""
    shown: dict[str, object] = {"printed": c.printed, "again": NOT_RUN, "difference": ""}
    if c.again:
        shown["again"] = c.again
        shown["difference"] = Estimate(c.printed.value - c.again.value, digits=3)
    shown["best checkpoint"] = c.checkpoint or ""
    shown["verdict"] = c.verdict or ""
    return shown


def checkpoints(archive: AnyArchive = None) -> pd.DataFrame:
    """The checkpoint that the released code calls best: by how many images it was chosen, and when.

    And how training ended. The choice is log p-hat of the first K batches of 20. Its noise, the
    standard deviation of the choice about log p-hat over the last 200 epochs of the log, is beside
    that of the mean of so many random images. Slope: of log p-hat over the last eighth.
    """
    archive = Archive.of(archive)
    released = archive.released
    rows: Rows = {}
    for dataset, model in SETTINGS.values():
        for m in TABLE_METHODS:
            if (dataset, model, m) in released:
                row = _row_of_checkpoint(released[dataset, model, m], archive)
                rows[f"{dataset}, {model}", METHOD_TITLES[m]] = row
    caption = (
        "From the released logs (results/published/checkpoints.csv). "
        "Slope: nats of log p̂ per 1000 epochs, over the last eighth of them."
    )
    missing = about_released([*released.values()], 15)["missing"]
    return framed(rows, ["released logs", "method"], caption, missing)


def _row_of_checkpoint(record: Record, archive: Archive) -> dict[str, object]:
    mine = checkpoint_of(record.experiment, archive)
    values = record.images["log_px"]
    images = 20 * int(mine.batches)
    of_so_many = values.std(ddof=1) * np.sqrt(1 / images - 1 / len(values))
    best: dict[str, object] = {"best epoch": "continued", "log p̂ there − at the end": ""}
    if not mine.continued:
        best["best epoch"] = f"{mine.best_epoch:.0f} of {mine.epochs}"
        best["log p̂ there − at the end"] = Estimate(mine.log_px_there - mine.log_px_end)
    return {
        "images": f"{images:,}",
        "noise": Estimate(mine.choice_sd),
        "of so many": Estimate(of_so_many),
        **best,
        "slope at the end": Estimate(mine.slope, mine.slope_se),
    }
