"""What is run: one ``Experiment`` is one training run; exhibits are named lists of them; profiles say how long.

Nothing here trains. ``plan`` turns a user's words into experiments and says in one line what is wrong with them.
"""

from __future__ import annotations

import functools
import os
from dataclasses import asdict, dataclass, replace

from repro import ReproError, one_of
from repro.bounds import METHODS, T, check
from repro.data import DATASETS
from repro.models import MODELS, SIGMA

TABLE_METHODS = ("iwae", "piwae", "miwae", "ciwae", "vae")  # in the order of the report's Table 1


@dataclass(frozen=True)
class Profile:
    """How long to train, and with how many samples to estimate log p-hat."""

    name: str
    dataset: str
    epochs: dict[str, int]
    log_px_samples: int
    trained_here: bool = True


# Burda's schedule: stage i lasts 3^i epochs, i = 0 ... 7; these are the epochs at which the stages end.
MILESTONES = (1, 4, 13, 40, 121, 364, 1093, 3280)


def _epochs(default: int, **others: int) -> dict[str, int]:
    return {name: others.get(name.split("-")[0], default) for name in DATASETS}


PROFILES = {
    "smoke": Profile("smoke", "digits", _epochs(4), log_px_samples=1000),
    "short": Profile("short", "mnist", _epochs(40), log_px_samples=5000),
    "full": Profile("full", "mnist", _epochs(3280, omniglot=1000), log_px_samples=5000),
    "published": Profile("published", "mnist", _epochs(3280, omniglot=1000), log_px_samples=5000, trained_here=False),
}
# (M, K) of the methods that the report's released code does not train as the paper says; PIWAE's are its encoder's
RELEASED = {"piwae": (10, 10), "ciwae": (1, 1), "vae": (1, 1), "ciwae-learned": (1, 1)}
PROTOCOLS = ("paper", "released")
PRECISIONS = ("float32", "tf32", "bf16")  # of training's matrix products over samples
TRAINED = [name for name, p in PROFILES.items() if p.trained_here]


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
    batch_size: int = 20
    protocol: str = "paper"
    precision: str = "float32"

    @property
    def shared(self) -> tuple:
        """What all runs of one program have in common."""
        samples = self.M * self.K if self.protocol == "paper" else None
        return self.dataset, self.model, samples, self.epochs, self.profile, self.init, self.batch_size, self.protocol, self.precision

    @property
    def group(self) -> str:
        """Name of the folder that holds runs trained on the same data with the same model, as ``mnist-reference``."""
        return "-".join([self.dataset, self.model] + [self.init] * (self.init != "default"))

    @property
    def name(self) -> str:
        """Name of the run's folder, as ``piwae-M8-K8-seed0``; what departs from the profile is named."""
        parts = [self.method, f"M{self.M}", f"K{self.K}"]
        parts += [] if self.beta is None else [f"beta{self.beta:g}"]
        parts += [f"seed{self.seed}"]
        parts += [f"epochs{self.epochs}"] * (self.epochs != PROFILES[self.profile].epochs[self.dataset])
        parts += [f"batch{self.batch_size}"] * (self.batch_size != 20)
        parts += [self.protocol] * (self.protocol != "paper")
        parts += [self.precision] * (self.precision != "float32")
        return "-".join(parts)

    @property
    def command(self) -> str:
        """The command that makes this run's record."""
        if self.profile == "published":
            return "python -m repro audit"
        words = ["python -m repro train", f"--method {self.method}"]
        if self.protocol == "released":
            words += ["--protocol released"] + [f"--K {self.K}"] * (RELEASED[self.method] != (self.M, self.K))
        elif METHODS[self.method].M is None and (self.M, self.K) != (8, 8):
            words += [f"--M {self.M}", f"--K {self.K}"]
        words += [] if self.beta in (None, 0.5) else [f"--beta {self.beta:g}"]
        words += [f"--dataset {self.dataset}"] * (self.dataset != PROFILES[self.profile].dataset)
        words += [f"--model {self.model}"] * (self.model != "reference")
        words += [f"--seed {self.seed}"] * (self.seed != 0)
        words += [f"--epochs {self.epochs}"] * (self.epochs != PROFILES[self.profile].epochs[self.dataset])
        words += [f"--init {self.init}"] * (self.init != "default")
        words += [f"--precision {self.precision}"] * (self.precision != "float32")
        return " ".join([*words, f"--profile {self.profile}"])

    def as_dict(self) -> dict:
        """Its fields, as ``config.json`` holds them."""
        return asdict(self)


def profile(name: str = "auto", device: str = "auto") -> Profile:
    """The profile called ``name``; ``auto`` is ``REPRO_PROFILE`` where set, else full on an accelerator, else smoke."""
    if name == "auto":
        name = os.environ.get("REPRO_PROFILE") or ("full" if device != "cpu" and _has_accelerator() else "smoke")
    return PROFILES[one_of("profile", name, TRAINED)]


def _has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available()


def plan(
    method="all", dataset=None, model="reference", M=None, K=None, beta=None, seed=0, epochs=None, profile_name="auto",
    init="default", protocol="paper", precision="float32", device="auto",
) -> list[Experiment]:  # fmt: skip
    """Experiments from a user's words: ``method``, ``beta`` and ``seed`` may list several ("piwae,iwae", "0,1"; "all" is Table 1's five).

    ``protocol="released"`` trains as the report's released code does, where that is not as the paper says.
    Raises ReproError, one line, where a name is unknown, beta is outside [0, 1] or M K is not 64.
    """
    p = profile(profile_name, device)
    dataset = one_of("dataset", dataset or p.dataset, DATASETS)
    released = one_of("protocol", protocol, PROTOCOLS) == "released"
    every = [m for m in TABLE_METHODS if not released or m in RELEASED]
    names = [n for word in _split(method) for n in (every if word == "all" else [word])]
    methods = [one_of("method", name, METHODS) for name in names]
    for name in methods:
        _check(name, METHODS[name])
    seeds = [_whole("seed", s, minimum=0) for s in _split(seed)]
    epochs = p.epochs[dataset] if epochs is None else _whole("epochs", epochs, minimum=1)
    model, init = one_of("model", model, MODELS), one_of("init", init, SIGMA)
    precision = one_of("precision", precision, PRECISIONS)
    in_vain = not any(METHODS[m].takes_beta for m in methods)
    return [
        Experiment(
            m,
            dataset,
            model,
            *(_released_layout if released else _layout)(m, M, K),
            b,
            s,
            epochs,
            p.name,
            init,
            protocol=protocol,
            precision=precision,
        )
        for s in dict.fromkeys(seeds)
        for m in dict.fromkeys(methods)
        for b in dict.fromkeys(_beta(m, given, in_vain) for given in ([None] if beta is None else _split(beta)))
    ]


_check = functools.cache(check)


def told_apart(runs: list[Experiment]) -> dict[Experiment, str]:
    """What each of the runs is called among the others: its method, with beta and seed where there are several of them."""
    betas, seeds = {e.beta for e in runs} - {None}, {e.seed for e in runs}

    def name(e: Experiment) -> str:
        return e.method + (f"({e.beta:g})" if e.beta is not None and len(betas) > 1 else "") + f" seed {e.seed}" * (len(seeds) > 1)

    return {e: name(e) for e in runs}


def _layout(method: str, M, K) -> tuple[int, int]:
    """(M, K): the method's own where it leaves no choice; else what is given, else (8, 8)."""
    M, K = (None if v is None else _whole(n, v, minimum=1) for n, v in (("M", M), ("K", K)))
    given = " and ".join(f"{n} = {v}" for n, v in (("M", M), ("K", K)) if v is not None)
    if M is None:
        M = METHODS[method].M or (T // K if K else 8)
    K = T // M if K is None else K
    if M * K != T:
        raise ReproError(f"with {given} there is no M*K = {T}, at which every method is compared; say M=8 and K=8")
    if METHODS[method].M not in (None, M):
        fixed = METHODS[method].M
        raise ReproError(f"{method} has M = {fixed} and K = {T // fixed}; for M = {M}, K = {K} use miwae or piwae")
    return M, K


def _released_layout(method: str, M, K) -> tuple[int, int]:
    """(M, K) that the released code uses; K of CIWAE's second term can be set, as there."""
    if method not in RELEASED:
        raise ReproError(f"the released code trains {method} as the paper says; leave the protocol out")
    if M is not None or (K is not None and not METHODS[method].takes_beta):
        raise ReproError(f"the released code trains {method} with {RELEASED[method]} whatever M and K say; leave them out")
    return RELEASED[method] if K is None else (1, _whole("K", K, minimum=1))


def _beta(method: str, beta, in_vain: bool) -> float | None:
    if not METHODS[method].takes_beta:
        if beta is not None and in_vain:
            raise ReproError(f"{method} has no beta; leave it out, or use ciwae")
        return None
    try:
        value = 0.5 if beta is None else float(beta)
    except (TypeError, ValueError):
        raise ReproError(f"beta is '{beta}'; give a number between 0 (IWAE) and 1 (VAE)") from None
    learned = METHODS[method].learns_beta
    if not (0 < value < 1 if learned else 0 <= value <= 1):
        raise ReproError(f"beta is {value:g}; give a number between 0 (IWAE) and 1 (VAE){', neither end included, to start from' * learned}")
    return value


def _whole(what: str, value, minimum: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = minimum - 1
    if number < minimum:
        raise ReproError(f"{what} is '{value}'; give a whole number of at least {minimum}")
    return number


def _split(value) -> list[str]:
    """Words separated by commas; a list stays one."""
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else [v.strip() for v in str(value).split(",")]


def commands(wanted: list[Experiment]) -> list[str]:
    """The commands that make these runs' records: one for all methods and betas that can be trained together."""
    groups: dict[str, dict[Experiment, None]] = {}
    for e in wanted:
        words = e.command.replace(f"--method {e.method}", "--method {}")
        groups.setdefault(words if e.beta is None else words.replace(f" --beta {e.beta:g}", ""), {})[e] = None
    found = []
    for words, group in groups.items():
        methods, betas = dict.fromkeys(e.method for e in group), dict.fromkeys(e.beta for e in group if e.beta is not None)
        together = len(group) == sum(len(betas) if METHODS[m].takes_beta else 1 for m in methods)
        beta = f" --beta {','.join(f'{b:g}' for b in betas)}" * (list(betas) not in ([], [0.5]))
        words = words.replace(" --method {}", beta) if tuple(methods) == TABLE_METHODS else words.format(",".join(methods) + beta)
        found += [words] if together else [e.command for e in group]
    return list(dict.fromkeys(found))


BETAS = (0.1, 0.3, 0.5, 0.7, 0.9)  # Figure 4: fixed at, and learned from
OMNIGLOT = "omniglot-lake"  # the version that can be had everywhere
MNIST, LARGER, OTHER = ("mnist", "reference"), ("mnist", "larger"), (OMNIGLOT, "reference")
EXHIBITS = {  # the report's tables and figures, and the groups of runs that each draws on
    "table1": (MNIST, LARGER),
    "table2": (MNIST, OTHER),
    "figure1": (MNIST,),
    "figure2": (OTHER,),
    "figure3": (LARGER,),
    "figure4": (MNIST,),
    "figure5": (MNIST,),
    "figure6": (OTHER,),
    "figure7": (MNIST, OTHER),
}
STUDIES = ("snr", "audit")  # notebooks besides the report's exhibits
IN_SMOKE = ("table1", "figure1", "figure4", "figure5")


def exhibit(name: str, profile_name: str, omniglot: str = OMNIGLOT) -> list[Experiment]:
    """The runs that the table or figure ``name`` draws on, seed 0, in the given profile, on the given version of Omniglot.

    The smoke profile has the reference model on its own small data. Raises ReproError where that is not enough.
    """
    groups = [(omniglot if dataset == OMNIGLOT else dataset, model) for dataset, model in EXHIBITS[one_of("exhibit", name, EXHIBITS)]]
    if profile_name == "smoke":
        if name not in IN_SMOKE:
            raise ReproError(f"{name} needs more than the smoke profile has; give profile short or full")
        groups = ((PROFILES["smoke"].dataset, "reference"),)
    if name == "figure4":
        epochs = 13 if profile_name == "short" else None
        methods = [(m, b) for m in ("ciwae", "ciwae-learned") for b in BETAS]
        return [e for m, b in methods for e in plan(m, *groups[0], beta=b, epochs=epochs, profile_name=profile_name)]
    methods = "miwae" if name == "figure7" else "all"
    return [e for group in groups for e in plan(methods, *group, profile_name=profile_name)]


def wanted(profile_name: str) -> list[Experiment]:
    """Every run that any exhibit wants in the given profile, once."""
    names = IN_SMOKE if profile_name == "smoke" else EXHIBITS
    return list(dict.fromkeys(e for name in names for e in exhibit(name, profile_name)))


def with_epochs(experiments: list[Experiment], epochs: int) -> list[Experiment]:
    """The same runs at another length of training."""
    return [replace(e, epochs=epochs) for e in experiments]
