"""Designs of the studies of gradients, with the theory's expectations, and of pictures.

``gradient_runs`` and ``planes`` measure, ``gradients`` and ``figures`` show.
"""

from collections.abc import Collection
from typing import NamedTuple

from repro.bounds import USUAL_BETA, Layout, usual_layout
from repro.catalogue import OMNIGLOT
from repro.words.experiments import TABLE_METHODS

COUNTS = (1, 4, 16, 64, 256)  # K of IWAE
IWAE_SWEPT = tuple(Layout("iwae", 1, K) for K in COUNTS)
AT_T = tuple(map(usual_layout, TABLE_METHODS))
LAYOUTS = tuple(dict.fromkeys(IWAE_SWEPT + AT_T))

LINEAR_GAUSSIAN = {  # place -> offset from the best parameters, and replicates
    "linear Gaussian, near the optimum": (0.01, 20_000),
    "linear Gaussian, further away": (0.1, 2000),
}


class Weights(NamedTuple):
    """Weights of the reference model: ``whose`` are nobody's (untrained), the report's or ours."""

    dataset: str
    whose: str
    method: str = "iwae"


NETWORKS = {  # place -> weights
    "MNIST, untrained": Weights("mnist", "nobody"),
    "MNIST, the report's IWAE": Weights("mnist", "report"),
}
NETWORKS_OF_ESTIMATORS = NETWORKS | {
    "MNIST, the report's MIWAE": Weights("mnist", "report", "miwae"),
    "MNIST, the report's VAE": Weights("mnist", "report", "vae"),
    "Omniglot, our IWAE": Weights(OMNIGLOT, "ours"),
}
PROBLEMS = 10  # in the linear Gaussian model

GRADIENT_BATCHES = 5  # in networks
GRADIENT_BATCH_SIZE = 20
REPLICATES = 60

# Bounds whose gradient is estimated in every way, at T samples
OF_ESTIMATORS = tuple(map(usual_layout, ("iwae", "miwae", "u-miwae", "ciwae", "vr-iwae", "vae")))

OFFSETS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)  # in the linear Gaussian model, of the sweep


def offset_title(offset: float) -> str:
    """The name of the linear Gaussian model at an offset from its best parameters."""
    return f"linear Gaussian, offset {offset:g}"


SWEPT = tuple(Layout("iwae", 1, 2**power) for power in range(9))
SWEPT_REPLICATES = 1000
CIWAE_SWEPT = tuple(Layout("ciwae", 1, K) for K in COUNTS)
MIWAE_SWEPT = tuple(Layout("miwae", 8, K) for K in COUNTS)  # in networks
LOOSER_OFFSETS = (0.01, 0.1)  # for CIWAE; MIWAE's estimate is a mean of IWAE's
LOOSER_ESTIMATORS = ("rep", "drep")

# ``rws`` has no gradient with one sample in a group. CIWAE's is IWAE's times 1 - beta, and in the
# sweep MIWAE's estimate is a mean of IWAE's, so that of the sweep IWAE alone is measured.
BEFORE_RWS = ("rep", "stl", "drep")
OF_RWS = tuple(layout for layout in dict.fromkeys(OF_ESTIMATORS + IWAE_SWEPT) if layout.K > 1)
OF_MOST = ((Layout("iwae", 1, 512),), ("rep", "drep", "rws"))
FROM_FOUR = IWAE_SWEPT[1:] + OF_MOST[0]

THEORY = {"theta": 0.5, "phi": -0.5}  # d log SNR / d log K for many samples

AS_RECORDED = {  # what the provenance of the measurements says of them
    "linear_gaussian": LINEAR_GAUSSIAN,
    "problems": PROBLEMS,
    "beta": USUAL_BETA,
    "batches": GRADIENT_BATCHES,
    "batch_size": GRADIENT_BATCH_SIZE,
    "replicates": REPLICATES,
    "offsets": OFFSETS,
    "swept_replicates": SWEPT_REPLICATES,
}


class Design(NamedTuple):
    """Layouts and estimators of a table of gradients, and the models in which to measure them."""

    networks: Collection[str]
    in_networks: tuple
    linear_gaussian: Collection[str] = ()  # places with all of ``LAYOUTS``
    offsets: Collection[float] = ()
    at_offsets: tuple = (SWEPT, BEFORE_RWS)


DESIGNS = {  # by the name of the table
    "gradients": Design(NETWORKS, (LAYOUTS,), LINEAR_GAUSSIAN),
    "estimators": Design(NETWORKS_OF_ESTIMATORS, (OF_ESTIMATORS, BEFORE_RWS)),
    "samples": Design(NETWORKS_OF_ESTIMATORS, (IWAE_SWEPT, BEFORE_RWS), offsets=OFFSETS),
    "looser": Design(
        NETWORKS_OF_ESTIMATORS,
        (MIWAE_SWEPT + CIWAE_SWEPT, LOOSER_ESTIMATORS),
        offsets=LOOSER_OFFSETS,
        at_offsets=(CIWAE_SWEPT, LOOSER_ESTIMATORS),
    ),
    "wake": Design(
        NETWORKS_OF_ESTIMATORS,
        (OF_RWS, ("rws",)),
        offsets=OFFSETS,
        at_offsets=(SWEPT[1:], ("rws",)),
    ),
    "most": Design(NETWORKS_OF_ESTIMATORS, OF_MOST, offsets=LOOSER_OFFSETS, at_offsets=OF_MOST),
}


# Pictures of trained models with two latent variables

PLANE_LAYOUTS = tuple(map(usual_layout, ("vae", "miwae", "iwae")))
PLANE_IMAGES = 4  # of the test set, whose posteriors are drawn
