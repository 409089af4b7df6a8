"""A plan, written before the first of its runs: do the findings hold beyond one network?

**Runs.** Two models that are unlike the paper's are trained on MNIST by IWAE, MIWAE(8,8),
PIWAE(8,8) and the VAE under ``rep`` and by IWAE under ``rws``, with 64 samples, for four epochs and
with seeds 2 to 4, in single precision on a CPU. *Convolutional* is ``twenty`` in
``examples/own_loop.py``: 20 latent units, and pixels as they are, grey, under normal distributions
whose standard deviation is 0.3. *Two layers* is ``burdas`` in ``examples/two_layers.py``: 100 and
50 latent units in two stochastic layers, and binarised pixels. The last 1,000 training images are
held out, and all scores are of them; log p(x) is by annealed importance sampling of 200 of them.

**Analysis.** As in ``rival``, with one difference: three seeds tell little of a standard deviation,
so it is taken from all five sides at once, with eight degrees of freedom. That assumes that all
sides vary alike. The intervals of one network hold together with 95 % probability.

Four epochs are short. What is asked is whether the order that they leave in the reference model is
left here, too, not where long trainings end. Nothing like it had been run when this was written.
"""

from pathlib import Path

import pandas as pd

from repro.records import Archive
from repro.records.estimates import NOT_RUN
from repro.studies import rival, style
from repro.studies.frames import AnyArchive
from repro.studies.preregistered import Interval
from repro.studies.rival import Part, Prediction, interval_of_prediction

EXAMPLES = Path(__file__).parents[2] / "examples"
PREDICTIONS = (
    Prediction("PIWAE's gap is smaller than IWAE's", "piwae rep", "iwae rep", "gap", 0.1),
    Prediction("Its generative network is not worse", "piwae rep", "iwae rep", "log_p", -0.1),
    Prediction("MIWAE's gap is smaller than IWAE's", "miwae rep", "iwae rep", "gap", 0.1),
    Prediction("Its generative network is worse", "iwae rep", "miwae rep", "log_p", 0.1),
    Prediction("Wake-sleep's gap is smaller than IWAE's", "iwae rws", "iwae rep", "gap", 0.1),
    Prediction("The VAE's generative network is worse", "iwae rep", "vae rep", "log_p", 0.1),
)
COMMON_WORDS = {
    "profile": "short",
    "dataset": "mnist",
    "epochs": 4,
    "seed": [2, 3, 4],
    "held_out": 1000,
}
CONVOLUTIONAL = {"model": f"{EXAMPLES / 'own_loop.py'}:twenty", "binarise": "no"}
TWO_LAYERS = {"model": f"{EXAMPLES / 'two_layers.py'}:burdas"}
OTHER_NETWORKS = {
    "convolutional": Part(PREDICTIONS, COMMON_WORDS | CONVOLUTIONAL, pooled=True),
    "two layers": Part(PREDICTIONS, COMMON_WORDS | TWO_LAYERS, pooled=True),
}


def outcomes_in(archive: Archive, name: str) -> str:
    """The predictions in one of ``OTHER_NETWORKS``, and what became of them."""
    return rival.table_of(archive, OTHER_NETWORKS[name])


def ahead_by(archive: Archive, name: str, side: str, metric: str):
    """Nats ahead of IWAE in one of ``OTHER_NETWORKS``; ``NOT_RUN`` until all runs are there."""
    part = OTHER_NETWORKS[name]
    return NOT_RUN if rival.lacking(archive, part) else _ahead_in(archive, part, side, metric)


def _ahead_in(archive: Archive, part: Part, side: str, metric: str) -> Interval:
    return interval_of_prediction(archive, part, Prediction("", side, "iwae rep", metric, 0.0))


@style.styled()
def ahead_of_iwae(archive: AnyArchive = None):
    """Nats ahead of IWAE of the other sides in each network, in the gap, log p(x) and IWAE-64.

    Bars: the intervals of ``interval_of_prediction``.
    """
    import seaborn as sns

    archive = Archive.of(archive)
    found = []
    for name, part in OTHER_NETWORKS.items():
        if rival.lacking(archive, part):
            continue
        for side in part.sides:
            for metric in ("gap", "log_p", "iwae_64"):
                for nats in _ahead_in(archive, part, side, metric):
                    what = {"side": side.removesuffix(" rep").upper(), "nats": nats}
                    found.append(what | {"network": name, "in": rival.TITLES_OF_METRICS[metric]})
    if not found:
        return style.nothing()
    data = pd.DataFrame(found)
    panels = {"row": "network", "col": "in", "sharex": False, "height": 1.6, "aspect": 1.5}
    look = {"errorbar": ("pi", 100), "estimator": "median", "linestyle": "none", "color": style.INK}
    places = {"x": "nats", "y": "side"}
    grid = sns.catplot(data[data.side != "IWAE"], kind="point", **places, **panels, **look)
    grid.refline(x=0, color=style.GREY, linewidth=0.8)
    grid.set_axis_labels("nats ahead of IWAE", "")
    grid.set_titles("{row_name}: {col_name}")
    return grid.figure
