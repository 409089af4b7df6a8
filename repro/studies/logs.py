"""What the report's released logs say, from their committed summaries in blocks of 20 epochs."""

import numpy as np
import pandas as pd

from repro.records import Archive
from repro.words.experiments import Experiment


def blocks_of_logs(archive: Archive) -> pd.DataFrame:
    """Means and standard deviations of blocks of 20 epochs; ``group`` names the setting."""
    return archive.table("logs")[0]


def last_block(blocks: pd.DataFrame, setting: str, method: str) -> pd.Series:
    """The last 20 epochs of a run's log."""
    mine = blocks[(blocks.group == setting) & (blocks.method == method)]
    return mine.loc[mine.last_epoch.idxmax()]


def logged(block: pd.Series, metric: str) -> float:
    """The mean of what a block calls IWAE-64, log p-hat or the gap."""
    return block["gap_mean" if metric == "minus_kl" else f"{metric}_mean"]


def spread_of_gap(blocks: pd.DataFrame) -> float:
    """The standard deviation of one epoch's gap over all epochs of one run's blocks."""
    return float(np.sqrt((blocks.gap_sd**2).mean() + blocks.gap_mean.var()))


def leads_in_logs(archive: Archive) -> pd.DataFrame:
    """PIWAE's and MIWAE's logged log p-hat minus IWAE's, by setting and last epoch of 20."""
    blocks = blocks_of_logs(archive)
    log_px = blocks.pivot(index=["group", "last_epoch"], columns="method", values="log_px_mean")
    return log_px.sub(log_px.iwae, axis=0)[["piwae", "miwae"]]


def passed_for_good(leads: pd.Series) -> int | None:
    """The epoch from which on a lead (by epoch) is below 0; None if it is not at the end."""
    ahead = leads.index[leads > 0]
    last_ahead = ahead[-1] if len(ahead) else -1
    after = leads.index[leads.index > last_ahead]
    return int(after[0]) if len(after) else None


def nodes_of(curve: pd.Series) -> dict[float, float]:
    """The values at three betas of a curve in the report's Figure 4."""
    return {float(name[3:]): curve[name] for name in curve.index if name.startswith("at_")}


def checkpoint_of(e: Experiment, archive: Archive) -> pd.Series:
    """A released run's row in the table of best checkpoints."""
    found = archive.table("checkpoints")[0].set_index(["group", "method"])
    return found.loc[e.setting, e.method]
