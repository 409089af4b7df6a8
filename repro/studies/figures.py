"""Records -> figures: where every figure is found, and the one that needs no record."""

import numpy as np
from scipy.stats import norm

from repro import one_of
from repro.studies.audit import logged_gaps, printed_and_corrected
from repro.studies.curves import leads, logged_log_px, run_curves, training_curves
from repro.studies.estimator_runs import bounds_and_estimators, by_groups
from repro.studies.figure4 import beta_curves, chosen_beta, reported_betas
from repro.studies.frames import AnyArchive
from repro.studies.gradients import samples_and_clarity, signal_to_noise
from repro.studies.pictures import along_a_unit, drawn_samples, posteriors
from repro.studies.preregistered import outcomes
from repro.studies.similarity import grids_elsewhere, method_grids, run_grids
from repro.studies.style import INK, as_vectors, legend_above, save, styled_figure
from repro.studies.yardstick import what_the_proposal_gave

__all__ = [
    "FIGURES", "IN_PAGES", "along_a_unit", "as_vectors", "bounds_and_estimators", "by_groups",
    "chosen_beta", "draw", "drawn_samples", "leads", "logged_gaps", "logged_log_px", "posteriors",
    "printed_and_corrected", "reported_betas", "run_curves", "run_grids", "samples_and_clarity",
    "save", "signal_to_noise", "what_the_proposal_gave",
]  # fmt: skip


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
}

IN_PAGES = ("corrected", "bound", "preregistered")  # committed as SVG in the book's folder


def draw(name: str, profile: str = "best", archive: AnyArchive = None):
    """The report's ``figure1`` to ``figure7``, or one that a page shows, ``IN_PAGES``."""
    return FIGURES[one_of("figure", name, FIGURES)](name, profile, archive)


# One latent variable: z ~ N(0, 1), x | z ~ N(z, 1), and a proposal that is not the posterior.
X = 2.0
PROPOSAL_OF_ONE = norm(0.3, 0.6)
LOG_PX = norm(0, 2**0.5).logpdf(X)
ESTIMATES_DRAWN = 40_000
SHOWN = {1: "#E69F00", 8: "#009E73", 64: "#0072B2"}  # K and its colour: VAE, MIWAE, IWAE
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def what_a_bound_is():
    """The estimate log (1/K) sum w for several K, and its mean, which is the bound."""
    estimates = {K: log_mean_weights(K) for K in SAMPLES}
    with styled_figure(1, 2, (8, 3.2)) as (figure, ((spread, bound),)):
        edges = np.linspace(-4.6, -0.4, 70)
        for K, colour in SHOWN.items():
            line = {"color": colour, "label": f"K = {K}"}
            spread.hist(estimates[K], edges, density=True, histtype="step", **line)
            spread.axvline(estimates[K].mean(), color=colour, linestyle="--", linewidth=1)
        spread.set(title="One estimate", xlabel="log of the mean of K weights", yticks=[])
        means = [estimates[K].mean() for K in SAMPLES]
        bound.plot(SAMPLES, means, color=INK)
        for K, colour in SHOWN.items():
            bound.plot(K, estimates[K].mean(), "o", color=colour)
        bound.axhline(LOG_PX, color=INK, linestyle=":")
        spread.axvline(LOG_PX, color=INK, linestyle=":", label="log p(x)")
        bound.set(title="Its mean: the bound", xlabel="K", ylabel="nats", xscale="log")
        bound.set_xticks(SAMPLES[::2], SAMPLES[::2])
        bound.minorticks_off()
        legend_above(figure, spread, 4)
    return figure


def log_mean_weights(K: int) -> np.ndarray:
    """Draws of log (1/K) sum_k p(x, z_k) / q(z_k)."""
    g = np.random.default_rng(K)
    z = PROPOSAL_OF_ONE.rvs((ESTIMATES_DRAWN, K), random_state=g)
    log_w = norm.logpdf(z) + norm.logpdf(X, z) - PROPOSAL_OF_ONE.logpdf(z)
    return np.logaddexp.reduce(log_w, 1) - np.log(K)
