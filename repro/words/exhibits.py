"""Which runs each table and figure is made of."""

from repro import ReproError, one_of
from repro.catalogue import OMNIGLOT
from repro.words.experiments import PROFILES, TABLE_METHODS, Experiment, plan

BETAS = (0.1, 0.3, 0.5, 0.7, 0.9)  # Figure 4: fixed at these values, and learned from them
KINDS_OF_BETA = {"ciwae": "fixed", "ciwae-learned": "learned"}  # Figure 4's two methods

MNIST_REFERENCE = ("mnist", "reference")
MNIST_LARGER = ("mnist", "larger")
OMNIGLOT_REFERENCE = (OMNIGLOT, "reference")

EXHIBITS = {  # the report's tables and figures -> dataset and model of the runs that each shows
    "table1": (MNIST_REFERENCE, MNIST_LARGER),
    "table2": (MNIST_REFERENCE, OMNIGLOT_REFERENCE),
    "figure1": (MNIST_REFERENCE,),
    "figure2": (OMNIGLOT_REFERENCE,),
    "figure3": (MNIST_LARGER,),
    "figure4": (MNIST_REFERENCE,),
    "figure5": (MNIST_REFERENCE,),
    "figure6": (OMNIGLOT_REFERENCE,),
    "figure7": (MNIST_REFERENCE, OMNIGLOT_REFERENCE),
}
STUDIES = ("snr", "estimators", "audit", "pictures")  # notebooks besides the report's exhibits
IN_SMOKE = ("table1", "figure1", "figure4", "figure5")

SETTINGS = {  # name -> family of the dataset, and model: what the report trained
    "mnist-reference": ("mnist", "reference"),
    "mnist-larger": ("mnist", "larger"),
    "omniglot-reference": ("omniglot", "reference"),
}
CURVES_OF = {  # the figure that shows a setting's curves
    "mnist-reference": "figure1",
    "omniglot-reference": "figure2",
    "mnist-larger": "figure3",
}
LOG_BLOCK = 20  # epochs that the report averages for its tables, and that a log is summed up in


def runs_of(exhibit: str, profile_name: str, omniglot: str = OMNIGLOT) -> list[Experiment]:
    """The runs that a table or figure shows: seed 0, in one profile, on one version of Omniglot.

    The smoke profile has the reference model on its own small data. Raises ReproError if that is
    not enough for the exhibit.
    """
    groups = EXHIBITS[one_of("exhibit", exhibit, EXHIBITS)]
    if profile_name == "smoke":
        if exhibit not in IN_SMOKE:
            raise ReproError(
                f"{exhibit} needs more than the smoke profile has; give profile short or full"
            )
        groups = ((PROFILES["smoke"].dataset, "reference"),)
    methods = "miwae" if exhibit == "figure7" else "all"
    runs = []
    for dataset, model in groups:
        chosen = omniglot if dataset == OMNIGLOT else dataset
        if exhibit == "figure4":
            runs += _runs_of_figure4(chosen, model, profile_name)
        else:
            runs += plan(methods, chosen, model, profile=profile_name)
    return runs


def _runs_of_figure4(dataset: str, model: str, profile_name: str) -> list[Experiment]:
    """CIWAE with each beta, fixed and then learned; 13 epochs in the short profile."""
    betas = ",".join(map(str, BETAS))
    epochs = 13 if profile_name == "short" else None
    words = {"beta": betas, "epochs": epochs, "profile": profile_name}
    return [run for method in KINDS_OF_BETA for run in plan(method, dataset, model, **words)]


def wanted(profile_name: str) -> list[Experiment]:
    """Every run that any exhibit wants in a profile, once."""
    names = IN_SMOKE if profile_name == "smoke" else EXHIBITS
    runs = [e for name in names for e in runs_of(name, profile_name)]
    return list(dict.fromkeys(runs))


def released_runs(omniglot: str = OMNIGLOT) -> list[Experiment]:
    """The fifteen runs whose weights were released, to be measured on a version of Omniglot."""
    layouts = {"iwae": (1, 64), "ciwae": (1, 64), "vae": (64, 1)}
    epochs = PROFILES["published"].epochs
    runs = []
    for family, model in SETTINGS.values():
        dataset = omniglot if family == "omniglot" else family
        for method in TABLE_METHODS:
            M, K = layouts.get(method, (8, 8))
            beta = 0.5 if method == "ciwae" else None
            length = epochs[dataset]
            runs.append(Experiment(method, dataset, model, M, K, beta, 0, length, "published"))
    return runs
