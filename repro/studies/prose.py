"""Numbers for the book's prose, drawn from the records when the book is built.

A page asks for ``n.value("mnist-reference", "iwae", "log_px")`` in double braces, and the
``Estimate`` that comes back becomes text there.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

import repro
from repro import one_of, plural, records
from repro.catalogue import MODELS, OMNIGLOT
from repro.records import Record
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, number, over_seeds, pooled
from repro.studies import (
    audit,
    claims,
    curves,
    evidence,
    figure4,
    gradients,
    preregistered,
    reported,
    similarity,
    stacks,
    yardstick,
)
from repro.studies.designs import NETWORKS_OF_ESTIMATORS, SWEPT, offset_title
from repro.studies.estimator_runs import (
    BOTH_EARLIER,
    BOTH_LONGER,
    BOTH_NETWORKS,
    ENCODER_ALONE,
    EstimatorRuns,
    log_px_of_one_decoder,
)
from repro.studies.evidence import Evidence, rounded_up
from repro.studies.reported import FIGURE4, TABLE1
from repro.training.costs import DEVICE_COSTS
from repro.words.exhibits import SETTINGS
from repro.words.experiments import Experiment, plan

TRAININGS = {  # as pages name them
    "both": BOTH_NETWORKS,
    "earlier": BOTH_EARLIER,
    "longer": BOTH_LONGER,
    "alone": ENCODER_ALONE,
}
LAST_COUNTS = (64, 256)  # of K, between which rates are given
ESS_OF_MOST = functools.partial(gradients.effective_samples, layout=SWEPT[-1])
FACTS: dict[str, Callable[..., object]] = {  # what a study says in words, Markdown or HTML
    "others": reported.table_of_others,
    "stacks": stacks.table_of_costs,
    "error of costs": stacks.largest_error,
    "compute": stacks.compute,
    "energy": stacks.energy,
    "hypotheses": preregistered.table_of_outcomes,
    "cost of the test": preregistered.cost,
    "sliders": gradients.sliders,
    "one decoder": log_px_of_one_decoder,
    "likelihood": yardstick.cell,
    "slack": yardstick.slack,
    "widest sandwich": yardstick.widest_sandwich,
}


@dataclass(frozen=True)
class Numbers(Evidence):
    """Numbers that the book's prose may ask; two are equal if their records and code are."""

    fingerprint: str = field(init=False)

    def __post_init__(self):
        folder = records.results_folder(self.results)
        package = Path(repro.__file__).parent
        files = [*sorted(package.rglob("*.py")), *sorted(package.rglob("*.csv"))]
        files += sorted(folder.glob("published/*.csv"))
        for profile in ("published", "short", "full"):
            files += sorted(folder.glob(f"{profile}/*/*/metrics.json"))
        digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
        together = hashlib.sha256(b"".join(digests)).hexdigest()
        object.__setattr__(self, "fingerprint", together)

    def __getstate__(self) -> dict:
        """Without the archive: the book's builder keeps a copy of this on disk."""
        return {"results": self.results, "fingerprint": self.fingerprint}

    def fact(self, name: str, *asked: object) -> object:
        """A number or words of a study, a name in ``FACTS``, for what the page asks."""
        return FACTS[one_of("fact", name, FACTS)](self.archive, *asked)

    def cell(self, table: str, row: str, column: str, digits: int = 2) -> Estimate:
        """A cell of a table beside the records: of a curve, or of a setting and a method."""
        found = self.archive.table(table)[0]
        names = found.curve if "curve" in found else found.setting + " " + found.method
        (value,) = found[names == row][column]
        return Estimate(value, digits=digits)

    def range_over(self, table: str, quantity: str, setting: str = "", digits: int = 2) -> str:
        """From the lowest to the highest of a quantity over a table beside the records.

        It may be calculated, "rise / predicted"; and over one setting's rows alone.
        """
        found = self.archive.table(table)[0]
        of_setting = found.setting.str.startswith(setting)
        return _from_to(found[of_setting].eval(quantity), digits)

    def design(self, table: str, name: str) -> int:
        """A number of a table's design, from its provenance."""
        return self.archive.table(table)[1][name]

    # One setting

    def value(self, setting: str, method: str, metric: str, whose: str = "weights"):
        """A metric with its error; ``ssim_on_omniglot`` is on whichever version was measured."""
        everyone = self.runs(setting, whose=whose)
        runs = [r for r in everyone if r.experiment.method == method]
        names = (name for r in runs for name in r.metrics if name.startswith(metric))
        full_name = next(names, metric)
        found = [r for r in runs if full_name in r.metrics]
        among = [r for r in everyone if full_name in r.metrics]
        return _over_seeds(found, full_name, among)

    def printed(self, source: str, setting: str, method: str, metric: str) -> Estimate:
        """The value that the paper or the report prints in Table 1."""
        return TABLE1[source][SETTINGS[setting][1]][metric][method]

    def below(self, setting: str, method: str):
        """The distance of the released weights' ELBO from log p-hat: KL(q || p(z|x))."""
        runs = self.runs(setting, method)
        if not runs:
            return NOT_RUN
        images = runs[0].images
        return Estimate.mean_of(images["log_px"] - images["elbo"], ErrorOf.IMAGES)

    def binarisation(self, setting: str) -> str:
        """The deviation of IWAE-64 between binarisations: the lowest and the highest."""
        runs = self.runs(setting)
        return _from_to([r.metrics["iwae_64"]["binarisation_sd"] for r in runs])

    # While training goes on

    def lead(self, setting: str, method: str, epoch: int) -> Estimate:
        """A method's lead over IWAE in a log's log p-hat, in the 20 epochs that end there."""
        return Estimate(self._leads(setting, method)[epoch])

    def passed(self, setting: str, method: str) -> str:
        """The epoch from which on the report's log has IWAE ahead in log p-hat."""
        return str(curves.passed_for_good(self._leads(setting, method)) or "never")

    def _leads(self, setting: str, method: str) -> pd.Series:
        return curves.leads_in_logs(self.archive)[method][setting]

    def after(self, setting: str, method: str, epoch: int):
        """IWAE-64 of our short run with seed 0 after an epoch."""
        runs = [r for r in self.runs(setting, method, "short") if r.experiment.seed == 0]
        values = [r.curve.set_index("epoch").iwae_64.get(epoch) for r in runs]
        return Estimate(values[0]) if values and values[0] is not None else NOT_RUN

    def gain_of_size(self, method: str, metric: str):
        """The larger model's lead over the reference model: the released weights, paired."""
        larger = self.runs("mnist-larger", method)
        reference = self.runs("mnist-reference", method)
        return evidence.difference(self.archive, larger, reference, metric)

    def faster(self, method: str, epoch: int):
        """The larger model's lead in IWAE-64 after as many epochs: our runs, seed 0."""
        larger = self.after("mnist-larger", method, epoch)
        reference = self.after("mnist-reference", method, epoch)
        return larger - reference if larger and reference else NOT_RUN

    # The released code's best checkpoints

    def highest(self, score: str) -> Estimate:
        """The highest logged ``iwae_64`` or ``log_px`` of CIWAE and the VAE on MNIST.

        They are those whose best checkpoint was chosen by one batch of 20 images.
        """
        found = self.archive.table("checkpoints")[0]
        of_one_batch = (found.batches == 1) & found.setting.str.startswith("mnist")
        return Estimate(found[of_one_batch][f"highest_{score}"].max())

    def ssim_of_best(self, dataset: str, method: str) -> Estimate:
        """SSIM of the checkpoint called best, on its own dataset; ± standard deviation."""
        return similarity.best_checkpoints(self.archive)[dataset, method, "ssim"]

    def furthest_ssim_of_best(self) -> str:
        """The largest distance of a printed SSIM of Figures 5 and 6 from the best checkpoint's."""
        rows = similarity.comparisons(self.archive)
        of_figures = [row for title, row in rows.items() if title.startswith("Figure")]
        found = [c for row in of_figures for c in row.values()]
        return rounded_up(max(abs(c.printed.value - c.checkpoint.value) for c in found))

    def drawers(self, method: str, split: str) -> Estimate:
        """A released Omniglot model's IWAE-64 minus IWAE's, over the drawers of a split."""
        of_split = audit.by_drawer(self.archive.table("drawers")[0])[split]
        ahead = of_split[method] - of_split.iwae
        return Estimate.mean_of(ahead, ErrorOf.DRAWS)

    # Figure 4

    def furthest_in_figure4(self) -> str:
        """The largest distance of a point of the report's Figure 4 from its parabola."""
        return rounded_up(self.archive.table("figure4")[0].furthest.max())

    def figure4(self, name: str) -> Estimate:
        """A value that the report prints for Figure 4."""
        return FIGURE4[name]

    def value_at_beta(self, method: str, beta: float, metric: str = "iwae_64"):
        """A metric of our run with this beta, fixed (``ciwae``) or at the start."""
        runs = figure4.by_beta(self.runs_of_betas(), method).get(beta, [])
        return _over_seeds(runs, metric, self.runs_of_betas())

    def chosen(self, metric: str = "iwae_64", method: str = "ciwae-chosen"):
        """A metric of our runs that choose their beta."""
        return over_seeds(figure4.chosen_betas(self.archive, method), metric)

    def range_of_chosen(self, epoch: int) -> str:
        """The lowest and the highest beta that is chosen from an epoch on."""
        of_runs = [r.curve for r in figure4.chosen_betas(self.archive)]
        values = pd.concat([c.beta[c.epoch >= epoch] for c in of_runs])
        return f"{number(values.min())} and {number(values.max())}"

    def seeds_of_chosen(self) -> str:
        """The number of our runs that choose their beta."""
        return plural(len(figure4.chosen_betas(self.archive)), "seed")

    def over_betas(self, method: str):
        """IWAE-64 over the betas: mean ± standard deviation, our own runs."""
        return figure4.spread_over_betas(self.runs_of_betas(), method)

    def between_betas(self, method: str) -> str:
        """IWAE-64 over the betas, from the lowest to the highest: our own runs."""
        scores = self.scores(method)
        return _from_to(scores) if len(scores) > 1 else str(NOT_RUN)

    def learned_beta(self, epoch: int | None = None) -> str:
        """The highest learned beta after an epoch, by default the last, rounded up to a digit."""
        highest = self.highest_learned_beta(epoch)
        return str(NOT_RUN) if highest is None else rounded_up(highest)

    def change_by_tf32(self, which: str) -> Estimate:
        """IWAE-64 in TF32 minus float32 on Omniglot after 40 epochs: ``largest`` or ``mean``."""
        exact = plan("all", OMNIGLOT, profile="short", precision="float32")
        rounded = plan("all", OMNIGLOT, profile="full", precision="tf32")
        apart = self._iwae_64_after(40, rounded) - self._iwae_64_after(40, exact)
        return Estimate(float(np.abs(apart).max() if which == "largest" else apart.mean()))

    def change_by_bfloat16(self, which: str) -> Estimate:
        """IWAE-64 in bfloat16 minus TF32, on MNIST after 13 epochs: ``largest`` or ``mean``."""
        words = {"dataset": "mnist", "seed": "10,11", "profile": "short"}
        rounded = plan("all", epochs=13, precision="bf16", **words)
        exact = plan("all", precision="tf32", **words)
        apart = self._iwae_64_after(13, rounded) - self._iwae_64_after(13, exact)
        if which == "largest":
            return Estimate(float(np.abs(apart).max()))
        return Estimate.mean_of(apart, ErrorOf.DRAWS)

    def _iwae_64_after(self, epoch: int, runs: list[Experiment]) -> np.ndarray:
        """IWAE-64 on the curve of each run, [run]."""
        of_runs = [self.archive.get(e).curve.set_index("epoch") for e in runs]
        return np.array([curve.iwae_64[epoch] for curve in of_runs])

    def changed_by_training(self, metric: str) -> str:
        """The standard deviation that other trainings of ours give a difference from IWAE."""
        others = ("piwae", "miwae", "ciwae")
        noises = [evidence.training_noise(self.archive, m, "iwae", metric) for m in others]
        return _from_to([noise.sd for noise in noises])

    def changed_in_the_paper(self, metric: str) -> Estimate:
        """The same of the paper's runs, which is borrowed for the released models."""
        asked = ("miwae", "iwae", metric)
        return Estimate(evidence.training_noise(self.archive, *asked, released=True).sd)

    # Bounds and estimators

    def trained(self, bound: str, metric: str, where: str = "both"):
        """A metric of a bound under an estimator, "iwae drep"; ``where`` is in ``TRAININGS``."""
        return EstimatorRuns(self.archive, TRAININGS[where]).value(bound, metric)

    def trained_apart(self, a: str, b: str, metric: str, where: str = "both"):
        """The metric of ``a`` minus that of ``b``, each a bound and an estimator."""
        return EstimatorRuns(self.archive, TRAININGS[where]).apart(a, b, metric)

    def share_closed(self, a: str, b: str, target: str, metric: str, where: str = "both"):
        """The share of the way in a metric from ``b`` to ``target`` that ``a`` goes, in percent.

        In parentheses Fieller's interval, 95 %, over the seeds that all three have.
        """
        return EstimatorRuns(self.archive, TRAININGS[where]).share_closed(a, b, target, metric)

    def clearer(self, a: str, b: str) -> str:
        """SNR of phi's gradient under ``a`` over that under ``b``, lowest and highest, in networks.

        Each is named as in ``gradients.snr_in_network``.
        """
        found = []
        for where in NETWORKS_OF_ESTIMATORS:
            first, second = (gradients.snr_in_network(self.archive, where, x) for x in (a, b))
            found.append(first / second)
        return _from_to(np.hstack(found))

    def rate(self, net: str, estimator: str, offset: float):
        """d log SNR / d log K of IWAE between 64 and 256, in the linear Gaussian model."""
        rows = gradients.swept(self.archive, offset_title(offset), estimator)
        return gradients.exponent_of(rows, net, LAST_COUNTS).shown_with(2)

    def ess(self, offset: float):
        """The effective sample size of 256 weights in the linear Gaussian model."""
        rows = gradients.swept(self.archive, offset_title(offset), "rep")
        return gradients.with_jackknife(rows, ESS_OF_MOST, digits=1)

    def ess_in_networks(self) -> str:
        """The lowest and the highest effective sample size of 256 weights, in networks."""
        of_each = [gradients.swept(self.archive, w, "rep") for w in NETWORKS_OF_ESTIMATORS]
        return _from_to([ESS_OF_MOST(rows) for rows in of_each], 1)

    # The work as a whole

    def parameters(self, model: str) -> str:
        """The number of parameters of a model."""
        return f"{MODELS[model].parameters:,}"

    def watts(self, kind: str) -> str:
        """The power that a device is taken to draw: ``cuda``, or a core of a ``cpu``."""
        return str(DEVICE_COSTS[kind].watts)

    def minutes(self, exhibit: str) -> str:
        """The time that the training of an exhibit's runs took, all together."""
        seconds = sum(r.provenance.seconds["training"] for r in self.archive.select(exhibit).used)
        return f"{seconds / 60:.1f} minutes" if seconds else "no time yet"

    def length(self, exhibit: str) -> str:
        """The length of our runs of an exhibit, in words."""
        selection = self.archive.select(exhibit)
        used, missing = selection
        if not used:
            return "not run yet"
        epochs = " and ".join(dict.fromkeys(str(r.experiment.epochs) for r in used))
        seeds = Counter(replace(r.experiment, seed=0) for r in used).values()
        counts = " or ".join(map(str, sorted(set(seeds))))
        noun = "seed" if max(seeds) == 1 else "seeds"
        said = f"{selection.profile} profile, {epochs} epochs, {counts} {noun}"
        return f"{said}, with {plural(len(missing), 'run')} still to come" if missing else said

    def interval(self, method: str, metric: str) -> str:
        """A hypothesis's mean and the interval that holds with all others together."""
        return preregistered.interval_of(self.archive, method, metric)

    def pooled(self, method: str, metric: str, whole: bool = True):
        """The mean of all comparisons with IWAE in the reference model, of whole trainings."""
        found = claims.differences_from_iwae(self, metric, (method,), SETTINGS)
        counting = [d for d in found if d.source.whole or not whole]
        mine = claims.by_kind(counting).get(f"{method.upper()} with the reference model", [])
        return pooled(mine) if len(mine) > 1 else NOT_RUN

    def correction(self, part: str) -> str:
        """A part of ``claims.correction``; what is no count is rounded up."""
        value = getattr(claims.correction(self), part)
        return rounded_up(value) if isinstance(value, float) and value else str(value)

    def count_of_claims(self) -> str:
        """The number of claims, and of those that came to each outcome."""
        outcomes = Counter(verdict.outcome for verdict in claims.judged(self).values())
        parts = [f"{count} × *{outcome}*" for outcome, count in outcomes.most_common()]
        return f"{outcomes.total()} claims ({', '.join(parts)})"

    def paper(self) -> str:
        """A link to this book as a PDF, or the command that makes it."""
        if (self.archive.folder.parent / "_build" / "report.pdf").exists():
            return '<a href="report.pdf">PDF</a>'
        return "PDF: `make pdf`"

    def _cited(self) -> dict:
        import yaml

        return yaml.safe_load((self.archive.folder.parent / "CITATION.cff").read_text())

    def authors(self) -> str:
        """Who wrote this, and which version it is, from CITATION.cff."""
        cited = self._cited()
        names = ", ".join(author["name"] for author in cited["authors"])
        return f"{names} · version {cited['version']}, {cited['date-released']}"

    def bibtex(self) -> str:
        """This work's entry for a bibliography, from CITATION.cff, as a block of code."""
        cited = self._cited()
        authors = " and ".join(f"{{{author['name']}}}" for author in cited["authors"])
        lines = [
            "@software{repro,",
            f"  title = {{{cited['title']}}},",
            f"  author = {{{authors}}},",
            f"  version = {{{cited['version']}}},",
            f"  date = {{{cited['date-released']}}}",
            "}",
        ]
        return "\n".join(["```bibtex", *lines, "```"])

    def claims(self) -> str:
        """The claims table, in Markdown."""
        return claims.as_markdown(self)


def _from_to(values: Collection[float], digits: int = 2) -> str:
    """From the lowest to the highest of several values."""
    if not len(values):
        return str(NOT_RUN)
    return f"{number(min(values), digits)} to {number(max(values), digits)}"


def _over_seeds(runs: Sequence[Record], metric: str, among: Sequence[Record]):
    """``over_seeds``; SSIM to four digits, and active units whole and without their error."""
    found = over_seeds(runs, metric, among, 4 if metric.startswith("ssim") else 2)
    if found and metric == "active_units":
        return Estimate(found.value, digits=0)
    return found
