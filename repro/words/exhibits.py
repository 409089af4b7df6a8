"""The runs of which each exhibit, a table or figure of the report, is made."""

from dataclasses import replace

from repro import ReproError, one_of
from repro.catalogue import OMNIGLOT
from repro.words.experiments import PROFILES, SETTINGS, Experiment, plan

BETAS = (0.1, 0.3, 0.5, 0.7, 0.9)  # Figure 4: fixed at these values, and learned from them
KINDS_OF_BETA = {"ciwae": "fixed", "ciwae-learned": "learned"}  # Figure 4's two methods

EXHIBITS = {  # the report's tables and figures -> settings of the runs that each shows
    "table1": ("mnist-reference", "mnist-larger"),
    "table2": ("mnist-reference", "omniglot-reference"),
    "figure1": ("mnist-reference",),
    "figure2": ("omniglot-reference",),
    "figure3": ("mnist-larger",),
    "figure4": ("mnist-reference",),
    "figure5": ("mnist-reference",),
    "figure6": ("omniglot-reference",),
    "figure7": ("mnist-reference", "omniglot-reference"),
}
STUDIES = ("snr", "estimators", "audit", "likelihood", "pictures")  # notebooks of no exhibit
NOTEBOOKS = (*EXHIBITS, *STUDIES)
IN_SMOKE = ("table1", "figure1", "figure4", "figure5")

CURVES_OF = {  # the figure that shows a setting's curves
    "mnist-reference": "figure1",
    "omniglot-reference": "figure2",
    "mnist-larger": "figure3",
}
LOG_BLOCK = 20  # epochs that the report averages for its tables, and that a log is summed up in


def runs_of(exhibit: str, profile: str, omniglot: str = OMNIGLOT) -> list[Experiment]:
    """The runs with seed 0 that ``exhibit``, a table or figure of the report, shows.

    ``omniglot`` is the version of that dataset. The smoke profile has the reference model on its
    own small data. Raises ReproError if that is not enough for the exhibit.

    >>> [e.method for e in runs_of("figure1", "full")]
    ['iwae', 'piwae', 'miwae', 'ciwae', 'vae']
    """
    settings = [SETTINGS[name] for name in EXHIBITS[one_of("exhibit", exhibit, EXHIBITS)]]
    if profile == "smoke":
        if exhibit not in IN_SMOKE:
            raise ReproError(
                f"{exhibit} needs more than the smoke profile has; give profile short or full"
            )
        settings = [(PROFILES["smoke"].dataset, "reference")]
    words = {"method": "miwae" if exhibit == "figure7" else "all", "profile": profile}
    if exhibit == "figure4":
        words |= {"method": [*KINDS_OF_BETA], "beta": [*BETAS]}
        if profile == "short":
            words["epochs"] = 13
    runs = []
    for family, model in settings:
        dataset = {"omniglot": omniglot}.get(family, family)
        runs += plan(dataset=dataset, model=model, **words)
    return runs


def released_runs(omniglot: str = OMNIGLOT) -> list[Experiment]:
    """The fifteen runs whose weights the report released; ``omniglot`` is the data's version."""
    exhibits = ("table1", "figure2")  # which show all three settings
    runs = [e for name in exhibits for e in runs_of(name, "full", omniglot)]
    return [replace(e, profile="published") for e in runs]
