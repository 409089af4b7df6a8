"""The page with sliders: what it draws, from the measured rows of ``signal.row``.

The page draws for MIWAE(M,K) in the linear Gaussian model. Its estimate is the mean of M
independent ones of IWAE with K samples, so IWAE is measured and the script does the rest: a ratio
is multiplied by the root of M, and the bias and the effective sample size of a group stay.
"""

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from repro.records import Archive
from repro.studies.designs import OFFSETS, SWEPT, Layout, offset_title
from repro.studies.gradients import ALL_COUNTS, effective_samples, ratio, select, swept
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
        "theta": _by_count(archive, "rep", partial(ratio, net="theta")),
        "phi": {name: _by_count(archive, name, partial(ratio, net="phi")) for name in ESTIMATORS},
        "bias": _by_count(archive, "rep", lambda rows, layout: select(rows, layout).bias.mean()),
        "ess": _by_count(archive, "rep", effective_samples),
    }


def _by_count(
    archive: Archive, estimator: str, statistic: Callable[[pd.DataFrame, Layout], float]
) -> list[list[float]]:
    """A statistic at every offset for every K, to four significant digits: [offset][K]."""
    found = []
    for offset in OFFSETS:
        rows = swept(archive, offset_title(offset), estimator)
        values = [statistic(rows, layout) for layout in SWEPT]
        short = [np.format_float_positional(v, 4, fractional=False, trim="-") for v in values]
        found.append(list(map(float, short)))
    return found
