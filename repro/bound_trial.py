"""Checks of a user's own bound before training begins, each fault reported in one line."""

import re
from itertools import product

import numpy
import torch
from torch import Tensor

from repro import Ended, ReproError, in_short, plural
from repro.bounds import Bound, Objective, T, applied
from repro.estimators import parameters_behind
from repro.own_code import hashed_modules, time_limit, users_code

TRIAL_BATCH = 20  # images, as in training
TRIAL_K = 4  # unlike M and the batch
NODES = 48  # of the quadrature along a segment in ``check_smooth``
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TAKEN = ("all", "learned")  # words with a meaning of their own
FAR = 500.0  # below 0, where log-weights of images are
MOST_TRIED = 10**5  # samples
SECONDS = 60  # that a trial may take


def check_kind(name: str, objective: object) -> None:
    """Check that ``objective`` is an Objective that may have its name, M, K and beta.

    Raises ReproError, one line.
    """
    if not NAME.fullmatch(name) or name in TAKEN:
        raise ReproError(
            f"a method cannot be called '{name}'; its name is that of a folder: "
            "lower-case letters, digits and single hyphens, and not a word with another meaning"
        )
    entry = f"METHODS['{name}']"
    if not isinstance(objective, Objective):
        raise ReproError(
            f"{entry} is not an Objective; write {entry} = both(...) in repro/bounds.py"
        )
    if not all(map(_is_function, objective.bounds)):
        raise ReproError(f"{entry} has a bound that cannot be called or hashed; make it a function")
    for letter, number in (("M", objective.M), ("K", objective.K)):
        if number is not None and not (type(number) is int and number > 0 and T % number == 0):
            raise ReproError(
                f"{entry} has {letter} = {number!r}; {letter} is a whole number that divides {T}, "
                "or None to leave the choice open"
            )
    if (objective.learns_beta or objective.chooses_beta) and not objective.takes_beta:
        raise ReproError(f"{entry} is to find beta, but no bound of it has a parameter called beta")


def _is_function(bound: object) -> bool:
    try:
        hash(bound)  # which may fail in a field of a frozen dataclass
    except TypeError:
        return False
    return callable(bound)


def check(name: str, objective: Objective, M: int | None = None, K: int | None = None) -> list[str]:
    """Check ``objective`` as training will use it: in float32, on two runs, with its gradient.

    It is tried with the M and K asked for, and with an M that is neither K nor the number of
    images. Returns remarks. Raises ReproError, one line, if it is not a pair of
    differentiable bounds [..., M, K, batch] -> [..., batch] that keep runs and images apart.
    """
    check_kind(name, objective)
    unequal = objective.M or T // (objective.K or TRIAL_K)
    layouts = [(unequal, T // unequal)]
    if M is not None and M * K <= MOST_TRIED:
        layouts.insert(0, (M, K))
    remarks = []
    for network, bound in zip(("generative", "inference"), objective.bounds, strict=False):
        called = f"the {network} network's bound of '{name}'"
        with time_limit(called, SECONDS), hashed_modules(called):
            for layout in dict.fromkeys(layouts):
                remarks += _Trial(called, bound, *layout).check()
    return list(dict.fromkeys(remarks))


class _Trial:
    """A bound, its name in a message, and log-weights to try it on."""

    def __init__(self, called: str, bound: Bound, M: int, K: int):
        self.called = called
        self.bound = bound
        shape = (2, M, K, TRIAL_BATCH)  # two runs
        self.log_w = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        self.counts = torch.rand(2, TRIAL_BATCH, generator=torch.Generator().manual_seed(1))
        self.beta = torch.tensor([[0.3], [0.7]])
        self.wanted = f"[..., M, K, batch] to [..., batch], here {[*shape]} to [2, {TRIAL_BATCH}]"

    def _fails(self, how: str) -> ReproError:
        return ReproError(f"{self.called} {how}")

    def at(self, log_w: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The bound [run, batch], and the gradient at log_w of its sum weighted by counts.

        Raises ReproError if they cannot be computed.
        """
        leaf = log_w.clone().requires_grad_()
        given = leaf.clone()  # it may be changed in place, which a leaf may not
        try:
            value = applied(self.bound, given, self.beta[: len(given)])
        except (ReproError, KeyboardInterrupt, Ended):
            raise
        except BaseException as error:
            raise self._fails(f"fails ({in_short(error)}); it must map {self.wanted}") from None
        if not torch.equal(given, log_w):
            raise self._fails("changes log_w in place; make a new tensor instead")
        self._check_kind(value, runs=len(given))
        try:
            (slope,) = torch.autograd.grad((counts * value).sum(), leaf, allow_unused=True)
        except Exception as error:
            raise self._fails(f"has no gradient that can be computed ({in_short(error)})") from None
        return value.detach(), torch.zeros_like(leaf) if slope is None else slope

    def _check_kind(self, value: object, runs: int) -> None:
        if not isinstance(value, Tensor):
            raise self._fails(f"gives {type(value).__name__}; it must map {self.wanted}")
        if value.shape != (runs, TRIAL_BATCH):
            raise self._fails(
                f"gives {[*value.shape]} for {plural(runs, 'run')}; it must map {self.wanted}"
            )
        if (value.layout, value.device) != (self.log_w.layout, self.log_w.device):
            raise self._fails(
                f"gives a {value.layout} tensor on {value.device}; compute from log_w"
            )
        if value.dtype != self.log_w.dtype:
            raise self._fails(f"gives {value.dtype} for float32; compute in log_w's own type")
        if not value.requires_grad:
            raise self._fails(
                "has no gradient; compute it from log_w with torch, and detach nothing"
            )
        if len(parameters_behind(value)) > 1:  # log_w is one
            raise self._fails(
                "has a parameter of its own, which would stay as it is; call it beta, and say "
                "learns_beta=True, to have it learned"
            )

    def check(self) -> list[str]:
        """Raise if the bound is not finite, constant or random, or if it mixes runs or images.

        Returns a remark if it does not rise by as much as all log-weights do.
        """
        usual, slope = self.at(self.log_w, self.counts)
        for what, numbers in (("values", usual), ("gradients", slope)):
            if not numbers.isfinite().all():
                raise self._fails(f"has {what} that are not finite, for normal log-weights")
        if not _at_every_image(slope):
            raise self._fails("does not depend on log_w")
        again, slope_again = self.at(self.log_w, self.counts)
        for what, a, b in (("value", usual, again), ("gradient", slope, slope_again)):
            if not torch.equal(a, b):
                how = f"gives another {what} each time; a bound draws no random numbers"
                raise self._fails(how)
        for run, image in product(range(2), range(TRIAL_BATCH)):
            self._check_alone(run, image, usual, slope)
        one_run, _ = self.at(self.log_w[:1], self.counts[:1])
        if not torch.allclose(one_run, usual[:1]):
            raise self._fails("gives something else for one run than for two; squeeze nothing")
        return self._check_far(usual)

    def _check_alone(self, run: int, image: int, usual: Tensor, usual_slope: Tensor) -> None:
        """Raise if other runs' or images' values or gradients depend on one image, or its count."""
        remedy = "reduce the dimensions -3 and -2 (M and K), no others"
        other, counts = self.log_w.clone(), self.counts.clone()
        other[run, ..., image] *= 2
        counts[run, image] += 1
        value, slope = self.at(other, counts)
        same = torch.isclose(value, usual)
        same &= torch.isclose(slope, usual_slope).flatten(1, 2).all(1)
        if not same[1 - run].all():
            raise self._fails(f"mixes runs that are trained together; {remedy}")
        same[run, image] = True
        if not same.all():
            raise self._fails(f"mixes images; {remedy}")

    def _check_far(self, usual: Tensor) -> list[str]:
        """Raise if the bound has no gradient where log-weights of images are; else remarks."""
        value, slope = self.at(self.log_w - FAR, self.counts)
        if not (value.isfinite().all() and slope.isfinite().all() and _at_every_image(slope)):
            raise self._fails(
                f"has no finite gradient at log-weights near {-FAR:g}, as those of images are; "
                "take repro.bounds.log_mean_exp, or subtract the largest before an exponential"
            )
        if torch.allclose(value, usual - FAR, rtol=1e-3):
            return []
        return [f"{self.called} does not rise with all log-weights by as much: no bound, perhaps"]


def _at_every_image(slope: Tensor) -> bool:
    """True if a gradient [run, M, K, batch] is not zero at every run's every image."""
    return bool(slope.flatten(1, 2).any(1).all())


def check_smooth(name: str, objective: Objective) -> None:
    """Check that phi's bound is twice differentiable in log w, as ``drep`` and ``rws`` need it.

    On a segment from u to v, the integral of the gradient is the bound's difference and that of
    the Hessian the gradient's. Raises ReproError, one line, if one is not: the bound then has a
    jump or a kink, as with max or clamp, or hides something from differentiation, as with detach.
    """
    with users_code(f"the second derivative of the inference network's bound of '{name}'"):
        smooth = _is_smooth(objective)
    if not smooth:
        raise ReproError(
            f"the inference network's bound of '{name}' is not twice differentiable "
            "(is there a max, a clamp or a detach?), which drep and rws need; take rep"
        )


def _is_smooth(objective: Objective) -> bool:
    g = torch.Generator().manual_seed(1)
    M = objective.M or T // (objective.K or 4)
    shape = (M, objective.K or T // M, TRIAL_BATCH)
    u, v = (2 * torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2))

    def value(log_w: Tensor) -> Tensor:
        return applied(objective.phi, log_w, 0.3).sum()

    slope = torch.func.grad(value)
    nodes, weights = numpy.polynomial.legendre.leggauss(NODES)
    rise = torch.zeros((), dtype=u.dtype)
    bend = torch.zeros_like(u)
    for node, weight in zip(nodes, weights, strict=True):
        at = u + (node + 1) / 2 * (v - u)
        gradient, change = torch.func.jvp(slope, (at,), (v - u,))
        rise += weight / 2 * (gradient * (v - u)).sum()
        bend += weight / 2 * change
    whole = torch.allclose(rise, value(v) - value(u), rtol=1e-6)
    return whole and torch.allclose(bend, slope(v) - slope(u), rtol=1e-4, atol=1e-6)
