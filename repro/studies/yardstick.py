"""Likelihoods of the generative networks that hardly depend on the inference networks.

``likelihood_runs`` measures them. Methods are compared image by image, and the part of a difference
in log p-hat that is due to the proposal q is measured.

``expected_likelihoods.csv`` was written before any difference between methods was measured. It says
between what bounds, in nats, a method's distance to IWAE is expected: to IWAE with its usual
estimator, in the same setting and from the same source. IWAE has the poorest inference network, so
that its log p-hat should be furthest below log p(x), by 0.2 to 1.5 nats on MNIST. Every lead over
IWAE in log p-hat should therefore shrink and every lag grow: the upper ends are the distances in
log p-hat. PIWAE should be within a quarter of a nat of IWAE in our trainings on MNIST, and the VAE
more than two nats behind but for the larger model.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro.catalogue import DATASETS, MODELS
from repro.records import Archive, Record
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, number
from repro.records.schema import WEIGHTS
from repro.studies import style
from repro.studies.captions import METHOD_TITLES, label
from repro.studies.frames import AnyArchive, framed
from repro.words.experiments import TABLE_METHODS, Experiment

BY_AIS = {"log_p": ("ais",), "gap": ("iwae_64", "ais")}  # metric -> values, the second subtracted
EXPECTED = Path(__file__).with_name("expected_likelihoods.csv")
SETTING_TITLES = {
    "mnist-reference": "MNIST",
    "mnist-larger": "MNIST, larger model",
    "omniglot-reference": "Omniglot",
}
CAPTION = (
    "{what}, of {images} test images in nats, the same binarised images for all models of a "
    "dataset; {chains} chains; ± standard error over the images alone. Several trainings are "
    "averaged."
)


def name_of(record: Record) -> str:
    """The name under which an archive keeps the likelihoods of a record's model."""
    e = record.experiment
    return f"likelihood/{e.profile}-{e.setting_folder}-{e.name}"


def measurable(archive: Archive) -> list[Record]:
    """The records of models whose weights are kept or were released, longest trainings first."""
    full, short = (with_weights(archive, profile, MODELS) for profile in ("full", "short"))
    return [*full, *archive.released.values(), *short]


def with_weights(archive: Archive, profile: str, names: Container[str]) -> list[Record]:
    """The records with weights of a profile, of the project's data and of a model in ``names``.

    Encoders alone are left out, since their decoder was trained elsewhere.
    """
    found = [r for r in archive.records(profile) if (r.path / WEIGHTS).exists()]
    runs = [r for r in found if r.experiment.model in names and r.experiment.decoder == "own"]
    return [r for r in runs if r.experiment.dataset in DATASETS]


def is_compared(e: Experiment) -> bool:
    """True if a run's likelihood is shown in the tables: a method of Table 1, trained as usual."""
    is_usual = e.departs_only_in("epochs", "precision", "estimator")
    return is_usual and e.method in TABLE_METHODS and e.setting in SETTING_TITLES


class Measured(NamedTuple):
    """A model's likelihoods: values of each image by name, and their provenance."""

    record: Record
    values: dict[str, np.ndarray]
    provenance: dict
    count: int = 1  # of the trainings over which the values are means

    @property
    def source(self) -> str:
        """Text on who trained the model: "released", or "ours" with the number of epochs."""
        e = self.record.experiment
        return "released" if e.profile == "published" else f"ours, {e.epochs} epochs"

    @property
    def place(self) -> tuple[str, str]:
        """Titles of the setting (dataset and model) and the source; methods are compared within."""
        return SETTING_TITLES[self.record.experiment.setting], self.source

    def of_images(self, name: str, minus: str = "") -> np.ndarray:
        """The values ``name`` of each image, [n], minus the values ``minus`` if given."""
        return self.values[name] - self.values[minus] if minus else self.values[name]

    def mean(self, name: str, minus: str = "") -> Estimate:
        """The mean over images of ``of_images(name, minus)``, with its standard error."""
        return Estimate.mean_of(self.of_images(name, minus), ErrorOf.IMAGES)


def measured(archive: AnyArchive) -> list[Measured]:
    """The compared models with measured likelihoods, in the order of Table 1 within a source."""
    archive = Archive.of(archive)
    found = measured_of(archive, _compared(archive))
    places = list(dict.fromkeys(m.place for m in found))

    def order(m: Measured) -> tuple:
        e = m.record.experiment
        return places.index(m.place), TABLE_METHODS.index(e.method), e.estimator != "rep", e.seed

    return sorted(found, key=order)


def _compared(archive: Archive) -> list[Record]:
    return [r for r in measurable(archive) if is_compared(r.experiment)]


def measured_of(archive: Archive, runs: Iterable[Record]) -> list[Measured]:
    """The likelihoods of those of the records ``runs`` whose models were measured."""
    found = []
    for record in runs:
        if archive.arrays_path(name_of(record)).exists():
            found.append(Measured(record, *archive.arrays(name_of(record))))
    return found


def apart_by_ais(archive: Archive, a: Sequence[Record], b: Sequence[Record], metric: str):
    """The mean difference in ``metric`` of runs ``a`` minus ``b``, over the seeds measured in both.

    ``metric`` is one of ``BY_AIS``. The standard error is over images; NOT_RUN without such seeds.
    """
    first, second = (_by_seed(archive, runs, metric) for runs in (a, b))
    differences = [first[seed] - second[seed] for seed in first if seed in second]
    if not differences:
        return NOT_RUN
    return Estimate.mean_of(np.mean(differences, axis=0), ErrorOf.IMAGES, len(differences))


def _by_seed(archive: Archive, runs: Sequence[Record], metric: str) -> dict[int, np.ndarray]:
    measured_runs = measured_of(archive, runs)
    return {m.record.experiment.seed: m.of_images(*BY_AIS[metric]) for m in measured_runs}


def beside_iwae(archive: AnyArchive) -> list[tuple[Measured, Measured]]:
    """Pairs of a model and the IWAE, under ``rep``, of the same setting, source and seeds.

    They are of one version of the dataset and one precision, too.
    """
    found = measured(archive)
    usual = {}
    for m in found:
        e = m.record.experiment
        if (e.method, e.estimator) == ("iwae", "rep"):
            usual[_beside(m)] = m
    with_usual = [m for m in found if _beside(m) in usual and usual[_beside(m)] is not m]
    pairs = []
    for several in _by_experiment(with_usual):
        pairs.append((_mean_of(several), _mean_of([usual[_beside(m)] for m in several])))
    return pairs


def _beside(m: Measured) -> tuple:
    e = m.record.experiment
    return m.place, e.seed, e.dataset, e.precision


def averaged(found: Iterable[Measured]) -> list[Measured]:
    """One of each experiment, averaged over its trainings with several seeds."""
    return [_mean_of(several) for several in _by_experiment(found)]


def _by_experiment(found: Iterable[Measured]) -> Iterable[list[Measured]]:
    groups: dict[Experiment, list[Measured]] = {}
    for m in found:
        groups.setdefault(replace(m.record.experiment, seed=0), []).append(m)
    return groups.values()


def _mean_of(several: Sequence[Measured]) -> Measured:
    """Trainings of one experiment as one, with the provenance of the least certain bounds."""
    widest = max(several, key=lambda m: m.provenance["sandwiches"][-1]["width"])
    values = {}
    for name in widest.values:
        of_each = [m.values[name] for m in several]
        values[name] = np.mean(of_each, axis=0)
    return widest._replace(values=values, count=len(several))


def lead(a: Measured, b: Measured, name: str, minus: str = "") -> Estimate:
    """The mean over images of ``of_images(name, minus)`` of model ``a`` minus that of ``b``.

    With "log_px" minus "ais" it is the part of a difference in log p-hat that is due to q.
    """
    return Estimate.mean_of(a.of_images(name, minus) - b.of_images(name, minus), ErrorOf.IMAGES)


# Tables


def likelihood_table(archive: AnyArchive = None) -> pd.DataFrame:
    """Each model's log p(x) by AIS, what log p-hat lacks, and how far q is from the posterior.

    >>> print(likelihood_table().loc[("MNIST", "released", "IWAE(64)"), "log p(x)"])
    −83.74 ± 0.70
    """
    rows = {}
    for key, m in _keyed(averaged(measured(archive))):
        rows[key] = {
            "log p(x)": m.mean("ais"),
            "log p̂ − log p": m.mean("log_px", "ais"),
            "IWAE-64 − log p": m.mean("iwae_64", "ais"),
            "KL(q‖p)": m.mean("ais", "elbo"),
        }
    return _table(rows, archive, "Log-likelihoods")


def lead_table(archive: AnyArchive = None) -> pd.DataFrame:
    """Leads of methods over IWAE: by AIS, by log p-hat, and as they were expected.

    >>> print(lead_table().loc[("MNIST", "released", "VAE"), "expected"])
    −4.10 to −3.09: outside
    """
    expected = pd.read_csv(EXPECTED).set_index(["source", "setting", "method", "estimator"])
    rows = {}
    pairs = beside_iwae(archive)
    for (key, m), (_, iwae) in zip(_keyed([m for m, _ in pairs]), pairs, strict=True):
        e = m.record.experiment
        by_ais = lead(m, iwae, "ais")
        row = {
            "by AIS": by_ais,
            "by log p̂": lead(m, iwae, "log_px"),
            "the proposal's": lead(m, iwae, "log_px", "ais"),
        }
        source = m.source.split(",")[0]
        of_plan = (source, e.setting, e.method, e.estimator)
        if of_plan in expected.index and e.profile != "short":
            low, high = expected.loc[of_plan, ["low", "high"]]
            inside = "inside" if low <= by_ais.value <= high else "outside"
            row["expected"] = f"{number(low)} to {number(high)}: {inside}"
        rows[key] = row | {"expected": row.get("expected", "")}
    return _table(rows, archive, "Leads over IWAE")


def sandwich_table(archive: AnyArchive = None) -> pd.DataFrame:
    """The distance of the bounds on simulated images, and the chains on test images.

    >>> print(sandwich_table().loc[("MNIST", "released", "VAE"), "temperatures"])
    200
    """
    rows = {}
    for key, m in _keyed(averaged(measured(archive))):
        last = m.provenance["sandwiches"][-1]
        width = Estimate(last["width"], last["se"], error_of=ErrorOf.IMAGES, digits=3)
        rows[key] = {
            "temperatures": str(m.provenance["temperatures"]),
            "upper − lower bound": width,
            "accepted": f"{number(100 * m.values['accepted'].mean(), 0)} %",
            "effective chains": number(m.values["ess"].mean(), 1),
            "spread": number(m.values["spread"].mean()),
        }
    return _table(
        rows, archive, "Bounds on simulated images, of several trainings the widest, and the chains"
    )


def _keyed(found: Sequence[Measured]) -> Iterator[tuple[tuple[str, str, str], Measured]]:
    """Each model with the key of its row; where two have the same, their folders are the names."""
    keys = [(*m.place, label(m.record.experiment)) for m in found]
    counts = Counter(keys)
    for m, key in zip(found, keys, strict=True):
        *place, name = key
        if counts[key] > 1:
            name = m.record.experiment.folder
        elif m.count > 1:
            name = f"{name}, {m.count} trainings"
        yield (*place, name), m


def _table(rows: dict, archive: AnyArchive, what: str) -> pd.DataFrame:
    found = measured(archive)
    provenance = found[0].provenance if found else {"chains": 0}
    images = len(found[0].values["ais"]) if found else 0
    caption = CAPTION.format(what=what, images=f"{images:,}", chains=provenance["chains"])
    missing = len(_compared(Archive.of(archive))) - len(found)
    needed = ["python -m repro likelihood"] if missing else []
    return framed(rows, ["setting", "source", "method"], caption, needed)


# Facts for the book's pages


def widest_sandwich(archive: Archive) -> str:
    """The largest mean distance of the AIS bounds, over models, on images that they simulate."""
    widths = [m.provenance["sandwiches"][-1]["width"] for m in measured(archive)]
    return number(max(widths)) if widths else str(NOT_RUN)


# Figure


@style.styled()
def what_the_proposal_gave(archive: AnyArchive = None):
    """Leads over IWAE by log p-hat (open) and by AIS (filled), in each setting."""
    import seaborn as sns

    found = []
    for m, iwae in beside_iwae(archive):
        row = {
            "place": ",\n".join(m.place),
            "model": label(m.record.experiment),
            "method": m.record.experiment.method,
        }
        for name in ("log_px", "ais") if row["method"] in METHOD_TITLES else ():
            nats = lead(m, iwae, name)
            found.append(row | {"open": name == "log_px", "nats": nats, "value": nats.value})
    if not found:
        return style.nothing()
    points = {"linestyle": "none"}
    facets = {"col": "place", "sharex": False}
    grid = style.faceted(pd.DataFrame(found), (8, 3), "model", "nats", points, **facets)
    joined = {"units": "model", "estimator": None, "hue": "method", "palette": style.COLOURS}
    grid.map_dataframe(sns.lineplot, x="model", y="value", legend=False, **joined)
    grid.refline(y=0, color=style.GREY, linewidth=0.8, linestyle=":")
    grid.set_titles("{col_name}", size=8)
    grid.set_axis_labels("", "nats ahead of IWAE")
    grid.tick_params("x", rotation=90, labelsize=7)
    return grid.figure
