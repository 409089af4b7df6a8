"""Bounds, estimators and scores for any latent-variable model in PyTorch.

A model is anything with lists of parameters ``theta`` and ``phi`` and a method
``log_weights(x, T, still=False)``: log p(x, z) - log q(z|x) of T reparameterised samples of each of
``x``, in nats, [T, batch]. With ``still``, q's own parameters are held still in its density, as
every estimator but ``rep`` needs it. ``from_distributions`` makes one of an encoder and a decoder.
A model that is trained by the commands may have ``means(x)``, the mean of q(z|x) [batch, latent],
for active units, and ``reconstruct(x)``, an image of each of x, for SSIM and pictures.
A training step is then ::

    bound = repro.backward(model, x, method="piwae", M=8, K=8, estimator="drep")
    optimizer.step()

All numbers are drawn from PyTorch's own generator.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, OneHotCategorical

from repro import ReproError, first_line, plural
from repro.annealing import Annealed, LogWeight, anneal
from repro.bounds import Objective, objective_of
from repro.estimators import check_layout, cotangents, holds_q_still, parameters_behind
from repro.randomness import Streams
from repro.signal import signal_and_noise

SAMPLES_AT_A_TIME = 64  # of each x, where many are drawn for a score
IMAGES_AT_A_TIME = 50  # in annealing
DRAWN_FOR_MOMENTS = 100  # samples of q, for the moments of the distribution that chains begin at


class LatentModel(Protocol):
    """The interface of a user's model: two lists of parameters, and log-weights."""

    theta: Sequence[Tensor]  # of p(x, z)
    phi: Sequence[Tensor]  # of q(z|x)

    def log_weights(self, x: Tensor, T: int, still: bool = False) -> Tensor:
        """log p(x, z) - log q(z|x) of T reparameterised samples, [T, batch], in nats.

        With ``still``, phi is a constant in the density q(z|x) and acts through z alone.
        """


class LossGradients(NamedTuple):
    """Gradients of both losses, and theta's bound."""

    theta: tuple[Tensor, ...]  # of each of the model's theta
    phi: tuple[Tensor, ...]
    bound: Tensor  # theta's, the mean over the batch, in nats


def backward(
    model: LatentModel,
    x: Tensor,
    method: str | Objective,
    M: int,
    K: int,
    estimator: str = "rep",
    beta: float | None = None,
) -> Tensor:
    """Set ``.grad`` of theta and of phi to the gradients of their losses; return theta's bound.

    A loss is the negative of a bound's mean over the batch; ``cotangents`` has the equations and
    sources of bounds and estimators. T = M K samples are drawn of each of ``x`` [batch, ...]. The
    bound is a scalar, in nats.

    Raises ReproError for what ``cotangents`` refuses, for log-weights that are not finite or not
    [T, batch], and for parameters that stand in both lists or have no part in log w.

    >>> from torch.distributions import Normal
    >>> encoder = nn.Linear(3, 2)
    >>> decoder = nn.Linear(2, 3)
    >>> model = from_distributions(
    ...     lambda x: Normal(encoder(x), 1.0), lambda z: Normal(decoder(z), 1.0),
    ...     theta=decoder.parameters(), phi=encoder.parameters(),
    ... )
    >>> bound = backward(model, torch.zeros(5, 3), method="miwae", M=2, K=4)
    >>> bound.shape, encoder.weight.grad.shape
    (torch.Size([]), torch.Size([2, 3]))
    """
    found = loss_gradients(model, x, method, M, K, estimator, beta)
    for parameters, values in ((model.theta, found.theta), (model.phi, found.phi)):
        for parameter, value in zip(parameters, values, strict=True):
            parameter.grad = value
    return found.bound


def loss_gradients(
    model: LatentModel,
    x: Tensor,
    method: str | Objective,
    M: int,
    K: int,
    estimator: str = "rep",
    beta: float | None = None,
) -> LossGradients:
    """The gradients that ``backward`` sets, without setting them."""
    objective = objective_of(method)
    if objective.learns_beta or objective.chooses_beta:
        raise ReproError("the method finds its own beta, for which there is no parameter here")
    theta, phi = parameter_lists(model)
    T = M * K
    check_layout(M, K)
    log_w = checked_log_weights(model.log_weights(x, T, still=holds_q_still(estimator)), T, x)
    counts = cotangents(log_w, objective, M, K, estimator, beta)
    one_pass = objective.is_shared and estimator == "rep"
    for_phi = None if one_pass else counts.phi
    return LossGradients(*pulled_back(log_w, theta, phi, counts.theta, for_phi), -counts.loss)


def pulled_back(
    log_w: Tensor, theta: list[Tensor], phi: list[Tensor], for_theta: Tensor, for_phi: Tensor | None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Gradients at theta and at phi from the cotangents of log_w, each [T, batch].

    Both come from one pass if ``for_phi`` is None, because phi's cotangent is theta's.
    Raises ReproError for a parameter that has no part in log w.
    """
    if not log_w.requires_grad:
        raise ReproError("log_weights gives numbers without a gradient; detach nothing")
    if for_phi is None:
        both = gradients_of(log_w, theta + phi, for_theta)
        of_theta, of_phi = both[: len(theta)], both[len(theta) :]
    else:
        of_theta = gradients_of(log_w, theta, for_theta)
        of_phi = gradients_of(log_w, phi, for_phi)
    for name, values in (("theta", of_theta), ("phi", of_phi)):
        missing = [number for number, value in enumerate(values) if value is None]
        if missing:
            raise ReproError(f"log w does not depend on {name}[{missing[0]}]; leave it out")
    return of_theta, of_phi


def gradients_of(
    log_w: Tensor, parameters: Sequence[Tensor], cotangent: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradient of sum(cotangent log_w) at each parameter, None if it has no part in log_w."""
    if not parameters:
        return ()
    how = {"allow_unused": True, "retain_graph": True}
    return torch.autograd.grad(log_w, parameters, cotangent, **how)


def parameter_lists(model: LatentModel) -> tuple[list[Tensor], list[Tensor]]:
    """The model's theta and phi; ReproError if a parameter cannot be trained or is in both."""
    theta, phi = _listed("theta", model.theta), _listed("phi", model.phi)
    if {id(p) for p in theta} & {id(p) for p in phi}:
        raise ReproError("a parameter is in both theta and phi, which have losses of their own")
    if not theta + phi:
        raise ReproError("there is neither theta nor phi to train; list parameters in them")
    return theta, phi


def _listed(name: str, given: object) -> list[Tensor]:
    """A list of parameters, each once and trainable, or ReproError."""
    if not isinstance(given, Sequence) or not all(isinstance(p, Tensor) for p in given):
        raise ReproError(f"{name} is {type(given).__name__}; make it a list of parameters")
    fixed = [number for number, p in enumerate(given) if not p.requires_grad]
    if fixed:
        raise ReproError(f"{name}[{fixed[0]}] has requires_grad off; leave it out")
    if len({id(p) for p in given}) != len(given):
        raise ReproError(f"{name} has a parameter twice; list each once")
    return list(given)


def checked_log_weights(log_w: Tensor, T: int, x: Tensor) -> Tensor:
    """Return ``log_w``; ReproError if it is not real, finite and [T, batch]."""
    if log_w.shape != (T, len(x)):
        raise ReproError(
            f"log_weights gives {[*log_w.shape]}; it must be [T, batch], {[T, len(x)]}"
        )
    if not log_w.is_floating_point():
        raise ReproError(f"log_weights gives {log_w.dtype}; it must give real numbers")
    if not log_w.isfinite().all():
        raise ReproError("log_weights gives numbers that are not finite; look at them first")
    return log_w


# Scores


@contextlib.contextmanager
def evaluating(model: LatentModel) -> Iterator[None]:
    """Let every module that a model holds be in its mode for evaluation, and put it back.

    It holds what it is, its attributes, and the modules whose methods they are.
    """
    modes = {}
    for held in (model, *getattr(model, "__dict__", {}).values()):
        owner = getattr(held, "__self__", held)
        parts = owner.modules() if isinstance(owner, nn.Module) else ()
        modes |= {part: part.training for part in parts}
    for part in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def log_px(model: LatentModel, x: Tensor, K: int = 5000) -> Tensor:
    """log (1/K) sum w of each of ``x``, [batch], float64, in nats: log p-hat, Burda et al., eq. 8.

    A lower bound of log p(x) in expectation, which depends on q. Memory does not grow with K.
    Modules that the model holds are in their mode for evaluation meanwhile; those that a function
    of yours reaches are not.

    >>> model = from_distributions(lambda x: Normal(x / 2, 0.5**0.5), lambda z: Normal(z, 1.0))
    >>> x = torch.zeros(1, 2)  # q is the posterior, and so every weight is p(x) = N(x; 0, 2 I)
    >>> exact = Normal(0.0, 2**0.5).log_prob(x).sum(1)
    >>> bool(torch.allclose(log_px(model, x, K=3).float(), exact))
    True
    """
    if K < 1 or not len(x):
        raise ReproError(f"log_px of {plural(len(x), 'image')} with K = {K} needs one of each")
    with evaluating(model):
        sums = [log_w.logsumexp(0) for log_w in _chunks(model, x, K)]
    return torch.stack(sums).logsumexp(0) - math.log(K)


def _chunks(model: LatentModel, x: Tensor, K: int) -> Iterator[Tensor]:
    """K log-weights of each of x, a few at a time: [samples, batch], float64."""
    for done in range(0, K, SAMPLES_AT_A_TIME):
        samples = min(SAMPLES_AT_A_TIME, K - done)
        yield checked_log_weights(model.log_weights(x, samples), samples, x).double()


def ais(model: LatentModel, x: Tensor, temperatures: int = 500, chains: int = 16) -> Annealed:
    """log p(x) of each of ``x`` by annealed importance sampling, which hardly depends on q.

    ``annealing`` has the method and its sources. The fields of the result are [batch].
    Chains begin at a normal distribution with the moments of q. Besides log-weights the model gives
    ``draw(x, T)``, samples z [T, batch, ...] of q, and ``log_joint(x, z)``, log p(x, z) [T, batch],
    which is differentiable in z. z ranges over all real numbers: a prior of fewer has to be
    transformed. Modules that the model holds are in their mode for evaluation meanwhile. Raises
    ReproError if the model lacks one of the two, or has no finite density where chains go.

    >>> model = from_distributions(lambda x: Normal(0 * x, 1.0), lambda z: Normal(z, 1.0))
    >>> x = torch.ones(1, 2)
    >>> exact = Normal(0.0, 2**0.5).log_prob(x).sum(1)
    >>> _ = torch.manual_seed(0)
    >>> bool((ais(model, x, temperatures=20).log_px - exact).abs() < 0.2)
    True
    """
    if not (hasattr(model, "draw") and hasattr(model, "log_joint")):
        raise ReproError("ais needs a model with draw(x, T) and log_joint(x, z)")
    if temperatures < 1 or chains < 1 or not len(x):
        raise ReproError("ais needs a temperature, a chain and an image at least")
    streams = Streams([int(torch.randint(2**31, ()))], "ais", x.device)
    parts = []
    try:
        with evaluating(model):
            for some in x.split(IMAGES_AT_A_TIME):
                found = anneal(*_target(model, some), streams, temperatures, chains)
                parts.append(Annealed(*(values[0] for values in found)))
    except ValueError as error:  # a distribution's, of a value outside its support
        said = f"ais fails ({first_line(error)}); has z a density at all real numbers?"
        raise ReproError(said) from None
    whole = Annealed(*(torch.cat(values) for values in zip(*parts, strict=True)))
    if not whole.log_px.isfinite().all():
        raise ReproError("ais is not finite; are x, and log p(x, z) at all real numbers?")
    return whole


def _target(model: LatentModel, x: Tensor) -> tuple[LogWeight, tuple[int, int, int]]:
    """log p(x, z) - log N(z; mu, sigma), with its slope, at u = (z - mu) / sigma; u's shape."""
    with torch.no_grad():
        z = model.draw(x, DRAWN_FOR_MOMENTS)
        sigma, mu = torch.std_mean(z, 0)
    log_sigma = sigma.log().reshape(len(x), -1).sum(1)
    constant = log_sigma + mu[0].numel() * math.log(2 * math.pi) / 2

    @torch.enable_grad()
    def log_weight(u: Tensor) -> tuple[Tensor, Tensor]:
        u = u.detach().requires_grad_()
        z = mu + sigma * u[0].reshape(-1, *mu.shape)
        log_w = model.log_joint(x, z) + u[0].square().sum(-1) / 2 + constant
        (slope,) = torch.autograd.grad(log_w.sum(), u)
        return log_w[None].detach(), slope

    return log_weight, (1, len(x), mu[0].numel())


class SignalToNoise(NamedTuple):
    """Signal over noise of the gradients at all of theta and at all of phi.

    The norm of their expectation over the root of the trace of their covariance.
    """

    theta: float
    phi: float


def snr(
    model: LatentModel,
    x: Tensor,
    method: str | Objective,
    M: int,
    K: int,
    estimator: str = "rep",
    beta: float | None = None,
    replicates: int = 100,
) -> SignalToNoise:
    """Measure the signal-to-noise ratios of both gradients at a fixed batch ``x``.

    One ratio for all parameters of a network; ``signal`` has its definition. It is 0 where the
    unbiased estimate of the squared signal, from ``replicates`` gradients, is negative, and not a
    number for a network without parameters.

    >>> encoder = nn.Linear(3, 2)
    >>> decoder = nn.Linear(2, 3)
    >>> model = from_distributions(
    ...     lambda x: Normal(encoder(x), 1.0), lambda z: Normal(decoder(z), 1.0),
    ...     theta=decoder.parameters(), phi=encoder.parameters(),
    ... )
    >>> found = snr(model, torch.ones(5, 3), method="vae", M=4, K=1, replicates=10)
    >>> found.phi > 0
    True
    """
    if replicates < 2:
        raise ReproError(f"replicates = {replicates}; a variance needs two")
    of_theta, of_phi = [], []
    for _ in range(replicates):
        found = loss_gradients(model, x, method, M, K, estimator, beta)
        of_theta.append(_flat(found.theta))
        of_phi.append(_flat(found.phi))
    return SignalToNoise(*(_ratio(torch.stack(values)) for values in (of_theta, of_phi)))


def _ratio(estimates: Tensor) -> float:
    signal, noise = signal_and_noise(estimates)
    if noise == 0:
        return math.inf if signal > 0 else math.nan
    return math.sqrt(max(signal, 0.0) / noise)


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    """All numbers of several gradients; a zero if there are none."""
    return torch.cat([g.flatten() for g in gradients]) if gradients else torch.zeros(1)


# Models made of distributions

Conditional = Callable[[Tensor], Distribution]  # x -> q(z|x), with ``rsample``; or z -> p(x|z)


class DistributionModel(nn.Module):
    """A latent-variable model made of torch distributions: p(z), p(x|z) and q(z|x)."""

    def __init__(self, encoder: Conditional, decoder: Conditional, prior, theta, phi):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.theta = list(theta)
        self.phi = list(phi)
        generative = {id(p) for part in (decoder, prior) for p in _parameters_of(part)}
        self.may_share_phi = any(id(p) in generative for p in self.phi)

    def log_weights(self, x: Tensor, T: int, still: bool = False) -> Tensor:
        """log p(x, z) - log q(z|x) of T samples, [T, batch], in nats; see ``LatentModel``."""
        q = self._posterior(x)
        z = q.rsample((T,))
        if still and self.may_share_phi:
            self._check_phi_acts_through_z(x, z)
        log_q = self._log_q_held_still(q, x, z) if still else _sums(q.log_prob(z))
        return self.log_joint(x, z) - log_q

    def draw(self, x: Tensor, T: int) -> Tensor:
        """T samples of q(z|x), [T, batch, ...]."""
        return self._posterior(x).rsample((T,))

    def means(self, x: Tensor) -> Tensor | None:
        """The mean of q(z|x), [batch, latent]; None if it is not known."""
        try:
            return self._posterior(x).mean.reshape(len(x), -1)
        except NotImplementedError:
            return None

    def reconstruct(self, x: Tensor) -> Tensor | None:
        """The mean of p(x|z) at one sample of q(z|x), in the shape of x; None if not known."""
        try:
            return self.decoder(self.draw(x, 1)[0]).mean.reshape(x.shape)
        except NotImplementedError:
            return None

    def _posterior(self, x: Tensor) -> Distribution:
        q = self.encoder(x)
        innermost = q
        while hasattr(innermost, "base_dist"):
            innermost = innermost.base_dist
        if not q.has_rsample or isinstance(innermost, OneHotCategorical):
            said = f"q is {type(innermost).__name__}, which has no reparameterised samples"
            raise ReproError(f"{said}; take another q")
        if q.batch_shape[:1] != x.shape[:1]:
            raise ReproError(
                f"q has batch_shape {[*q.batch_shape]} for x of {[*x.shape]}; it must begin with "
                "the batch, since each of x has a q of its own"
            )
        return q

    def _log_q_held_still(self, q: Distribution, x: Tensor, z: Tensor) -> Tensor:
        """log q(z|x) as a function of z alone.

        Its parameters are not differentiated while the density is evaluated: a flow reads them
        there. It does so at a view of z, of which a transform with a cache remembers nothing.
        Raises ReproError if the encoder does not give the same q twice, as with dropout, or q has
        no density at numbers that are given.
        """
        wanted = [p.requires_grad for p in self.phi]
        for p in self.phi:
            p.requires_grad_(False)
        try:
            log_q = _sums(self.encoder(x).log_prob(z.view_as(z)))
        except NotImplementedError:
            said = "q has no density at a given z (a transform without its inverse?); take rep"
            raise ReproError(said) from None
        finally:
            for p, was in zip(self.phi, wanted, strict=True):
                p.requires_grad_(was)
        with torch.no_grad():
            if not torch.allclose(_sums(q.log_prob(z.view_as(z))), log_q, equal_nan=True):
                raise ReproError(
                    "the encoder gives another q each time (dropout?), and so the estimator "
                    "would be wrong; take rep, or encoder.eval()"
                )
        return log_q

    def _check_phi_acts_through_z(self, x: Tensor, z: Tensor) -> None:
        """Raise ReproError if log p(x, z) depends on phi where z does not."""
        phi = {id(p) for p in self.phi}
        log_p = self.log_joint(x, z[:1].detach())
        if any(id(p) in phi for p in parameters_behind(log_p)):
            raise ReproError("p(x, z) has a parameter of phi, which has to act through z; take rep")

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) of x [batch, ...] at z [T, batch, ...]: [T, batch], in nats."""
        p = self.decoder(z.flatten(0, 1))
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        shape = p.batch_shape + p.event_shape
        if shape != repeated.shape:
            raise ReproError(
                f"p(x|z) is of {[*shape]}, and x of {[*repeated.shape]}; they must have one shape"
            )
        log_px_z = p.log_prob(repeated).reshape(*z.shape[:2], -1).sum(-1)
        prior = self.prior() if callable(self.prior) else self.prior
        of_prior = getattr(prior, "batch_shape", ()) + getattr(prior, "event_shape", ())
        sizes = zip(of_prior[::-1], z.shape[::-1], strict=False)
        if len(of_prior) > z.dim() or any(ours not in (1, theirs) for ours, theirs in sizes):
            raise ReproError(
                f"p(z) is of {[*of_prior]}, and z of {[*z.shape[2:]]}; they must have one shape"
            )
        return log_px_z + _sums(_log_prior(prior, z))


def _log_prior(prior: Distribution, z: Tensor) -> Tensor:
    """log p(z), -inf outside of the prior's support, which distributions may leave unchecked."""
    log_p = prior.log_prob(z)
    with contextlib.suppress(NotImplementedError, AttributeError):
        log_p = log_p.masked_fill(~prior.support.check(z), -math.inf)
    return log_p


def _sums(log_p: Tensor) -> Tensor:
    """Densities of the parts of z [T, batch, ...] -> of z [T, batch]."""
    return log_p.flatten(2).sum(-1) if log_p.dim() > 2 else log_p


def from_distributions(
    encoder: Conditional,
    decoder: Conditional,
    prior: Distribution | Callable[[], Distribution] | None = None,
    theta: Sequence[Tensor] | None = None,
    phi: Sequence[Tensor] | None = None,
) -> DistributionModel:
    """Make a model of modules that return distributions: ``encoder(x)`` and ``decoder(z)``.

    x is [batch, ...] and z [n, ...], T samples of each of x in one row. Densities of the parts of
    x and of z are added up. The prior is standard normal unless given: a distribution, or a module
    that returns one when it is called without arguments. Theta are the parameters of the decoder
    and the prior, phi those of the encoder; functions that are no modules bring their own lists,
    and methods of a module have to. Raises ReproError if they do not, and for a prior with
    parameters that is no module.

    >>> class Encoder(nn.Linear):
    ...     def forward(self, x):
    ...         return Normal(super().forward(x), 1.0)
    >>> class Decoder(nn.Linear):
    ...     def forward(self, z):
    ...         return Normal(super().forward(z), 1.0)
    >>> model = from_distributions(Encoder(3, 2), Decoder(2, 3))
    >>> model.log_weights(torch.zeros(5, 3), T=7).shape
    torch.Size([7, 5])
    """
    if theta is None:
        _check_lists_are_known(decoder, prior)
        theta = [*_parameters_of(decoder), *_parameters_of(prior)]
    if phi is None:
        _check_lists_are_known(encoder)
        phi = _parameters_of(encoder)
    prior = Normal(0.0, 1.0) if prior is None else prior
    return DistributionModel(encoder, decoder, prior, theta, phi)


def _check_lists_are_known(*parts: object) -> None:
    """Raise ReproError for parameters that no module gives: of a method, or of a distribution."""
    for part in parts:
        function = getattr(part, "func", part)  # of a partial one
        if isinstance(getattr(function, "__self__", None), nn.Module):
            raise ReproError(f"{function.__name__} is a method of a module; give theta and phi")
        if isinstance(part, Distribution):
            _check_has_no_parameters(part)


def _check_has_no_parameters(prior: Distribution) -> None:
    """Raise ReproError if a distribution has parameters; one without samples is not asked."""
    with torch.random.fork_rng(), torch.enable_grad(), contextlib.suppress(NotImplementedError):
        if parameters_behind(prior.log_prob(prior.sample())):
            raise ReproError("the prior has parameters; give theta, or a module returning it")


def _parameters_of(module: object) -> list[Tensor]:
    return list(module.parameters()) if isinstance(module, nn.Module) else []
