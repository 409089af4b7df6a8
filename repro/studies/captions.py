"""Names of runs in tables and figures, and captions that say where numbers come from."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from repro import own, plural
from repro.bounds import T
from repro.records import Record
from repro.records.estimates import ENOUGH
from repro.records.provenance import CHANGES
from repro.words.experiments import PRECISIONS, PROFILES, Experiment

METRIC_TITLES = {"iwae_64": "IWAE-64", "log_px": "log p̂(x)", "minus_kl": "−KL(Q‖P)"}
METHOD_TITLES = {
    "iwae": "IWAE(64)",
    "piwae": "PIWAE(8,8)",
    "miwae": "MIWAE(8,8)",
    "ciwae": "CIWAE(0.5)",
    "vae": "VAE",
}
BOUND_TITLES = METHOD_TITLES | {"u-miwae": "U-MIWAE(8,8)", "vr-iwae": "VR-IWAE(64)"}
NETWORK_TITLES = {"theta": "generative", "phi": "inference"}
FAMILY_TITLES = {"mnist": "MNIST", "omniglot": "Omniglot", "digits": "Digits"}

OVER_IMAGES = "± standard error over the test images"
COUNTING_TRAINING = "of the images, paired, and of what another training would change"
BETWEEN_SEEDS = (
    f"± standard error between seeds, pooled over the methods, where {ENOUGH} degrees of freedom "
    "or more tell it, else over the test images"
)


def label(e: Experiment) -> str:
    """The name of a run in tables and figures, as PIWAE(8,8)."""
    if e.protocol == "released":
        return label(replace(e, protocol="paper")) + " as released"
    if e.estimator != "rep":
        return f"{label(replace(e, estimator='rep'))} {e.estimator}"
    if e.alpha is not None:
        return f"{label(replace(e, alpha=None))} α={e.alpha:g}"
    by_method = {
        "vae": "VAE" if e.M in (1, T) else f"VAE({e.M})",
        "iwae": f"IWAE({e.K})",
        "ciwae": f"CIWAE({e.beta})",
        "ciwae-learned": "CIWAE(learned)",
        "ciwae-chosen": "CIWAE(chosen)",
        "ciwae-chosen-both": "CIWAE(chosen for both)",
    }
    if e.method == "ciwae-learned" and e.beta != 0.5:
        return f"CIWAE(learned from {e.beta:g})"
    if e.method in by_method:
        return by_method[e.method]
    layout = f"{e.M},{e.K}" if e.beta is None else f"{e.M},{e.K}, β={e.beta:g}"
    return f"{own.without_hash(e.method).upper()}({layout})"


def labels(shown: Sequence[Record]) -> list[str]:
    """A label for each record, with the seed if several seeds are shown."""
    names = [label(r.experiment) for r in shown]
    if len({r.experiment.seed for r in shown}) == 1:
        return names
    return [f"{name}, seed {r.experiment.seed}" for name, r in zip(names, shown, strict=True)]


def length_of_ours(wanted: Iterable[Experiment]) -> str:
    """The label of our own runs in a table, with their epochs: "ours, 40 epochs"."""
    return "ours, " + " and ".join(dict.fromkeys(str(e.epochs) for e in wanted)) + " epochs"


def origin(used: Sequence[Record]) -> str:
    """Caption text: ``conditions`` of some records, with commits, dates and devices."""
    dates = sorted({r.provenance.date for r in used})
    commits = dict.fromkeys(_shortened(code) for r in used for code in r.provenance.codes)
    said = [conditions(used, None).removesuffix(".")]
    said.append("commit " + ", ".join(commits))
    said.append(" to ".join(dict.fromkeys((dates[0], dates[-1]))))
    said.append(", ".join(sorted({r.provenance.device for r in used})))
    return "; ".join(said) + "."


def conditions(used: Sequence[Record], error: str | None = OVER_IMAGES) -> str:
    """Caption text on the records ``used``: profile, data, epochs, seeds and the kind of error."""
    if not used:
        return "No records yet."
    several = len({r.experiment.seed for r in used}) > 1
    if PROFILES[used[0].experiment.profile].trained_here:
        said = []
        for name in dict.fromkeys(r.experiment.profile for r in used):
            of_profile = [r for r in used if r.experiment.profile == name]
            said += [f"{name} profile", *dict.fromkeys(map(_data_and_length, of_profile))]
        said.append(_seeds(used))
    else:
        said = [plural(len(used), "released model"), *dict.fromkeys(map(_data_and_length, used))]
        said.append(f"evaluated with {_seeds(used)}")
    said.append(f"log p̂ with K = {used[0].provenance.log_px_samples}")
    if error:
        said.append(error.replace(OVER_IMAGES, BETWEEN_SEEDS) if several else error)
    return "; ".join(said) + "."


def _seeds(used: Sequence[Record]) -> str:
    """The seeds, and of how many runs each is, if that is not of all."""
    counts = Counter(r.experiment.seed for r in used)
    most = max(counts.values())
    words = []
    for seed, count in sorted(counts.items()):
        words.append(f"{seed}" if count == most else f"{seed} ({count} of the {most} runs)")
    return f"{'seed' if len(counts) == 1 else 'seeds'} {', '.join(words)}"


def _data_and_length(record: Record) -> str:
    """The data, the model unless it is the reference, and the length of training."""
    e = record.experiment
    words = [record.provenance.data["variant"]]
    if e.model != "reference":
        words.append(f"{e.model} model")
    if e.epochs == e.planned_epochs:
        words.append(f"{e.epochs} epochs")
    else:
        words.append(f"{e.epochs} of the profile's {e.planned_epochs} epochs")
    if e.precision != "float32":
        words.append(f"matrix products of training in {PRECISIONS[e.precision]}")
    return ", ".join(words)


def about_released(used: Sequence[Record], expected: int, error: str = OVER_IMAGES) -> dict:
    """Caption and missing commands, for ``framed``, of a table of ``expected`` released models."""
    caption = f"Measured again: {conditions(used, error)}"
    return {
        "caption": caption if used else "No released model is measured yet.",
        "missing": [] if len(used) == expected else ["python -m repro audit"],
    }


def made_by(provenance: dict) -> str:
    """Caption text on a table's provenance: the device and the commit that made it."""
    return f"{provenance['device']}, commit {(provenance['commit'] or 'unknown')[:10]}"


def _shortened(code: str) -> str:
    """Ten digits of a commit, marked if the code held changes."""
    changes = " (with changes)" if code.endswith(CHANGES) else ""
    return f"{code.removesuffix(CHANGES)[:10]}{changes}"
