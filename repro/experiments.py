"""What is run: one ``Experiment`` is one training run, and a profile says how long it is.

Nothing here trains. ``plan`` turns a user's words into experiments, and says in one line what is
wrong with them. The names of datasets, models and options are here, so that both halves of the
package can speak of them.
"""

import functools
import os
from dataclasses import asdict, dataclass, replace
from itertools import product

from repro import ReproError, one_of, own
from repro.bound_trial import check, check_smooth
from repro.bounds import METHODS, T
from repro.own import PIXELS

TABLE_METHODS = ("iwae", "piwae", "miwae", "ciwae", "vae")  # in the order of the report's Table 1

DATASETS = {  # name -> which version of the images it is
    "digits": "scikit-learn's 8x8 handwritten digits, resized bilinearly to 28x28",
    "mnist": "MNIST, pixel/255",
    "omniglot": "Omniglot, Burda's 28x28 (chardata.mat)",
    "omniglot-lake": (
        "Omniglot, Lake's drawings resized bicubically to 28x28, drawers 1-15 / 16-20"
    ),
}
OMNIGLOT = "omniglot-lake"  # the version that is available everywhere

# A model trained on the first is tested on the second, too.
OTHER_DATASET = {"mnist": OMNIGLOT, "omniglot": "mnist", "omniglot-lake": "mnist"}


@dataclass(frozen=True)
class Architecture:
    """Two tanh layers each way, diagonal Gaussian q(z|x), N(0, I) prior, Bernoulli p(x|z)."""

    hidden: int
    latent: int
    pixels: int = PIXELS

    @property
    def parameters(self) -> int:
        """Weights and biases of both networks."""
        affine_maps = (
            (self.pixels, self.hidden),
            (self.hidden, self.hidden),
            (self.hidden, 2 * self.latent),
            (self.latent, self.hidden),
            (self.hidden, self.hidden),
            (self.hidden, self.pixels),
        )
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in affine_maps)


MODELS = {
    "reference": Architecture(hidden=200, latent=50),
    "larger": Architecture(hidden=400, latent=20),
}
INITS = ("default", "burda")  # PyTorch's initial weights, as in the report's code, or Burda's
PROTOCOLS = ("paper", "released")
ESTIMATORS = {  # of phi's gradient -> what it is
    "rep": "reparameterised, in full",
    "stl": "sticking the landing: q's own parameters held still where log w is differentiated",
    "drep": "doubly reparameterised, for any smooth bound",
}
DECODERS = ("own", *TABLE_METHODS)  # trained with the encoder, or held as it was released
SETTINGS_WITH_WEIGHTS = ("mnist-reference", "mnist-larger", "omniglot-reference")
PRECISIONS = {  # of training's matrix products -> what it is called
    "float32": "float32",
    "tf32": "TensorFloat-32",
    "bf16": "bfloat16",
}
BATCH_SIZE = 20

# (M, K) of the methods that the report's released code does not train as the paper says.
# PIWAE's are its encoder's.
RELEASED_LAYOUTS = {"piwae": (10, 10), "ciwae": (1, 1), "vae": (1, 1), "ciwae-learned": (1, 1)}

# Burda's schedule: stage i lasts 3^i epochs, i = 0 ... 7. These epochs end the stages.
AT_MILESTONES = ("log-px", "gradients")  # what can be measured there
MILESTONES = (1, 4, 13, 40, 121, 364, 1093, 3280)


@dataclass(frozen=True)
class Profile:
    """How long to train on each dataset, and with how many samples to estimate log p-hat."""

    name: str
    dataset: str
    epochs: dict[str, int]
    log_px_samples: int
    trained_here: bool = True

    def epochs_on(self, dataset: str) -> int:
        """How long to train on a dataset; on somebody's own, as long as on MNIST."""
        return self.epochs.get(dataset, self.epochs["mnist"])


def family_of(dataset: str) -> str:
    """A dataset without its version; somebody's own is a family by itself."""
    return dataset if own.is_own(dataset) else dataset.split("-")[0]


def _epochs(default: int, omniglot: int | None = None) -> dict[str, int]:
    """Epochs for each dataset."""
    lengths = dict.fromkeys(DATASETS, default)
    if omniglot is not None:
        lengths |= {"omniglot": omniglot, "omniglot-lake": omniglot}
    return lengths


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", "digits", _epochs(4), log_px_samples=1000),
        Profile("short", "mnist", _epochs(40), log_px_samples=5000),
        Profile("full", "mnist", _epochs(3280, omniglot=1000), log_px_samples=5000),
        Profile(
            "published",
            "mnist",
            _epochs(3280, omniglot=1000),
            log_px_samples=5000,
            trained_here=False,
        ),
    )
}
TRAINED_PROFILES = [p.name for p in PROFILES.values() if p.trained_here]


@dataclass(frozen=True)
class Experiment:
    """One training run. Runs that agree in ``shared`` can be stacked into one program."""

    method: str
    dataset: str
    model: str
    M: int
    K: int
    beta: float | None
    seed: int
    epochs: int
    profile: str
    init: str = "default"
    batch_size: int = BATCH_SIZE
    protocol: str = "paper"
    precision: str = "float32"
    estimator: str = "rep"
    decoder: str = "own"

    @property
    def shared(self) -> tuple:
        """What all runs of one program have in common."""
        samples = self.M * self.K if self.protocol == "paper" else None
        return (
            self.dataset,
            self.model,
            samples,
            self.epochs,
            self.profile,
            self.init,
            self.batch_size,
            self.protocol,
            self.precision,
            self.decoder,
        )

    @property
    def family(self) -> str:
        """The dataset, whichever version of it: ``omniglot`` for both versions of Omniglot."""
        return family_of(self.dataset)

    @property
    def setting(self) -> str:
        """The dataset's family and the model, as ``omniglot-reference``."""
        return f"{self.family}-{self.model}"

    @property
    def planned_epochs(self) -> int:
        """How long the profile trains on this dataset."""
        return PROFILES[self.profile].epochs_on(self.dataset)

    @property
    def group(self) -> str:
        """Name of the folder that holds runs on the same data with the same model."""
        words = [self.dataset, self.model]
        if self.init != "default":
            words.append(self.init)
        return "-".join(words)

    @property
    def name(self) -> str:
        """Name of the run's folder: ``piwae-M8-K8-seed0``, and what departs from the profile."""
        words = [self.method, f"M{self.M}", f"K{self.K}"]
        if self.beta is not None:
            words.append(f"beta{self.beta:g}")
        words.append(f"seed{self.seed}")
        if self.epochs != self.planned_epochs:
            words.append(f"epochs{self.epochs}")
        if self.batch_size != BATCH_SIZE:
            words.append(f"batch{self.batch_size}")
        if self.protocol != "paper":
            words.append(self.protocol)
        if self.precision != "float32":
            words.append(self.precision)
        if self.estimator != "rep":
            words.append(self.estimator)
        if self.decoder != "own":
            words.append(f"decoder-{self.decoder}")
        return "-".join(words)

    @property
    def command(self) -> str:
        """The command that makes this run's record."""
        if self.profile == "published":
            return "python -m repro audit"
        method = self.method
        if own.is_own(method):
            method = f"FILE.py:{own.without_hash(method).replace('-', '_')}"
        dataset = "FILE.npz" if own.is_own(self.dataset) else self.dataset
        options = {"method": method} | self._layout_options()
        usual = {
            "beta": (self.beta, None if self.beta is None else 0.5),
            "dataset": (dataset, PROFILES[self.profile].dataset),
            "model": (self.model, "reference"),
            "seed": (self.seed, 0),
            "epochs": (self.epochs, self.planned_epochs),
            "init": (self.init, "default"),
            "precision": (self.precision, "float32"),
            "estimator": (self.estimator, "rep"),
            "decoder": (self.decoder, "own"),
        }
        options |= {name: value for name, (value, default) in usual.items() if value != default}
        options["profile"] = self.profile
        if "beta" in options:
            options["beta"] = f"{self.beta:g}"
        words = [f"--{name} {value}" for name, value in options.items()]
        return " ".join(["python -m repro train", *words])

    def _layout_options(self) -> dict[str, object]:
        """The protocol, M and K, where a command must name them."""
        if self.protocol == "released":
            options: dict[str, object] = {"protocol": "released"}
            if RELEASED_LAYOUTS[self.method] != (self.M, self.K):
                options["K"] = self.K
            return options
        has_choice = own.is_own(self.method) or METHODS[self.method].M is None
        if has_choice and (self.M, self.K) != (8, 8):
            return {"M": self.M, "K": self.K}
        return {}

    def as_dict(self) -> dict:
        """Its fields, as ``config.json`` holds them.

        The estimator and the decoder are left out if they are the usual ones, as in records from
        before there were others.
        """
        fields = asdict(self)
        for name, usual in (("estimator", "rep"), ("decoder", "own")):
            if fields[name] == usual:
                del fields[name]
        return fields


def profile(name: str = "auto", device: str = "auto") -> Profile:
    """The profile called ``name``.

    ``auto`` is ``REPRO_PROFILE`` if that is set; otherwise full with an accelerator, else smoke.
    """
    if name == "auto":
        name = os.environ.get("REPRO_PROFILE") or _default_profile(device)
    return PROFILES[one_of("profile", name, TRAINED_PROFILES)]


def _default_profile(device: str) -> str:
    return "full" if device != "cpu" and _has_accelerator() else "smoke"


def _has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available()


def plan(  # noqa: PLR0913  (these are the words that a user may say)
    method="all",
    dataset=None,
    model="reference",
    M=None,
    K=None,
    beta=None,
    seed=0,
    epochs=None,
    profile_name="auto",
    init="default",
    protocol="paper",
    precision="float32",
    estimator="rep",
    device="auto",
    decoder="own",
) -> list[Experiment]:
    """Experiments from a user's words.

    ``method``, ``beta`` and ``seed`` may list several ("piwae,iwae", "0,1"); "all" is Table 1's
    five methods; ``beta="learned"`` makes CIWAE choose its own. ``protocol="released"`` trains as
    the report's released code does, where that is not as the paper says. ``estimator`` is a name in
    ``ESTIMATORS``. ``decoder`` may name one of Table 1's methods: then encoders alone are trained,
    for that released decoder. Raises ReproError, one line, if a name is unknown, beta is outside
    [0, 1] or M K is not 64.
    """
    p = profile(profile_name, device)
    dataset = _dataset(p.dataset if dataset is None else dataset)
    protocol = one_of("protocol", protocol, PROTOCOLS)
    methods = _methods(method, protocol)
    if not methods:
        raise ReproError("no method is given; name one, or all")
    if beta == LEARNED:
        methods = _with_chosen_beta(methods)
        beta = None
    common = {
        "dataset": dataset,
        "model": one_of("model", model, MODELS),
        "epochs": p.epochs_on(dataset) if epochs is None else _whole("epochs", epochs, minimum=1),
        "profile": p.name,
        "init": one_of("init", init, INITS),
        "protocol": protocol,
        "precision": one_of("precision", precision, PRECISIONS),
        "estimator": _estimator(estimator, methods, protocol),
        "decoder": _decoder(decoder, dataset, model, protocol),
    }
    seeds = dict.fromkeys(_whole("seed", s, minimum=0) for s in _split(seed))
    if not seeds:
        raise ReproError("no seed is given; name one")
    layout = _released_layout if protocol == "released" else _layout
    runs = []
    for seed_of_run, name in product(seeds, methods):
        groups, samples = layout(name, M, K)
        for b in _betas(name, beta, methods):
            run = Experiment(name, M=groups, K=samples, beta=b, seed=seed_of_run, **common)
            runs.append(replace(run, estimator="drep") if METHODS[name].chooses_beta else run)
    return runs


def _dataset(word) -> str:
    """The dataset named, or the one in the file that is named."""
    if own.is_data_in_file(word):
        return own.dataset_of(word)
    return one_of("dataset", word, DATASETS)


def _methods(words, protocol: str) -> list[str]:
    """The methods named, each once and in order, their bounds tried."""
    names: list[str] = []
    for word in _split(words):
        if own.is_bound_in_file(word):
            names.append(own.method_of(word))
        elif word != "all":
            names.append(word)
        elif protocol == "released":
            names += [m for m in TABLE_METHODS if m in RELEASED_LAYOUTS]
        else:
            names += TABLE_METHODS
    for name in names:
        _checked(one_of("method", name, METHODS), METHODS[name])
    return list(dict.fromkeys(names))


LEARNED = "learned"  # in place of a number for beta


def _with_chosen_beta(methods: list[str]) -> list[str]:
    """The methods, with the CIWAE that chooses its beta in place of CIWAE."""
    if "ciwae" not in methods:
        raise ReproError("beta 'learned' is for method ciwae")
    chosen = ["ciwae-chosen" if m == "ciwae" else m for m in methods]
    return list(dict.fromkeys(chosen))


_checked = functools.cache(check)
_smooth = functools.cache(check_smooth)


def _estimator(name: str, methods: list[str], protocol: str) -> str:
    """The estimator called ``name``, if it can be had for these methods."""
    one_of("estimator", name, ESTIMATORS)
    if name != "rep" and protocol == "released":
        raise ReproError("the released code has no estimator but rep; leave one of the two out")
    if name == "drep":
        for method in methods:
            _smooth(method, METHODS[method].phi)
    return name


def measured_at_milestones(names: str) -> tuple[str, ...]:
    """The names in a list with commas of what is measured at milestones; none: nothing."""
    if names == "none":
        return ()
    return tuple(one_of("measurement", name.strip(), AT_MILESTONES) for name in names.split(","))


def unbiased_estimators(method: str) -> tuple[str, ...]:
    """The unbiased estimators of a method's gradient; a bound that is not smooth has only rep."""
    try:
        _smooth(method, METHODS[method].phi)
    except ReproError:
        return ("rep",)
    return ("rep", "drep")


def _decoder(name: str, dataset: str, model: str, protocol: str) -> str:
    """The decoder called ``name``, if there is one for this dataset and model."""
    one_of("decoder", name, DECODERS)
    if name == "own":
        return name
    if protocol == "released":
        raise ReproError("the released code trains both networks; leave the decoder out")
    setting = f"{family_of(dataset)}-{model}"
    if setting not in SETTINGS_WITH_WEIGHTS:
        raise ReproError(
            f"no decoder was released for {setting}; there are weights for "
            f"{', '.join(SETTINGS_WITH_WEIGHTS)}"
        )
    return name


def told_apart(runs: list[Experiment]) -> dict[Experiment, str]:
    """What each run is called among the others: its method, with beta and seed if they differ."""
    several_betas = len({e.beta for e in runs} - {None}) > 1
    several_seeds = len({e.seed for e in runs}) > 1

    def name(e: Experiment) -> str:
        words = e.method
        if e.beta is not None and several_betas:
            words += f"({e.beta:g})"
        if several_seeds:
            words += f" seed {e.seed}"
        return words

    return {e: name(e) for e in runs}


def _layout(method: str, M, K) -> tuple[int, int]:
    """(M, K): the method's own if it leaves no choice; otherwise as given, or (8, 8)."""
    M = None if M is None else _whole("M", M, minimum=1)
    K = None if K is None else _whole("K", K, minimum=1)
    given = " and ".join(f"{name} = {v}" for name, v in (("M", M), ("K", K)) if v is not None)
    fixed = METHODS[method].M
    if M is None:
        M = fixed or (T // K if K else 8)
    if K is None:
        K = T // M
    if M * K != T:
        raise ReproError(
            f"with {given} there is no M*K = {T}, at which every method is compared; "
            "say M=8 and K=8"
        )
    if fixed not in (None, M):
        raise ReproError(
            f"{method} has M = {fixed} and K = {T // fixed}; "
            f"for M = {M}, K = {K} use miwae or piwae"
        )
    return M, K


def _released_layout(method: str, M, K) -> tuple[int, int]:
    """(M, K) that the released code uses; as there, K of CIWAE's second term can be set."""
    if method not in RELEASED_LAYOUTS:
        raise ReproError(
            f"the released code trains {method} as the paper says; leave the protocol out"
        )
    if M is not None or (K is not None and not METHODS[method].takes_beta):
        raise ReproError(
            f"the released code trains {method} with {RELEASED_LAYOUTS[method]} "
            "whatever M and K say; leave them out"
        )
    return RELEASED_LAYOUTS[method] if K is None else (1, _whole("K", K, minimum=1))


def _betas(method: str, given, methods: list[str]) -> list[float | None]:
    """The values of beta with which a method is run; [None] if it has no beta."""
    if METHODS[method].takes_beta:
        words = [0.5] if given is None else _split(given)
        return list(dict.fromkeys(_beta(method, word) for word in words))
    if given is not None and not any(METHODS[m].takes_beta for m in methods):
        raise ReproError(f"{method} has no beta; leave it out, or use ciwae")
    return [None]


def _beta(method: str, word) -> float:
    try:
        value = float(word)
    except (TypeError, ValueError):
        raise ReproError(f"beta is '{word}'; give a number between 0 (IWAE) and 1 (VAE)") from None
    if METHODS[method].learns_beta:
        if not 0 < value < 1:
            raise ReproError(
                f"beta is {value:g}; give a number between 0 (IWAE) and 1 (VAE), "
                "neither end included, to start from"
            )
    elif not 0 <= value <= 1:
        raise ReproError(f"beta is {value:g}; give a number between 0 (IWAE) and 1 (VAE)")
    if float(f"{value:g}") != value:
        raise ReproError(f"beta is '{word}'; give at most six digits, which is what names keep")
    return abs(value)  # -0 is 0


MOST = 10**9  # of a seed, and of epochs


def _whole(what: str, value, minimum: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= MOST:
        said = str(value)[:40]
        raise ReproError(f"{what} is '{said}'; give a whole number from {minimum} to {MOST}")
    return number


def _split(value) -> list[str]:
    """Words separated by commas; a list stays one."""
    if isinstance(value, (list, tuple)):
        return [str(v) for v in value]
    return [v.strip() for v in str(value).split(",")]


def commands(wanted: list[Experiment]) -> list[str]:
    """The commands that make these runs' records: one for all that can be trained together."""
    groups: dict[str, dict[Experiment, None]] = {}
    for e in wanted:
        groups.setdefault(_without_method_and_beta(e), {})[e] = None
    found: list[str] = []
    for words, group in groups.items():
        found += _commands_of_group(words, list(group))
    return list(dict.fromkeys(found))


def _without_method_and_beta(e: Experiment) -> str:
    """An experiment's command with a place for methods and betas."""
    words = e.command.replace(f"--method {e.method}", "--method {}")
    return words if e.beta is None else words.replace(f" --beta {e.beta:g}", "")


def _commands_of_group(words: str, group: list[Experiment]) -> list[str]:
    """One command for runs that differ in method and beta only; several if it would make more."""
    methods = list(dict.fromkeys(e.method for e in group))
    betas = list(dict.fromkeys(e.beta for e in group if e.beta is not None))
    made = sum(len(betas) if METHODS[m].takes_beta else 1 for m in methods)
    if made != len(group):
        return [e.command for e in group]
    beta_option = ""
    if betas not in ([], [0.5]):
        beta_option = " --beta " + ",".join(f"{b:g}" for b in betas)
    if tuple(methods) == TABLE_METHODS:
        return [words.replace(" --method {}", beta_option)]
    return [words.format(",".join(methods) + beta_option)]


def with_epochs(experiments: list[Experiment], epochs: int) -> list[Experiment]:
    """The same runs at another length of training."""
    return [replace(e, epochs=epochs) for e in experiments]
