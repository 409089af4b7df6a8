"""Records -> figures: what the records say, with one colour and marker for each method.

``archive`` is always an ``Archive`` or the folder of one.
"""

from repro import one_of
from repro.studies.audit import logged_gaps, printed_and_corrected
from repro.studies.background import what_a_bound_is
from repro.studies.curves import run_curves, training_curves
from repro.studies.estimator_runs import bounds_and_estimators, by_groups
from repro.studies.figure4 import beta_curves, chosen_beta, reported_betas
from repro.studies.frames import AnyArchive
from repro.studies.gradients import samples_and_clarity, signal_to_noise
from repro.studies.logs import leads, logged_log_px
from repro.studies.pictures import along_a_unit, drawn_samples, posteriors
from repro.studies.preregistered import outcomes
from repro.studies.similarity import grids_elsewhere, method_grids, run_grids
from repro.studies.style import as_vectors, save

__all__ = [
    "FIGURES", "IN_PAGES", "along_a_unit", "as_vectors", "bounds_and_estimators", "by_groups",
    "chosen_beta", "draw", "drawn_samples", "leads", "logged_gaps", "logged_log_px", "posteriors",
    "printed_and_corrected", "reported_betas", "run_curves", "run_grids", "samples_and_clarity",
    "save", "signal_to_noise",
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
