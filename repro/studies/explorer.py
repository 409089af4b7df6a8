"""The page with sliders: what it draws, from the measured rows of ``signal.row``.

The page draws for MIWAE(M,K) in the linear Gaussian model. Its estimate is the mean of M
independent ones of IWAE with K samples, so IWAE is measured and the script does the rest: a ratio
is multiplied by the root of M, and the bias and the effective sample size of a group stay.
"""

import json

import numpy as np
import pandas as pd

from repro.records import Archive
from repro.studies.designs import OFFSETS, SWEPT, offset_title
from repro.studies.gradients import ALL_COUNTS, ratio, select, swept
from repro.words.experiments import ESTIMATORS

PAGE = """```{{raw}} html
<div class="explorer" id="explorer">
<script type="application/json">{data}</script>
<noscript>The sliders need JavaScript. The figure below shows the same measurements.</noscript>
</div>
```"""


def as_page(archive: Archive) -> str:
    """The page's part that ``explorer.js`` makes sliders and curves of, with its numbers."""
    return PAGE.format(data=json.dumps(measured(archive), separators=(",", ":")))


def measured(archive: Archive) -> dict:
    """For every offset, by K: SNR of theta and of phi, bias of the bound in nats, and ESS."""
    return {
        "counts": ALL_COUNTS,
        "offsets": OFFSETS,
        "theta": [_ratios(archive, offset, "rep", "theta") for offset in OFFSETS],
        "phi": {name: _of_phi(archive, name) for name in ESTIMATORS},
        "bias": [_means(archive, offset, "bias") for offset in OFFSETS],
        "ess": [_means(archive, offset, "ess") for offset in OFFSETS],
    }


def _of_phi(archive: Archive, estimator: str) -> list[list[float]]:
    return [_ratios(archive, offset, estimator, "phi") for offset in OFFSETS]


def _ratios(archive: Archive, offset: float, estimator: str, net: str) -> list[float]:
    rows = swept(archive, offset_title(offset), estimator)
    return [_short(ratio(rows, layout, net)) for layout in SWEPT]


def _means(archive: Archive, offset: float, column: str) -> list[float]:
    rows: pd.DataFrame = swept(archive, offset_title(offset), "rep")
    return [_short(select(rows, layout)[column].mean()) for layout in SWEPT]


def _short(value: float) -> float:
    """Four significant digits."""
    return float(np.format_float_positional(value, 4, fractional=False, trim="-"))
