"""Numbers for the book's prose, drawn from the records when the book is built.

A page asks for ``n.value("mnist-reference", "iwae", "log_px")`` in double braces, and the
``Estimate`` that comes back becomes text there.
"""

import hashlib
import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import repro
from repro import plural, records
from repro.catalogue import MODELS
from repro.records import Record
from repro.records.estimates import NOT_RUN, Estimate, digits_of, over_seeds, pooled
from repro.studies import claims, evidence, figure4
from repro.studies.estimator_runs import (
    BOTH_EARLIER,
    BOTH_LONGER,
    BOTH_NETWORKS,
    ENCODER_ALONE,
    EstimatorRuns,
)
from repro.studies.evidence import Evidence
from repro.studies.frames import from_to, rounded_up
from repro.studies.reported import TABLE1
from repro.training.costs import DEVICE_COSTS
from repro.words.exhibits import SETTINGS

TRAININGS = {  # as pages name them
    "both": BOTH_NETWORKS,
    "earlier": BOTH_EARLIER,
    "longer": BOTH_LONGER,
    "alone": ENCODER_ALONE,
}


@dataclass(frozen=True)
class Numbers(Evidence):
    """The numbers that pages of the book ask for; two are equal if records and code are."""

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
        """Call a study's function of the archive: "stacks.energy" gives a number or words."""
        study, function = name.split(".")
        module = importlib.import_module(f"repro.studies.{study}")
        return getattr(module, function)(self.archive, *asked)

    def range_over(self, table: str, quantity: str, setting: str = "", digits: int = 2) -> str:
        """The range of ``quantity`` over the rows of an archive's table, as text.

        It may be an expression, "rise / predicted". Rows are those of settings that begin with
        ``setting``.
        """
        found = self.archive.table(table)[0]
        of_setting = found.setting.str.startswith(setting)
        return from_to(found[of_setting].eval(quantity), digits)

    def design(self, table: str, name: str) -> int:
        """The number ``name`` in the provenance of a table, such as its batches."""
        return self.archive.table(table)[1][name]

    # One setting

    def value(self, setting: str, method: str, metric: str, whose: str = "weights"):
        """The mean of ``metric`` over seeds; ``ssim_on_omniglot`` is on the version measured."""
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

    # While training goes on

    def after(self, setting: str, method: str, epoch: int):
        """IWAE-64 of our run in the short profile with seed 0 after ``epoch`` epochs."""
        runs = [r for r in self.runs(setting, method, "short") if r.experiment.seed == 0]
        values = [r.curve.set_index("epoch").iwae_64.get(epoch) for r in runs]
        return Estimate(values[0]) if values and values[0] is not None else NOT_RUN

    def gain_of_size(self, method: str, metric: str):
        """The larger model's ``metric`` minus the reference model's, in the released weights."""
        larger = self.runs("mnist-larger", method)
        reference = self.runs("mnist-reference", method)
        return evidence.difference(self.archive, larger, reference, metric)

    # Figure 4

    def chosen(self, metric: str = "iwae_64", method: str = "ciwae-chosen"):
        """The mean of ``metric`` over our runs that choose their beta during training."""
        return over_seeds(figure4.chosen_betas(self.archive, method), metric)

    def changed_by_training(self, metric: str) -> str:
        """The range, over methods, of ``training_noise`` of our differences from IWAE."""
        others = ("piwae", "miwae", "ciwae")
        noises = [evidence.training_noise(self.archive, m, "iwae", metric) for m in others]
        return from_to([noise.sd for noise in noises])

    def changed_in_the_paper(self, metric: str) -> Estimate:
        """The ``training_noise`` of the paper's MIWAE minus IWAE, used for released models."""
        asked = ("miwae", "iwae", metric)
        return Estimate(evidence.training_noise(self.archive, *asked, released=True).sd)

    # Bounds and estimators

    def trained(self, bound: str, metric: str, where: str = "both"):
        """The mean of ``metric`` of a bound, as "iwae drep", in the runs ``TRAININGS[where]``."""
        return EstimatorRuns(self.archive, TRAININGS[where]).value(bound, metric)

    def trained_apart(self, a: str, b: str, metric: str, where: str = "both"):
        """The metric of ``a`` minus that of ``b``, each a bound as "iwae drep"."""
        return EstimatorRuns(self.archive, TRAININGS[where]).apart(a, b, metric)

    def share_closed(self, a: str, b: str, target: str, metric: str, where: str = "both"):
        """The share of the way in a metric from ``b`` to ``target`` that ``a`` goes, in percent.

        In parentheses Fieller's interval, 95 %, over the seeds that all three have.
        """
        return EstimatorRuns(self.archive, TRAININGS[where]).share_closed(a, b, target, metric)

    # The work as a whole

    def parameters(self, model: str) -> str:
        """The number of parameters of a model."""
        return f"{MODELS[model].parameters:,}"

    def watts(self, kind: str) -> str:
        """The power that a device is taken to draw: ``cuda``, or a core of a ``cpu``."""
        return str(DEVICE_COSTS[kind].watts)

    def length(self, exhibit: str) -> str:
        """The epochs and number of our trainings in a table or figure, in words."""
        selection = self.archive.select(exhibit)
        used, missing = selection
        if not used:
            return "not run yet"
        epochs = " and ".join(dict.fromkeys(str(r.experiment.epochs) for r in used))
        seeds = Counter(replace(r.experiment, seed=0) for r in used).values()
        counts = " or ".join(map(str, sorted(set(seeds))))
        trainings = "one training" if counts == "1" else f"{counts} trainings"
        said = f"{epochs} epochs, {trainings} each"
        return f"{said}, with {plural(len(missing), 'run')} still to come" if missing else said

    def pooled(self, method: str, metric: str, whole: bool = True):
        """The pooled difference from IWAE in the reference model; if ``whole``, of long runs."""
        found = claims.differences_from_iwae(self, metric, (method,), SETTINGS)
        counting = [d for d in found if d.source.whole or not whole]
        mine = claims.by_kind(counting).get(f"{method.upper()} with the reference model", [])
        return pooled(mine) if len(mine) > 1 else NOT_RUN

    def correction(self, part: str) -> str:
        """A field of ``claims.correction`` as text; a number that is no count is rounded up."""
        value = getattr(claims.correction(self), part)
        return rounded_up(value) if isinstance(value, float) and value else str(value)

    def count_of_claims(self) -> str:
        """The number of claims, and the number with each outcome, in words."""
        outcomes = Counter(verdict.outcome for verdict in claims.judged(self).values())
        parts = [f"{count} × *{outcome}*" for outcome, count in outcomes.most_common()]
        return f"{outcomes.total()} claims ({', '.join(parts)})"

    def claims(self) -> str:
        """The claims with their verdicts, in Markdown."""
        return claims.as_markdown(self)


def _over_seeds(runs: Sequence[Record], metric: str, among: Sequence[Record]):
    """``over_seeds``; SSIM to four digits, and active units whole and without their error."""
    found = over_seeds(runs, metric, among, digits_of(metric))
    if found and metric == "active_units":
        return Estimate(found.value, digits=0)
    return found
