"""Claims of the paper and of the report, and their verdicts, by the records.

A claim's check returns a ``Verdict``: an outcome and the evidence in Markdown. The outcome follows
from estimates; the evidence is made of the same estimates, and nothing reads it back. A difference
is called clear if Student's t tells it from 0 at the level of ``CLEAR`` = 3 standard errors.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from repro import ReproError, plural
from repro.bounds import T
from repro.catalogue import MODELS
from repro.records.estimates import CLEAR, ErrorOf, Estimate, number, pooled
from repro.studies import audit, figure4, gradients, similarity
from repro.studies.audit import CellVerdict
from repro.studies.designs import AT_T, COUNTS, THEORY, Layout
from repro.studies.estimator_runs import (
    BOTH_EARLIER,
    BOTH_NETWORKS,
    BOUNDS,
    ENCODER_ALONE,
    USUAL,
    EstimatorRuns,
    Regime,
    log_px_of_one_decoder,
)
from repro.studies.evidence import LOG_P, Evidence, Source
from repro.studies.frames import from_to
from repro.studies.gradients import exponent_of, ratio, with_jackknife
from repro.studies.reported import FIGURE4, TABLE1
from repro.studies.similarity import SsimVerdict
from repro.studies.yardstick import SETTING_TITLES
from repro.words.exhibits import KINDS_OF_BETA, SETTINGS
from repro.words.experiments import LAYOUTS_AS_RELEASED, TABLE_METHODS


class Outcome(StrEnum):
    """The possible outcomes of the check of a claim."""

    HOLDS = "holds"
    HOLDS_IN_PART = "holds in part"
    FAILS = "does not hold"
    CONFIRMED = "confirmed"
    CONFIRMED_IN_PART = "confirmed in part"
    CORRECTED = "corrected"
    NOT_CLEAR = "not clear"
    SHORT = "short trainings only"
    UNTESTED = "not tested yet"


class Verdict(NamedTuple):
    """An outcome, and the evidence for it in Markdown."""

    outcome: Outcome
    evidence: str


Check = Callable[[Evidence], Verdict]
NO_RECORDS = Verdict(Outcome.UNTESTED, "no records")
ONE_EACH = "one training each"
TABLE = Path(__file__).with_name("claims.csv")  # what is claimed, by whom, and how it is checked


@dataclass(frozen=True)
class Claim:
    """A claim in our words, who made it, the page that shows the test, and the test."""

    who: str
    text: str
    page: str
    check: Check


COLOURS_OF_OUTCOMES = dict.fromkeys(Outcome, "light") | {
    **dict.fromkeys((Outcome.HOLDS, Outcome.CONFIRMED), "success"),
    **dict.fromkeys((Outcome.HOLDS_IN_PART, Outcome.CONFIRMED_IN_PART), "warning"),
    **dict.fromkeys((Outcome.FAILS, Outcome.CORRECTED), "danger"),
}


@cache
def judged(evidence: Evidence) -> dict[Claim, Verdict]:
    """Check every claim against the records, and return the verdicts."""
    return {claim: claim.check(evidence) for claim in CLAIMS}


def as_markdown(evidence: Evidence) -> str:
    """The claims as cards: the verdict in words and colour, and the evidence folded."""
    cards = []
    for claim, (outcome, said) in judged(evidence).items():
        cards.append(
            f":::{{dropdown}} {outcome.capitalize()} · {claim.who}: {claim.text}\n"
            f":color: {COLOURS_OF_OUTCOMES[outcome]}\n:class-container: claim\n\n"
            f"{said[0].upper()}{said[1:]}. See {_link(claim.page)}.\n:::"
        )
    return "\n\n".join(cards)


TITLES_OF_PAGES = {"snr": "Gradients", "bound_or_estimator": "The bound or its estimator"}


def _link(page: str) -> str:
    """A link to a page, as Table 1, Figure 1 or Audit."""
    name = page.removeprefix("notebooks/")
    title = TITLES_OF_PAGES.get(name, name.capitalize())
    if title[-1].isdigit():
        title = f"{title[:-1]} {title[-1]}"
    return f"{{doc}}`{title} <{page}>`"


def summed_up(tests: Iterable[bool], confirming: bool = False) -> Outcome:
    """The outcome if all, some or none of ``tests`` hold; ``confirming`` is for printed values."""
    tests = list(tests)
    if not tests:
        return Outcome.UNTESTED
    if not any(tests):
        return Outcome.FAILS
    if all(tests):
        return Outcome.CONFIRMED if confirming else Outcome.HOLDS
    return Outcome.CONFIRMED_IN_PART if confirming else Outcome.HOLDS_IN_PART


# Claims about methods: differences from IWAE


class Difference(NamedTuple):
    """The difference of a method from IWAE in ``metric``, in a setting and a source of runs."""

    source: Source
    setting: str
    method: str
    estimate: Estimate
    metric: str

    @property
    def kind(self) -> str:
        """The name of the group that it may be pooled with: one method, in models of one size.

        Released models that were not trained as their method says are a group of their own.
        """
        departs = self.source.released and self.method in LAYOUTS_AS_RELEASED
        of_whom = "the released " if departs else ""
        _, model = self.setting.split("-")
        return f"{of_whom}{self.method.upper()} with the {model} model"


def by_kind(differences: Iterable[Difference]) -> dict[str, list[Estimate]]:
    """Group differences from IWAE by their ``kind``, over settings and sources.

    Those of two kinds are never pooled, since they share IWAE's training.
    """
    kinds: dict[str, list[Estimate]] = {}
    for d in differences:
        kinds.setdefault(d.kind, []).append(d.estimate)
    return kinds


def deciding(differences: Iterable[Difference], margin: float = 0.0) -> list[list[Estimate]]:
    """The tests of each kind: the pooled mean first, then each difference if they are several.

    Only trainings as long as the paper's or the report's count. ``margin`` is added to each
    difference, which is so tested against ``-margin``.
    """
    tests = []
    for mine in by_kind(d for d in differences if d.source.whole).values():
        moved = [replace(e, value=e.value + margin) for e in mine]
        tests.append([pooled(moved).mean, *moved] if len(moved) > 1 else moved)
    return tests


def weighed(differences: Sequence[Difference], margin: float = 0.0) -> Outcome:
    """The outcome of several differences from IWAE, of which only whole trainings count.

    It holds if the mean of every kind is clearly above ``-margin`` and no difference clearly below;
    in part, if any is clearly above.
    """
    if not differences:
        return Outcome.UNTESTED
    kinds = deciding(differences, margin)
    if not kinds:
        return Outcome.SHORT
    tests = [*chain.from_iterable(kinds)]
    behind = any((-e).beyond(CLEAR) for e in tests)
    if all(mean.beyond(CLEAR) for mean, *_ in kinds) and not behind:
        return Outcome.HOLDS
    if any(e.beyond(CLEAR) for e in tests):
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if behind else Outcome.NOT_CLEAR


def differences_from_iwae(
    evidence: Evidence, metric: str, methods: Sequence[str], settings: Iterable[str]
) -> list[Difference]:
    """Each method's difference from IWAE in ``metric``, where its standard error is known.

    If log p(x) by AIS is asked for and was not measured, log p-hat takes its place.
    """
    tried = (metric, "log_px") if metric == LOG_P else (metric,)
    found = []
    for whose, setting, method in product(("weights", "ours"), settings, methods):
        for measure in tried:
            estimate = evidence.apart(setting, method, "iwae", measure, whose)
            if estimate and estimate.se is not None:
                source = Source.of(evidence.runs(setting, method, whose)[0])
                found.append(Difference(source, setting, method, estimate, measure))
                break
    return found


def ahead(
    evidence: Evidence,
    metric: str,
    methods: Sequence[str],
    settings: Iterable[str] = SETTINGS,
    no_test: str = "",
    margin: float = 0.0,
) -> Verdict:
    """Judge whether methods are clearly ahead of IWAE, or not behind by more than ``margin``.

    Only whole trainings count, and not the report's weights if ``no_test`` gives a reason. With a
    margin, the evidence also lists differences that do not count.
    """
    found, tests = _compared(evidence, metric, methods, settings, no_test)
    said = _by_sources_listed(found if margin else tests, metric)
    if not said:
        said = "no records" if margin else "no records of ours yet"
    for kind, mine in by_kind(d for d in tests if d.source.whole).items():
        if len(mine) > 1:
            said += f"; {kind}, together: {pooled(mine)}"
    if margin:
        said += f"; as good as means clearly above {number(-margin, 1)}"
    caveat = f"; {no_test}" if no_test else ""
    measures = {d.metric for d in found}
    said = f"{CALLED[metric]} minus IWAE's, {said}{caveat}{_caution(evidence, measures)}"
    return Verdict(weighed(tests, margin), said)


def _compared(
    evidence: Evidence, metric: str, methods, settings=SETTINGS, no_test: str = ""
) -> tuple[list[Difference], list[Difference]]:
    """Each method's differences from IWAE, and those of them that are a test."""
    found = differences_from_iwae(evidence, metric, methods, settings)
    return found, [d for d in found if not (no_test and d.source.released)]


def _caution(evidence: Evidence, measures: Collection[str]) -> str:
    """The caution that a verdict on generative networks needs where it rests on log p-hat."""
    if "log_px" not in measures:
        return ""
    return (
        ". log p̂ depends on the proposal as well: with one decoder and different encoders it is "
        f"{log_px_of_one_decoder(evidence.archive)}"
    )


def _by_sources_listed(differences: Iterable[Difference], metric: str) -> str:
    """The differences of each source, after its name and the number of trainings behind each.

    One that is not in ``metric`` says in what it is.
    """
    by_source: dict[Source, list[Difference]] = {}
    for d in differences:
        by_source.setdefault(d.source, []).append(d)
    said = []
    for source, mine in by_source.items():
        counts = sorted({d.estimate.seeds for d in mine})
        behind = " or ".join(plural(count, "training") for count in counts) + " each"
        if counts == [1]:
            behind = ONE_EACH
        listed = [f"{d.estimate} ({_where(d, metric)})" for d in mine]
        said.append(f"{source}, {behind}: {', '.join(listed)}")
    return "; ".join(said)


def _where(d: Difference, metric: str) -> str:
    """A difference's method and setting, as PIWAE, MNIST."""
    where = f"{d.method.upper()}, {SETTING_TITLES[d.setting]}"
    return where if d.metric == metric else f"{where}, {CALLED[d.metric]}"


def _short_leads(
    evidence: Evidence, compared: dict[str, Regime], said: str, told: str = ""
) -> Verdict:
    """Compare bounds with IWAE's in short trainings; ``told`` is added to each difference."""
    found = []
    for name, regime in compared.items():
        runs = EstimatorRuns(evidence.archive, regime)
        pair = (f"{name} {USUAL}", f"iwae {USUAL}")
        if lead := runs.apart(*pair, "iwae_64"):
            length = told.format(regime.epochs)
            found.append(f"{lead} ({name.upper()}{length}, {runs.trainings_behind(*pair)})")
    return Verdict(Outcome.SHORT, f"{said}{', '.join(found)}") if found else NO_RECORDS


def encoder_alone(evidence: Evidence) -> Verdict:
    """Judge whether a looser bound trains a better encoder for a fixed decoder."""
    said = (
        f"for the decoder of the student report's IWAE, after {ENCODER_ALONE.epochs} epochs on "
        "MNIST, IWAE-64 minus that with IWAE's bound: "
    )
    others = [method for method in BOUNDS if method != "iwae"]
    return _short_leads(evidence, dict.fromkeys(others, ENCODER_ALONE), said)


def other_settings(evidence: Evidence) -> Verdict:
    """Judge whether MIWAE(4,16), PIWAE(4,16) and CIWAE(0.05) are ahead of IWAE, too."""
    compared = {
        "miwae(4,16)": BOTH_NETWORKS,
        "piwae(4,16)": BOTH_EARLIER,
        "ciwae(0.05)": BOTH_EARLIER,
    }
    said = "IWAE-64 minus IWAE's on MNIST, "
    return _short_leads(evidence, compared, said, told=" after {} epochs")


def comparable_ssim(evidence: Evidence) -> Verdict:
    """Judge whether SSIM differs less between methods than between the test images of one."""
    tests = []
    clear = 0
    said = []
    for setting in SETTINGS:
        found = {r.experiment.method: r.metrics["ssim"] for r in evidence.runs(setting)}
        if not found:
            continue
        values = {method: ssim["value"] for method, ssim in found.items()}
        highest = max(values, key=values.get)
        lowest = min(values, key=values.get)
        spread = values[highest] - values[lowest]
        between_images = min(ssim["sd"] for ssim in found.values())
        apart = bool(evidence.apart(setting, highest, lowest, "ssim").beyond(CLEAR))
        tests += [spread < between_images, not apart]
        clear += apart
        said.append(f"{SETTING_TITLES[setting]}: {spread:.3f} beside {between_images:.3f}")
    if not said:
        return NO_RECORDS
    return Verdict(
        summed_up(tests),
        "the range of the five methods beside the standard deviation between images, in the "
        f"released weights, {ONE_EACH}: {'; '.join(said)}. The highest is clearly above the "
        f"lowest in {clear} of {len(said)} settings",
    )


def larger_model(evidence: Evidence) -> Verdict:
    """Judge whether the larger model gains more in log p(x) than methods differ."""
    measured = [m for m in (LOG_P, "log_px") if _of_both_models(evidence, m)]
    if not measured:
        return NO_RECORDS
    metric = measured[0]
    reference, larger = _of_both_models(evidence, metric)
    gains = [larger[m] - reference[m] for m in TABLE_METHODS]
    near = [reference[m] for m in ("iwae", "piwae", "miwae")]
    spreads = (np.ptp(near), np.ptp(list(reference.values())))
    said = (
        f"in the released weights, {ONE_EACH}, {CALLED[metric]} gains {from_to(gains)} nats; "
        f"IWAE, PIWAE and MIWAE differ by "
        f"{number(spreads[0])}, all five by {number(spreads[1])}; these are compared without their "
        f"errors{_caution(evidence, {metric})}"
    )
    return Verdict(summed_up(bool(g > s) for g in gains for s in spreads), said)


def _of_both_models(evidence: Evidence, metric: str) -> list[dict[str, float]]:
    """A metric of the released models on MNIST by method, or nothing if one lacks it."""
    settings = ("mnist-reference", "mnist-larger")
    found = [evidence.released_values(setting, metric) for setting in settings]
    return found if all(len(values) == len(TABLE_METHODS) for values in found) else []


# Claims about printed values


CALLED = {
    "iwae_64": "IWAE-64",
    "log_px": "log p̂",
    "minus_kl": "the gap",
    LOG_P: "log p(x) by annealed importance sampling",
}


def printed_cells(evidence: Evidence, metric: str) -> Verdict:
    """Count how many of Table 1's ten printed values of a metric the released weights confirm.

    If some are not, the outcome is FAILS for log p-hat, and CORRECTED for IWAE-64 and the gap: the
    report printed another quantity under their names.
    """
    agreeing = (CellVerdict.CONFIRMED, CellVerdict.NOT_SHOWN_WRONG)
    otherwise = Outcome.FAILS if metric == "log_px" else Outcome.CORRECTED
    cells = audit.cells_of_table1(evidence.archive)
    of_metric = [c for c in cells if c.metric == metric]
    if any(c.record is None for c in of_metric):
        return NO_RECORDS
    agree = len([c for c in of_metric if c.verdict in agreeing])
    said = (
        f"{agree} of {len(of_metric)} printed values are {CALLED[metric]} of the released "
        f"weights, {ONE_EACH}"
    )
    return Verdict(Outcome.CONFIRMED if agree == len(of_metric) else otherwise, said)


def printed_ssim(evidence: Evidence, exhibit: str) -> Verdict:
    """Judge whether the SSIM values printed in a table or figure are the released weights'."""
    near = similarity.NEAR[2 if exhibit.startswith("Table") else 3]
    verdicts = similarity.verdicts(evidence.archive, exhibit)
    confirmed = [v is SsimVerdict.CONFIRMED for v in verdicts]
    said = (
        f"{sum(confirmed)} of {len(verdicts)} printed values are within {near:g} of the "
        f"released weights', {ONE_EACH}"
    )
    other = verdicts.count(SsimVerdict.CHECKPOINT)
    if other:
        fit = "fits" if other == 1 else "fit"
        said += f"; {other} {fit} the checkpoint that the released code calls best"
    return Verdict(summed_up(confirmed, confirming=True), said)


def learned_beta(evidence: Evidence) -> Verdict:
    """Judge whether CIWAE with a learned beta depends less on the initial beta, and is better."""
    best = max(e.value for rows in TABLE1["report"].values() for e in rows["log_px"].values())
    said = (
        f"the printed scores ({FIGURE4['fixed']}, {FIGURE4['learned']}) lie above the best log p̂ "
        f"of any model in the student report's Table 1 ({number(best)})"
    )
    used, missing = evidence.archive.select("figure4")
    if missing:
        return Verdict(Outcome.UNTESTED, said)
    source = Source.of(used[0])
    spreads = {m: figure4.spread_over_betas(evidence.archive, m) for m in KINDS_OF_BETA}
    kinds = [f"{kind} {spreads[m]}" for m, kind in KINDS_OF_BETA.items()]
    ends = figure4.highest_learned_beta(evidence.archive)
    said += f"; in {source}, one training for each β, {', '.join(kinds)}"
    said += f", and a learned β ends at {ends} or below"
    if not source.whole:
        return Verdict(Outcome.SHORT, said)
    fixed, learned = (figure4.scores_by_beta(used, m) for m in KINDS_OF_BETA)
    gain = Estimate.mean_of(learned - fixed, ErrorOf.DRAWS)  # from the same beta
    steadier = spreads["ciwae-learned"].se < spreads["ciwae"].se
    return Verdict(summed_up([steadier, gain.beyond(CLEAR)]), said)


def parameter_counts(evidence: Evidence) -> Verdict:
    """Judge whether the two models have as many parameters as the report says."""
    counts = [MODELS[model].parameters for model in ("reference", "larger")]
    said = " and ".join(f"{count:,}" for count in counts)
    return Verdict(summed_up([counts == [425_284, 973_624]], confirming=True), said)


def ciwae_is_a_vae(evidence: Evidence) -> Verdict:
    """Judge whether the released CIWAE's log p-hat is nearer to the VAE's than to IWAE's."""
    from_vae = evidence.apart("mnist-reference", "ciwae", "vae", "log_px")
    from_iwae = evidence.apart("mnist-reference", "ciwae", "iwae", "log_px")
    if not (from_vae and from_iwae):
        return NO_RECORDS
    like_a_vae = abs(from_vae.value) < abs(from_iwae.value)
    return Verdict(
        Outcome.CORRECTED if like_a_vae else Outcome.NOT_CLEAR,
        "the released code ran it with K = 1, a VAE of two samples: "
        f"in the released weights, {ONE_EACH}, "
        f"log p̂ is {from_vae} from the VAE's, {from_iwae} from IWAE's",
    )


# Claims about gradients


def in_every_place(
    evidence: Evidence, holds: Callable[[pd.DataFrame], bool], counting: float = 0.0
) -> Verdict:
    """Judge whether ``holds`` is true of the gradients measured in each place, a model.

    The evidence names places where IWAE's effective sample size is at most ``counting``.
    """
    try:
        places = gradients.places(evidence.archive)
    except ReproError:
        return NO_RECORDS
    held = [where for where, rows in places if holds(rows)]
    said = f"in {len(held)} of {len(places)} places"
    if held:
        said += f": {'; '.join(held)}"
    few = [p for p in places if gradients.effective_samples(p[1]) <= counting]
    if few:
        said += f". In {len(few)} places fewer than {counting:g} of 64 weights count"
    said += ". Each trained network is of one training"
    return Verdict(summed_up(where in held for where, _ in places), said)


def part_as_k_grows(rows: pd.DataFrame) -> bool:
    """True if from the first K to the last IWAE's SNR clearly falls for phi and rises for theta."""
    first, last = (Layout("iwae", 1, K) for K in (COUNTS[0], COUNTS[-1]))
    clear = []
    for net, theory in THEORY.items():
        change = with_jackknife(rows, lambda r, net=net: ratio(r, last, net) - ratio(r, first, net))
        clear.append((change if theory > 0 else -change).beyond(CLEAR))
    return all(clear)


def at_the_theorys_rates(rows: pd.DataFrame) -> bool:
    """True if d log SNR / d log K at the last two K is the theory's to 0.05, its error smaller."""
    found = {net: exponent_of(rows, net, COUNTS[-2:]) for net in THEORY}
    return all(max(abs(e.value - THEORY[net]), e.se) < 0.05 for net, e in found.items())


def _beyond_iwaes(rows: pd.DataFrame, method: str, net: str, times: float) -> Estimate:
    """A method's SNR over that of IWAE, minus ``times``."""
    layouts = {layout.method: layout for layout in AT_T}

    def excess(r: pd.DataFrame) -> float:
        return ratio(r, layouts[method], net) / ratio(r, layouts["iwae"], net) - times

    return with_jackknife(rows, excess)


def remedies_are_clearer(rows: pd.DataFrame) -> bool:
    """True if PIWAE, MIWAE and CIWAE each clearly raise the SNR of phi's gradient above IWAE's."""
    remedies = ("piwae", "miwae", "ciwae")
    return all(_beyond_iwaes(rows, m, "phi", 1.0).beyond(CLEAR) for m in remedies)


def groups_do_not_matter(rows: pd.DataFrame) -> bool:
    """True if MIWAE's SNR for theta at T = 64 is clearly below 1.1 times that of IWAE."""
    return bool((-_beyond_iwaes(rows, "miwae", "theta", 1.1)).beyond(CLEAR))


# The table of claims

OF_RECORDS = (
    ahead, encoder_alone, other_settings, comparable_ssim, larger_model, learned_beta,
    printed_cells, printed_ssim, parameter_counts, ciwae_is_a_vae,
)  # fmt: skip
OF_PLACES = (remedies_are_clearer, groups_do_not_matter, part_as_k_grows)
CHECKS: dict[str, Callable[..., Verdict]] = {  # by their names in the table
    **{check.__name__: check for check in OF_RECORDS},
    **{holds.__name__: partial(in_every_place, holds=holds) for holds in OF_PLACES},
    "at_the_theorys_rates": partial(in_every_place, holds=at_the_theorys_rates, counting=T / 4),
}


def _claim(row: dict[str, str]) -> Claim:
    """A row of the table; what stands in further columns is what its check is told."""
    told: dict[str, object] = {k: row[k] for k in ("metric", "exhibit", "no_test") if row[k]}
    told |= {k: row[k].split(";") for k in ("methods", "settings") if row[k]}
    told |= {k: float(row[k]) for k in ("margin",) if row[k]}
    check = partial(CHECKS[row["check"]], **told)
    return Claim(row["who"], row["text"], row["page"], check)


# All of them together


class Correction(NamedTuple):
    """Counts of the tests that decide verdicts, and of false positives expected among them."""

    tests: int
    clear: int
    expected: float  # verdicts that would be clear if no method differed from IWAE, at most
    percent_false: float  # of the clear ones, at most, by Benjamini and Hochberg


@cache
def correction(evidence: Evidence) -> Correction:
    """Correct for multiple tests; a comparison counts once for each verdict that it decides."""
    tests: list[Estimate] = []
    for claim in CLAIMS:
        if claim.check.func is ahead:
            asked = dict(claim.check.keywords)
            margin = asked.pop("margin", 0.0)
            _, counting = _compared(evidence, **asked)
            tests += chain.from_iterable(deciding(counting, margin))
    if not tests:
        return Correction(0, 0, 0.0, 0.0)
    clear = [bool(e.beyond(CLEAR) or (-e).beyond(CLEAR)) for e in tests]
    expected = 2 * stats.norm.sf(CLEAR) * len(tests)
    adjusted = stats.false_discovery_control([e.chance() for e in tests])
    percent = 100 * adjusted[clear].max(initial=0.0)
    return Correction(len(tests), sum(clear), float(expected), float(percent))


with TABLE.open(newline="", encoding="utf-8") as file:
    CLAIMS = tuple(map(_claim, csv.DictReader(file)))
