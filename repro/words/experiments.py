"""Experiments, of which each describes one run, and profiles, which say how long runs are.

Nothing here trains. A run is one training; a word is a named property of it that a user may say,
such as ``seed``; a setting is a family of datasets with a model. ``plan`` turns a user's words into
experiments, and says in one line what is wrong with them. Each word is a field of ``Experiment``,
declared there once: names of folders, commands, options, files of sweeps and notebooks read
``WORDS``. A new word is a new last field, and what the lab makes of its value.
"""

import functools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import partial
from itertools import product
from typing import get_type_hints

from repro import ReproError, one_of, own
from repro.bounds import METHODS, SHIPPED, USUAL_BETA, Objective, T, leaves_choice, usual_layout
from repro.catalogue import DATASETS, ESTIMATORS, MODELS, SECOND_ORDER, Architecture

TABLE_METHODS = ("iwae", "piwae", "miwae", "ciwae", "vae")  # in the order of the report's Table 1

INITS = ("default", "burda")  # PyTorch's initial weights, as in the report's code, or Burda's
PROTOCOLS = ("paper", "released")
DECODERS = ("own", *TABLE_METHODS)  # trained with the encoder, or held as it was released
SETTINGS = {  # name -> family of the dataset, and model; the report released their weights
    "mnist-reference": ("mnist", "reference"),
    "mnist-larger": ("mnist", "larger"),
    "omniglot-reference": ("omniglot", "reference"),
}
PRECISIONS = {  # of training's matrix products -> its name in full
    "float32": "float32",
    "tf32": "TensorFloat-32",
    "fp16": "float16",
    "bf16": "bfloat16",
}
OF_GPUS = ("tf32", "fp16")  # precisions that need one: at fp16 the encoder multiplies in tf32
WAYS_TO_BINARISE = ("fresh", "once", "no")
SCHEDULES = ("burda", "constant")
OPTIMIZERS = ("adam", "sgd")
ENGINE_CHOICES = ("auto", "eager", "compiled", "compiled-graph", "fused-graph")  # see engines.py
# (M, K) of the methods that the report's released code does not train as the paper says.
# PIWAE's are its encoder's.
LAYOUTS_AS_RELEASED = {"piwae": (10, 10), "ciwae": (1, 1), "vae": (1, 1), "ciwae-learned": (1, 1)}

# Burda's schedule: stage i lasts 3^i epochs, i = 0 ... 7. These epochs end the stages.
AT_MILESTONES = ("log-px", "gradients")  # measurements there
MILESTONES = (1, 4, 13, 40, 121, 364, 1093, 3280)
IMAGES_AT_MILESTONES = 1000  # test images of which log p-hat is taken there, at equal distances


def is_evaluated(epoch: int) -> bool:
    """True if IWAE-64 is measured after ``epoch`` epochs: late in training, after every eighth.

    It does not depend on which epoch is the last, so that training can go on from there.

    >>> [epoch for epoch in range(117, 140) if is_evaluated(epoch)]
    [117, 118, 119, 120, 121, 128, 136]
    """
    return epoch <= 121 or epoch % 8 == 0 or epoch in MILESTONES


@dataclass(frozen=True)
class Profile:
    """A length of runs: epochs of training on each dataset, and samples of log p-hat."""

    name: str
    dataset: str
    epochs: dict[str, int]
    log_px_samples: int
    trained_here: bool = True

    def epochs_on(self, dataset: str) -> int:
        """The number of epochs on a dataset; on a user's own, as many as on MNIST."""
        return self.epochs.get(dataset, self.epochs["mnist"])


def family_of(dataset: str) -> str:
    """The name of a dataset without its version; a user's own dataset is a family by itself."""
    return dataset if own.is_own(dataset) else dataset.split("-")[0]


def setting_of(dataset: str, model: str) -> str:
    """The name of a setting: the dataset's family and the model.

    >>> setting_of("omniglot-lake", "reference")
    'omniglot-reference'
    """
    return f"{family_of(dataset)}-{model}"


OF_THE_REPORT = dict.fromkeys(DATASETS, 3280) | {"omniglot": 1000, "omniglot-lake": 1000}  # epochs
FULL = Profile("full", "mnist", OF_THE_REPORT, log_px_samples=5000)
PROFILES = {
    "smoke": Profile("smoke", "digits", dict.fromkeys(DATASETS, 3), log_px_samples=256),
    "short": Profile("short", "mnist", dict.fromkeys(DATASETS, 40), log_px_samples=5000),
    "full": FULL,
    "published": replace(FULL, name="published", trained_here=False),
}
TRAINED_PROFILES = [p.name for p in PROFILES.values() if p.trained_here]
KEPT_PROFILES = [name for name in PROFILES if name != "smoke"]  # those of committed records

LONGEST_TAG = 40  # letters
MOST = 10**9  # of a seed, and of epochs


def _whole(what: str, text, minimum: int = 1) -> int:
    try:
        number = int(str(text))
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= MOST:
        said = str(text)[:40]
        raise ReproError(f"{what} is '{said}'; give a whole number from {minimum} to {MOST}")
    return number


def _several(what: str, text, also: str = "") -> list[str]:
    """Split a text at commas; a list stays one."""
    texts = text if isinstance(text, (list, tuple)) else str(text).split(",")
    if not texts:
        raise ReproError(f"no {what} is given; name one{also}")
    return [str(t).strip() for t in texts]


def _seeds(what: str, text) -> list[int]:
    return list(dict.fromkeys(_whole(what, t, minimum=0) for t in _several(what, text)))


def _dataset(what: str, text) -> str:
    """The dataset named, or the one in the file that is named."""
    if str(text).lower().endswith(".npz"):
        return own.dataset_in(str(text))
    if own.is_own(str(text)):
        raise ReproError(f"{text} is somebody's own data; name its file, FILE.npz")
    return one_of(what, text, DATASETS, also="FILE.npz, with arrays train and test")


def _model(what: str, text) -> str:
    """The project's model that is named, or the one in the file that is named."""
    if ".py:" in str(text):
        return own.model_in(str(text))
    return one_of(what, text, MODELS, also="FILE.py:MODEL")


def _weights(what: str, text) -> str:
    return own.weights_in(str(text))


def _tag(what: str, text) -> str:
    if not isinstance(text, str):
        raise ReproError(f"{what} is {text}, which is no text; put it in quotes")
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", text) or len(text) > LONGEST_TAG:
        raise ReproError(
            f"{what} is '{text[:40]}'; give lower-case letters, digits and single hyphens, "
            f"{LONGEST_TAG} at most"
        )
    return text


def _number(what: str, text) -> float:
    """A number that names of folders can keep."""
    try:
        value = float(str(text))  # of neither True nor bytes
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ReproError(f"{what} is '{str(text)[:40]}'; give a number")
    if float(f"{value:g}") != value:
        raise ReproError(f"{what} is '{text}'; give at most six digits, which is what names keep")
    return abs(value) if value == 0 else value  # -0 is 0


def _rate(what: str, text) -> float:
    value = _number(what, text)
    if not 0 < value <= 1:
        raise ReproError(f"{what} is {value:g}; give a number above 0, at most 1")
    return value


@dataclass(frozen=True)
class Word:
    """A named property of a run that a user may set: an option, and a field of ``Experiment``.

    ``read(name, text)`` parses a user's text, or raises ReproError. ``usual`` is the default; it is
    None if it depends on other words. ``tag`` formats the value for the name of the run's folder,
    or of its setting's if ``of_setting``; ``departure`` formats a value that is not the default.
    All runs that are trained side by side have the same value if it is ``shared``.
    """

    help: str
    read: Callable[[str, object], object]
    usual: object = None
    tag: str = ""
    departure: str = ""
    of_setting: bool = False
    shared: bool = True


def _word(help_text: str, read: Callable | Iterable[str], usual=None, default=None, **rest):
    """A field of ``Experiment``, whose value need not be given if it has a usual one or a default.

    In place of ``read`` may be the names to choose from, for which the help text has a place.
    """
    if not callable(read):
        help_text, read = help_text.format(", ".join(read)), partial(one_of, known=read)
    word = Word(help_text, read, usual, **rest)
    if not word.departure or default is MISSING:
        return field(metadata={"word": word})
    return field(default=usual if default is None else default, metadata={"word": word})


@dataclass(frozen=True)
class Experiment:
    """The description of one run, a training; runs with equal ``shared`` can be trained stacked."""

    method: str = _word(
        f"{', '.join(METHODS)}, FILE.py:BOUND, or several, with commas; all: Table 1's five.",
        partial(_several, also=", or all"),
        "all",
        tag="{}",
        shared=False,
    )
    dataset: str = _word(
        f"{', '.join(DATASETS)}, or FILE.npz. Default: the profile's.",
        _dataset,
        tag="{}",
        of_setting=True,
    )
    model: str = _word(
        f"{', '.join(MODELS)}, or FILE.py:MODEL.", _model, "reference", tag="{}", of_setting=True
    )
    M: int = _word("Groups of samples. Default: M*K = 64.", _whole, tag="M{}", shared=False)
    K: int = _word("Samples in a group.", _whole, tag="K{}", shared=False)
    beta: float | None = _word(
        "Of the VAE's bound in CIWAE, one or several, or: learned. Default: 0.5.",
        _several,
        tag="beta{:g}",
        shared=False,
    )
    seed: int = _word("One or several, with commas.", _seeds, 0, tag="seed{}", shared=False)
    epochs: int = _word("Default: the profile's.", _whole, default=MISSING, departure="epochs{}")
    profile: str = _word(
        "{}; auto: full with an accelerator, else smoke.", TRAINED_PROFILES, "auto"
    )
    init: str = _word("{}.", INITS, "default", departure="{}", of_setting=True)
    batch_size: int = _word("Images in a step.", _whole, 20, departure="batch{}")
    protocol: str = _word(
        "{}; released: as the report's released code trains.", PROTOCOLS, "paper", departure="{}"
    )
    precision: str = _word(
        "Of training's matrix products: {}.", PRECISIONS, "float32", departure="{}"
    )
    estimator: str = _word(
        "Of the inference network's gradient: {}.", ESTIMATORS, "rep", departure="{}", shared=False
    )
    decoder: str = _word(
        "{}; a method's: the report's weights, held while encoders are trained.",
        DECODERS,
        "own",
        departure="decoder-{}",
    )
    binarise: str = _word(
        "Pixels: {}. Default: fresh, at each visit; no if values leave [0, 1].",
        WAYS_TO_BINARISE,
        default="fresh",
        departure="binarise-{}",
        of_setting=True,
    )
    hidden: int | None = _word(
        "Units of each layer. Default: the model's.", _whole, departure="hidden{}", of_setting=True
    )
    latent: int | None = _word(
        "Latent units. Default: the model's.", _whole, departure="latent{}", of_setting=True
    )
    learning_rate: float = _word("At the beginning.", _rate, 1e-3, departure="rate{:g}")
    schedule: str = _word("Of the learning rate: {}.", SCHEDULES, "burda", departure="{}")
    weights: str | None = _word(
        "Folder of a record, to begin from its weights.", _weights, departure="from-{}"
    )
    alpha: float | None = _word(
        "Of vr-iwae, or of a bound of your own.", _number, departure="alpha{:g}", shared=False
    )
    optimizer: str = _word(
        "{}; sgd: plain gradient descent, without momentum.", OPTIMIZERS, "adam", departure="{}"
    )
    held_out: int | None = _word(
        "Training images, the last ones, that take the test images' place.",
        partial(_whole, minimum=2),  # for an error
        departure="held-out{}",
        of_setting=True,
    )
    tag: str | None = _word(
        "A word of yours for the record's name, where nothing else tells two runs apart.",
        _tag,
        departure="tag-{}",
    )

    @property
    def shared(self) -> tuple:
        """The values that must agree in all runs that are trained side by side."""
        samples = self.M * self.K if self.protocol == "paper" else None
        return (samples, *(getattr(self, name) for name, word in WORDS.items() if word.shared))

    @property
    def architecture(self) -> Architecture:
        """The sizes of the project's networks, for images of 784 pixels."""
        shape = MODELS[self.model]
        hidden, latent = self.hidden or shape.hidden, self.latent or shape.latent
        return Architecture(hidden, latent)

    @property
    def family(self) -> str:
        """The dataset's name without its version: ``omniglot`` for both versions of Omniglot."""
        return family_of(self.dataset)

    @property
    def setting(self) -> str:
        """The dataset's family and the model: ``omniglot-reference`` for both versions."""
        return setting_of(self.dataset, self.model)

    @property
    def planned_epochs(self) -> int:
        """The number of epochs that the profile has for this dataset."""
        return PROFILES[self.profile].epochs_on(self.dataset)

    @property
    def setting_folder(self) -> str:
        """Name of the folder of the setting: runs on one version of the data, with one model."""
        return "-".join(self._tags(of_setting=True))

    @property
    def name(self) -> str:
        """Name of the run's folder: ``piwae-M8-K8-seed0``, and values that are not the default."""
        return "-".join(self._tags(of_setting=False))

    @property
    def folder(self) -> str:
        """Path of the run's record in an archive: ``profile/setting_folder/name``."""
        return f"{self.profile}/{self.setting_folder}/{self.name}"

    def _tags(self, of_setting: bool) -> Iterator[str]:
        for name, word in WORDS.items():
            if word.of_setting == of_setting and name != "profile" and (tag := self.in_name(name)):
                yield tag

    def in_name(self, name: str) -> str:
        """The value of a word as names of runs have it; nothing if they leave it out."""
        word, value = WORDS[name], getattr(self, name)
        if value is None or (word.departure and value == self.usual[name]):
            return ""
        return (word.tag or word.departure or "{}").format(value)

    @property
    def usual(self) -> dict[str, object]:
        """The default of each word in ``WORDS``, for this run's method, profile and protocol."""
        _, *layout = usual_layout(self.method)
        if self.protocol == "released":
            layout = LAYOUTS_AS_RELEASED.get(self.method, layout)
        usual = {name: word.usual for name, word in WORDS.items()}
        usual |= {"dataset": PROFILES[self.profile].dataset, "epochs": self.planned_epochs}
        usual["binarise"] = "fresh"
        beta = None if self.beta is None else USUAL_BETA
        return usual | {"M": layout[0], "K": layout[1], "beta": beta}

    @property
    def said(self) -> dict[str, object]:
        """The words with their values from which ``plan`` makes this run, without the defaults."""
        usual = self.usual
        said = {n: value for n in WORDS if (value := getattr(self, n)) != usual[n]}
        if said.keys() & {"M", "K"} and leaves_choice(self.method):  # one alone leaves 64 samples
            said |= {"M": self.M, "K": self.K}
        return said

    def departs_only_in(self, *words: str) -> bool:
        """True if no field with a ``departure`` but ``words`` has an unusual value, and T is 64.

        Other fields, such as method, seed and beta, may have any value.

        >>> plan("iwae", profile="smoke", seed=3, epochs=2)[0].departs_only_in("epochs")
        True
        >>> plan("iwae", profile="smoke", K=5)[0].departs_only_in("epochs")
        False
        """
        departures = {name for name in self.said if WORDS[name].departure}
        return departures <= {*words} and self.M * self.K == T

    @property
    def command(self) -> str:
        """The command that makes this run's record."""
        return _command(self.said)

    def as_dict(self) -> dict:
        """The fields as ``config.json`` holds them: newer ones only if they are not the default."""
        later = [*WORDS][FIRST_WORDS:]
        unsaid = {*later} - self.said.keys()
        return {name: value for name, value in asdict(self).items() if name not in unsaid}


WORDS: dict[str, Word] = {f.name: f.metadata["word"] for f in fields(Experiment)}
KINDS = get_type_hints(Experiment)
FIRST_WORDS = 13  # so many stand in every record; there were others from the estimator on


def experiment_in(content: Mapping[str, object]) -> Experiment:
    """Make an experiment of the fields in a file; ValueError if a value is of another type."""
    e = Experiment(**content)
    for name, kind in KINDS.items():
        value = getattr(e, name)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
    return e


def words_in(values: Mapping[str, object]) -> dict[str, object]:
    """Select from ``values``, such as a notebook's parameters, those that are fields of a run."""
    return {name: values[name] for name in WORDS if name in values}


def option_of(word: str) -> str:
    """The command-line option of a field of ``Experiment``: ``--batch-size``."""
    return "--" + word.replace("_", "-")


def _command(said: Mapping[str, object]) -> str:
    """The command with these words: the method's first, the profile last."""
    if said["profile"] == "published":
        return "python -m repro audit"
    order = ("method", "protocol", "M", "K", "beta", *said)
    words = {name: said[name] for name in order if name in said and name != "profile"}
    words["profile"] = said["profile"]
    options = [f"{option_of(name)} {_as_text(name, value)}" for name, value in words.items()]
    return " ".join(["python -m repro train", *options])


def _as_text(word: str, value: object) -> str:
    """Write a value as a user types it; several, with commas."""
    if isinstance(value, list):
        return ",".join(_as_text(word, v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    if word in OWN_FILES and own.is_own(value):
        return OWN_FILES[word].format(own.called_in_file(value))
    return str(value)


OWN_FILES = {  # how a user names somebody's own; the record has no path
    "method": "FILE.py:{}",
    "model": "FILE.py:{}",
    "dataset": "FILE.npz",
    "weights": "RECORD",
}


def profile_called(name: str = "auto", device: str = "auto") -> Profile:
    """The profile, a length of runs, called ``name``.

    ``auto`` is ``REPRO_PROFILE`` if that is set; otherwise full with a GPU, else smoke.
    """
    if name == "auto":
        name = os.environ.get("REPRO_PROFILE", "")
        if not name:
            name = "full" if device != "cpu" and _has_accelerator() else "smoke"
    return PROFILES[one_of("profile", name, TRAINED_PROFILES)]


def profiles_of(name: str) -> list[str]:
    """The names of the profiles that ``name`` stands for: short and full if it is ``best``."""
    return ["short", "full"] if name == "best" else [profile_called(name).name]


def _has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available()


def plan(*in_order, device: str = "auto", **by_name) -> list[Experiment]:
    """Make experiments from the fields of ``Experiment``, given by name or in their order.

    A field that is None, or missing, has its default. ``method``, ``beta`` and ``seed`` may list
    several ("piwae,iwae", "0,1"); "all" is Table 1's five methods; ``beta="learned"`` makes CIWAE
    choose its own. ``protocol="released"`` trains as the report's released code does, where that is
    not as the paper says. ``decoder`` may name one of Table 1's methods: then encoders alone are
    trained, for that released decoder. ``M`` or ``K`` alone leaves 64 samples; both together, or
    one of a method that has a single group or groups of one, may be any number. Raises ReproError,
    one line, if a name is unknown, beta is outside [0, 1], or there are no such M and K.

    >>> [e.name for e in plan("piwae,iwae", "mnist", epochs=4, seed="0,1", profile="short")][:2]
    ['piwae-M8-K8-seed0-epochs4', 'iwae-M1-K64-seed0-epochs4']
    """
    said = dict(zip(WORDS, in_order, strict=False)) | by_name
    said = {one_of("word", name, WORDS): v for name, v in said.items() if v is not None}
    p = profile_called(said.get("profile", "auto"), device)
    usual = {name: word.usual for name, word in WORDS.items() if word.usual is not None}
    said = usual | {"dataset": p.dataset} | said | {"profile": p.name}
    words = {name: WORDS[name].read(name, text) for name, text in said.items()}
    methods = _methods(words.pop("method"), words["protocol"], words.get("alpha"))
    if words.get("beta") == ["learned"]:
        methods = _with_beta_chosen(methods)
        del words["beta"]
    words.setdefault("binarise", "no" if _leaves_unit_range(words["dataset"]) else "fresh")
    words.setdefault("epochs", p.epochs_on(words["dataset"]))
    _check_images(words)
    _check_together(words, methods)
    seeds = words.pop("seed")
    numbers = {name: words.pop(name, None) for name in ("M", "K", "beta", "alpha")}
    each = {m: [*_of_method(m, methods, words["protocol"], **numbers)] for m in methods}
    runs = []
    for seed, method in product(seeds, methods):
        for of_method in each[method]:
            run = Experiment(method, seed=seed, **of_method, **words)
            _check_wake(run)
            _try(method, METHODS[method].with_alpha(run.alpha), run.M, run.K)
            runs.append(_with_drep(run) if METHODS[method].chooses_beta else run)
    _check_samples(runs)
    return runs


def _with_drep(e: Experiment) -> Experiment:
    """Run ``e`` of a method that chooses its beta, which needs ``drep``."""
    if e.estimator not in (WORDS["estimator"].usual, "drep"):
        raise ReproError(f"beta is chosen with estimator drep; leave {e.estimator} out")
    return replace(e, estimator="drep")


def _check_samples(runs: list[Experiment]) -> None:
    """Raise ReproError if methods that are compared by the paper differ in their samples."""
    samples = {e.M * e.K: e for e in runs if e.protocol == "paper"}
    if len(samples) > 1:
        (some, first), (others, second) = list(samples.items())[:2]
        raise ReproError(
            f"{first.method} would have {some} samples and {second.method} {others}; "
            "say both M and K, or train them one after the other"
        )


def _with_beta_chosen(methods: list[str]) -> list[str]:
    """The methods, with the CIWAE that chooses its beta in place of CIWAE."""
    if "ciwae" not in methods:
        raise ReproError("beta 'learned' is for method ciwae")
    return list(dict.fromkeys("ciwae-chosen" if m == "ciwae" else m for m in methods))


def _of_method(
    method: str, methods: list[str], protocol: str, M, K, beta, alpha
) -> Iterator[dict[str, object]]:
    """The numbers of each run of a method among others, from those that are given for all."""
    layout = _layout_as_released if protocol == "released" else _layout
    numbers = dict(zip("MK", layout(method, M, K), strict=True))
    if METHODS[method].takes_alpha:
        numbers["alpha"] = alpha
    elif alpha is not None and not any(METHODS[m].takes_alpha for m in methods):
        raise ReproError(f"{method} has no alpha; leave it out, or use vr-iwae")
    for value in _betas(method, beta, methods):
        yield numbers | {"beta": value}


def _methods(texts: list[str], protocol: str, alpha: float | None) -> list[str]:
    """The methods named, each once and in order."""
    whole = [m for m in TABLE_METHODS if protocol == "paper" or m in LAYOUTS_AS_RELEASED]
    names: list[str] = []
    for text in texts:
        if text == "all":
            names += whole
        else:
            names.append(own.method_in(text) if ".py:" in text else text)
    for name in names:
        objective = METHODS[one_of("method", name, METHODS, also="FILE.py:BOUND")]
        _check_alpha(name, alpha)
        if objective is not SHIPPED.get(name):
            from repro.bound_trial import check_kind

            check_kind(name, objective)
    return list(dict.fromkeys(names))


@functools.cache
def _try(method: str, objective: Objective, M: int, K: int) -> None:
    """Try somebody's own bounds with M groups of K samples, and print remarks."""
    if METHODS[method] is not SHIPPED.get(method):
        from repro import bound_trial

        for remark in bound_trial.check(method, objective, M, K):
            print(remark, flush=True)


@functools.cache
def _try_smooth(method: str, objective: Objective) -> None:
    """Try that the bound of somebody's own phi is smooth enough for ``drep``."""
    if objective is not SHIPPED.get(method) and objective.phi is not None:
        from repro import bound_trial

        bound_trial.check_smooth(method, objective)


def _check_together(words: Mapping[str, str], methods: list[str]) -> None:
    """Raise ReproError if the other words allow no such estimator or decoder."""
    released = words["protocol"] == "released"
    if released and words["estimator"] != "rep":
        raise ReproError("the released code has no estimator but rep; leave one of the two out")
    if own.is_own(words["model"]):
        _check_own_model(words)
    if words["estimator"] in SECOND_ORDER:
        for method in methods:
            _try_smooth(method, METHODS[method])
    if words["decoder"] == "own":
        return
    if released:
        raise ReproError("the released code trains both networks; leave the decoder out")
    for word in ("hidden", "latent"):
        if words.get(word) is not None:
            raise ReproError(f"the released decoders have sizes of their own; leave {word} out")
    setting = setting_of(words["dataset"], words["model"])
    if setting not in SETTINGS:
        there = ", ".join(SETTINGS)
        raise ReproError(f"no decoder was released for {setting}; there are weights for {there}")


def _check_wake(e: Experiment) -> None:
    """Raise ReproError if e is of ``rws`` and phi's bound is linear in log w, as the VAE's is."""
    objective = METHODS[e.method].with_alpha(e.alpha)
    bent = METHODS[e.method] is SHIPPED.get(e.method) and 1 not in (e.K, e.beta)
    if e.estimator != "rws" or objective.phi is None or bent:
        return  # those of the project are linear with one sample in a group, or with beta 1
    from repro.estimators import check_bent

    check_bent(objective.phi, e.M, e.K, USUAL_BETA if e.beta is None else e.beta)


OF_PROJECTS_NETWORKS = ("init", "protocol", "decoder", "hidden", "latent")


def _check_own_model(words: Mapping[str, object]) -> None:
    """Raise ReproError for words that mean nothing to somebody's own model."""
    for word in OF_PROJECTS_NETWORKS:
        if words.get(word) not in (None, WORDS[word].usual):
            raise ReproError(f"{word} is of the project's networks; leave it out of your own model")
    precision = words["precision"]
    if precision not in ("float32", "tf32"):
        raise ReproError(f"precision {precision} is of the project's networks; use float32 or tf32")


def _range_of(dataset: str) -> tuple[float, float]:
    """The least and the largest value of a dataset's images."""
    return own.images_in(dataset).range if own.is_own(dataset) else (0.0, 1.0)


def _leaves_unit_range(dataset: str) -> bool:
    low, high = _range_of(dataset)
    return low < 0 or high > 1


def _check_images(words: Mapping[str, str]) -> None:
    """Raise ReproError if images cannot be binarised as is said, or the model needs it otherwise.

    The project's networks model pixels that are 0 or 1.
    """
    low, high = _range_of(words["dataset"])
    values = f"values go from {low:.8g} to {high:.8g}"
    outside = _leaves_unit_range(words["dataset"])
    mend = "divide by 255" if low >= 0 and high == 255 else "bring them from 0 to 1"
    if words["binarise"] != "no" and outside:
        raise ReproError(
            f"{values}, and pixels are binarised from 0 to 1; {mend}, or train with binarise no"
        )
    if words["binarise"] == "no" and not own.is_own(words["model"]):
        mend = mend if outside else "leave binarise out"
        raise ReproError(
            f"{values} and are not binarised, and the project's networks model pixels that are 0 "
            f"or 1; {mend}, or name a model of your own"
        )


def with_images(e: Experiment, dataset: str) -> Experiment:
    """Run ``e`` with other images, which its model can score: a dataset's name, or FILE.npz."""
    name = WORDS["dataset"].read("dataset", dataset)
    other = replace(e, dataset=name, held_out=None)
    if name != e.dataset:
        _check_images(asdict(other))
    return other


def check_own_files(e: Experiment, **files: str | None) -> None:
    """Load a user's model or data from ``files``; ReproError if one is not that of run ``e``."""
    for word, file in files.items():
        if file is not None and WORDS[word].read(word, file) != getattr(e, word):
            raise ReproError(
                f"{file} is not the {word} of {e.name}, {getattr(e, word)}, or has changed since; "
                "of a model the record keeps the text, model.py"
            )


def _check_alpha(method: str, alpha: float | None) -> None:
    if method == "vr-iwae" and alpha is not None and not 0 <= alpha < 1:
        raise ReproError(f"alpha is {alpha:g}; give vr-iwae a number from 0 (IWAE) to below 1")


def measured_at_milestones(names: str | Sequence[str]) -> tuple[str, ...]:
    """Parse the measurements to make where stages of the learning rate end, split by commas.

    "none" gives an empty tuple.
    """
    if names in ("none", (), []):
        return ()
    several = _several("measurement", names)
    return tuple(one_of("measurement", name, AT_MILESTONES) for name in several)


def unbiased_estimators(method: str) -> tuple[str, ...]:
    """The unbiased estimators of phi's gradient: rep and, if phi's bound is smooth, drep."""
    if METHODS[method].phi is None:
        return ("rep",)
    try:
        _try_smooth(method, METHODS[method])
    except ReproError:
        return ("rep",)
    return ("rep", "drep")


def told_apart(runs: list[Experiment]) -> dict[Experiment, str]:
    """Give each run a short name: its method, and words that tell runs of one method apart."""
    names = {e: e.method for e in runs}
    for word in WORDS:
        counts = Counter(names.values())
        longer = {e: n if counts[n] == 1 else f"{n} {e.in_name(word)}" for e, n in names.items()}
        if len({*longer.values()}) > len(counts):
            names = {e: name.strip() for e, name in longer.items()}
    return names


def _layout(method: str, M: int | None, K: int | None) -> tuple[int, int]:
    """(M, K): any, if the method leaves the choice; otherwise as many samples, in its own groups.

    What is not given leaves 64 samples.
    """
    objective = METHODS[method]
    if M is None and K is None:
        _, *usual = usual_layout(method)
        return tuple(usual)
    if objective.M == 1 or objective.K == 1:
        samples = (M or 1) * (K or 1)
        layout = (1, samples) if objective.M == 1 else (samples, 1)
        if M and K and layout != (M, K):
            taken = f"M = {layout[0]}, K = {layout[1]}"
            print(f"{method} takes {samples} samples as {taken}", flush=True)
    else:
        layout = _divided(M or objective.M, K or objective.K)
    for name, fixed, found in zip("MK", (objective.M, objective.K), layout, strict=True):
        if fixed not in (None, found):
            raise ReproError(f"{method} has {name} = {fixed}; leave {name} out")
    return layout


def _divided(M: int | None, K: int | None) -> tuple[int, int]:
    """(M, K), of which one that is None leaves 64 samples."""
    for given, name, other in ((M, "M", "K"), (K, "K", "M")):
        if given and None in (M, K) and T % given:
            raise ReproError(f"{name} = {given} does not divide {T} samples; say {other}, too")
    return M or T // K, K or T // M


def _layout_as_released(method: str, M: int | None, K: int | None) -> tuple[int, int]:
    """(M, K) that the released code uses; as there, K of CIWAE's second term can be set."""
    if method not in LAYOUTS_AS_RELEASED:
        raise ReproError(
            f"the released code trains {method} as the paper says; leave the protocol out"
        )
    usual = LAYOUTS_AS_RELEASED[method]
    layout = (M or usual[0], K or usual[1])
    if layout[0] != usual[0] or (layout != usual and not METHODS[method].takes_beta):
        raise ReproError(
            f"the released code trains {method} with {usual} whatever M and K say; leave them out"
        )
    return layout


def _betas(method: str, given: list[str] | None, methods: list[str]) -> list[float | None]:
    """The values of beta with which a method is run; [None] if it has no beta."""
    if METHODS[method].takes_beta:
        return list(dict.fromkeys(_beta(method, b) for b in given or [USUAL_BETA]))
    if given is not None and not any(METHODS[m].takes_beta for m in methods):
        raise ReproError(f"{method} has no beta; leave it out, or use ciwae")
    return [None]


def _beta(method: str, word) -> float:
    value = _number("beta", word)
    learns = METHODS[method].learns_beta
    if not (0 < value < 1 if learns else 0 <= value <= 1):
        ends = ", neither end included, to start from" if learns else ""
        raise ReproError(f"beta is {value:g}; give a number between 0 (IWAE) and 1 (VAE){ends}")
    return value


def commands(wanted: Iterable[Experiment]) -> list[str]:
    """The commands that train the ``wanted`` runs, with as few commands as possible.

    >>> commands(plan("iwae,piwae", profile="smoke"))
    ['python -m repro train --method iwae,piwae --profile smoke']
    """
    alike: dict[tuple, list[Experiment]] = {}
    for e in dict.fromkeys(wanted):
        others = [(word, v) for word, v in e.said.items() if word not in ("method", "beta")]
        alike.setdefault(tuple(others), []).append(e)
    found = [said for others, runs in alike.items() for said in _together(dict(others), runs)]
    return list(dict.fromkeys(map(_command, found)))


def _together(others: dict, runs: list[Experiment]) -> list[dict]:
    """The words that plan runs that differ in method and beta; each run's if those plan more."""
    methods = list(dict.fromkeys(e.method for e in runs))
    betas = list(dict.fromkeys(e.beta for e in runs if e.beta is not None))
    have_beta = {e.method for e in runs if e.beta is not None}
    if sum(len(betas) if m in have_beta else 1 for m in methods) != len(runs):
        return [e.said for e in runs]
    said = others.copy()
    if tuple(methods) != TABLE_METHODS:
        said["method"] = methods
    if betas not in ([], [USUAL_BETA]):
        said["beta"] = betas
    return [said]


def with_epochs(runs: list[Experiment], epochs: int) -> list[Experiment]:
    """The same runs with another number of epochs."""
    return [replace(e, epochs=epochs) for e in runs]
