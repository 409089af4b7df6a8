"""Records -> figures: where every figure is found, and the one that needs no record."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from repro import one_of
from repro.studies import style
from repro.studies.audit import logged_gaps, printed_and_corrected
from repro.studies.curves import leads, logged_log_px, run_curves, training_curves
from repro.studies.estimator_runs import bounds_and_estimators, by_groups
from repro.studies.figure4 import beta_curves, chosen_beta, reported_betas
from repro.studies.frames import AnyArchive
from repro.studies.gradients import (
    samples_and_clarity,
    signal_to_noise,
    snr_in_training,
    wake_sleep_and_clarity,
)
from repro.studies.headline import piwae_beside_iwae
from repro.studies.other_networks import ahead_of_iwae
from repro.studies.pictures import along_a_unit, drawn_samples, posteriors
from repro.studies.preregistered import outcomes
from repro.studies.similarity import grids_elsewhere, method_grids, run_grids
from repro.studies.style import as_vectors, save
from repro.studies.yardstick import what_the_proposal_gave

FIGURES = {
    "figure1": training_curves,
    "figure2": training_curves,
    "figure3": training_curves,
    "figure4": beta_curves,
    "figure5": method_grids,
    "figure6": method_grids,
    "figure7": grids_elsewhere,
    "corrected": lambda name, profile, archive: printed_and_corrected(archive),  # of no profile
    "bound": lambda name, profile, archive: what_a_bound_is(),  # of no record
    "preregistered": lambda name, profile, archive: outcomes(archive),
    "headline": lambda name, profile, archive: piwae_beside_iwae(archive),
    "other_networks": lambda name, profile, archive: ahead_of_iwae(archive),
}

# The book's folder has these as SVG.
IN_PAGES = ("corrected", "bound", "preregistered", "headline", "other_networks")


def draw(name: str, profile: str = "best", archive: AnyArchive = None):
    """Draw the report's ``figure1`` to ``figure7``, or one that a page shows, ``IN_PAGES``.

    >>> [ax.get_title() for ax in draw("figure1").axes[:2]]
    ['report: (a) logged as IWAE-64', 'report: (b) log p̂(x), logged']
    """
    return FIGURES[one_of("figure", name, FIGURES)](name, profile, archive)


# One latent variable: z ~ N(0, 1), x | z ~ N(z, 1), and a proposal that is not the posterior.
X = 2.0
PROPOSAL_OF_ONE = norm(0.3, 0.6)
LOG_PX = norm(0, 2**0.5).logpdf(X)
ESTIMATES_DRAWN = 40_000
SHOWN = {1: "#E69F00", 8: "#009E73", 64: "#0072B2"}  # K and its colour: VAE, MIWAE, IWAE
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@style.styled()
def what_a_bound_is():
    """The estimate log (1/K) sum w for several K, and its mean, which is the bound."""
    import seaborn as sns

    draws = pd.DataFrame({K: log_mean_weights(K) for K in SAMPLES})
    bounds = draws.mean()
    figure, ((spread, bound),) = style.subplots(1, 2, (8, 3.2))
    steps = {"element": "step", "fill": False, "stat": "density", "common_norm": False}
    bins = {"bins": 70, "binrange": (-4.6, -0.4)}
    shown = draws[[*SHOWN]]
    sns.histplot(shown, palette=SHOWN, legend=False, ax=spread, **bins, **steps)
    bound.plot(bounds, color=style.INK)
    for K, colour in SHOWN.items():
        spread.axvline(bounds[K], color=colour, linestyle="--", linewidth=1)
        bound.plot(K, bounds[K], "o", color=colour)
    truth = {"color": style.INK, "linestyle": ":"}
    spread.axvline(LOG_PX, **truth)
    bound.axhline(LOG_PX, **truth)
    spread.set(title="One estimate", xlabel="log of the mean of K weights", yticks=[], ylabel="")
    bound.set(title="Its mean: the bound", xlabel="K", ylabel="nats")
    style.counts_below(bound, SAMPLES[::2])
    named = {f"K = {K}": {"color": colour} for K, colour in SHOWN.items()}
    style.legend_above(figure, named | {"log p(x)": truth})
    return figure


def log_mean_weights(K: int) -> np.ndarray:
    """Draw ``ESTIMATES_DRAWN`` values of log (1/K) sum_k p(x, z_k) / q(z_k)."""
    g = np.random.default_rng(K)
    z = PROPOSAL_OF_ONE.rvs((ESTIMATES_DRAWN, K), random_state=g)
    log_w = norm.logpdf(z) + norm.logpdf(X, z) - PROPOSAL_OF_ONE.logpdf(z)
    return np.logaddexp.reduce(log_w, 1) - np.log(K)
