"""Annealed importance sampling: log p(x) from below, and from above where z is known.

An importance sampler's log p-hat is a bound whose slack depends on q. Here chains only begin at q.
Each passes through the distributions f_t, proportional to q(z|x)^(1 - b_t) p(x, z)^b_t, with b from
0 to 1, by steps of Hamiltonian Monte Carlo (HMC) that leave f_t invariant. Its weight is the
product of f_t / f_(t-1) on the way. The weight's mean is p(x), whatever q and however well the
chains mix (Neal 2001; Wu, Burda, Salakhutdinov and Grosse 2017, section 3). So the log of a mean of
weights is a bound in expectation, and a tight one if the path is long.

A chain that begins at a z of the true posterior and goes the same way back has a mean weight of
1 / p(x), which gives an upper bound (Grosse, Ghahramani and Adams 2015). Such a z is known of
images that the model itself has drawn: there, the two bounds say how long a path must be.

Chains live in u = (z - mu) / sigma, with mu and sigma of q, so that one step size serves all units.
That of each image and temperature comes from pilot chains, which are thrown away. All is in nats.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from repro import likelihood
from repro.models import Autoencoder
from repro.randomness import Streams
from repro.scores import Done, silent

# u [run, chains, n, latent] -> log w = log p(x, z) - log q(z|x) [run, chains, n], its gradient at u
LogWeight = Callable[[Tensor], tuple[Tensor, Tensor]]

AT_A_TIME = 50  # images
PILOTS = 4  # chains of each image that tune the step sizes
LEAPFROGS = 5  # in each HMC step
ACCEPTED = 0.65  # the acceptance rate to which step sizes are tuned (Neal 2011, section 5.4)
FIRST_STEP = 0.2
STEEPNESS = 4.0  # of the sigmoid whose equal distances are the temperatures, as Wu et al. have it


class Annealed(NamedTuple):
    """Estimates from the chains of each image, each [run, n]."""

    log_px: Tensor  # log of the mean weight: a stochastic bound
    spread: Tensor  # standard deviation of the chains' log-weights
    ess: Tensor  # effective number of chains, (sum w)^2 / sum w^2
    accepted: Tensor  # mean acceptance probability of the HMC steps


class State(NamedTuple):
    """The current u of each chain, with log w and its gradient at u."""

    u: Tensor
    log_w: Tensor
    slope: Tensor


def ais_lower_bound(
    model: Autoencoder,
    x: Tensor,
    seeds: Sequence[int],
    temperatures: int = 500,
    chains: int = 16,
    tell: Done = silent,
) -> Annealed:
    """A lower bound of log p(x) of each binary image x [run, n, pixels], by chains from q(z|x).

    Its expectation is at most log p(x), and no less with more ``temperatures``. ``seeds`` has one
    for each run; ``tell`` receives the fraction that is done.

    >>> from repro.models import Architecture
    >>> model = Autoencoder(Architecture(hidden=20, latent=2), [0])
    >>> x, z = simulated(model, 3, [0])
    >>> low = ais_lower_bound(model, x, [0], temperatures=10, chains=4)
    >>> high = ais_upper_bound(model, x, z, [0], temperatures=10, chains=4)
    >>> low.log_px.shape
    torch.Size([1, 3])
    >>> bool((high.log_px - low.log_px).mean().abs() < 0.5)
    True
    """
    return _by_chunks(model, x, seeds, temperatures, chains, None, tell)


def ais_upper_bound(
    model: Autoencoder,
    x: Tensor,
    z: Tensor,
    seeds: Sequence[int],
    temperatures: int = 500,
    chains: int = 16,
) -> Annealed:
    """An upper bound of log p(x), given a z [run, n, latent] of p(z|x) for each image.

    ``simulated`` draws both x and z.
    """
    return _by_chunks(model, x, seeds, temperatures, chains, z, silent)


@torch.no_grad()
def simulated(model: Autoencoder, n: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Draw images [run, n, pixels] from a model; return them and their z [run, n, latent]."""
    z = Streams(seeds, "simulate: z", model.device).normal((n, model.shape.latent))
    means = model.decoder(z).sigmoid()
    uniform = Streams(seeds, "simulate: x", model.device).uniform(means.shape[1:])
    return (uniform < means).to(means.dtype), z


@torch.no_grad()
def _by_chunks(model, x, seeds, temperatures, chains, z, tell) -> Annealed:
    """Run chains for a few images at a time; upwards from q, or down from z."""
    kind = "up" if z is None else "down"
    streams = Streams(seeds, f"annealing: {kind}", model.device)
    decoder = [p.detach() for p in model.decoder.parameters()]
    function = model.prepare(_log_w_and_slope)
    parts = []
    for first in range(0, x.shape[1], AT_A_TIME):
        some = slice(first, first + AT_A_TIME)
        mu, sigma = model.encoder(x[:, some])
        log_weight = partial(function, decoder, x[:, some], mu, sigma)
        exact = None if z is None else (z[:, some] - mu) / sigma
        parts.append(anneal(log_weight, mu.shape, streams, temperatures, chains, exact))
        tell(min(first + AT_A_TIME, x.shape[1]) / x.shape[1])
    return Annealed(*(torch.cat(values, 1) for values in zip(*parts, strict=True)))


def _log_w_and_slope(decoder, x, mu, sigma, u) -> tuple[Tensor, Tensor]:
    sigma = sigma[:, None]
    z = mu[:, None] + sigma * u
    log_px_z, *layers = likelihood.log_px_z_and_layers(u.dtype, x, z, decoder)
    of_z = likelihood.gradients_of_each(layers)[-1].view_as(z)
    log_w = log_px_z + (0.5 * (u * u - z * z) + sigma.log()).sum(-1)
    return log_w, sigma * (of_z - z) + u


def anneal(
    log_weight: LogWeight,
    shape: Sequence[int],
    streams: Streams,
    temperatures: int,
    chains: int,
    exact: Tensor | None = None,
) -> Annealed:
    """Run annealed chains for images whose u has the ``shape`` [run, n, latent].

    ``log_weight`` may be any model's. Chains go from N(0, I), which is q in terms of u, to the
    posterior; or the reverse way from an ``exact`` u that is drawn from the posterior.
    """
    runs, n, latent = shape
    inverse = inverse_temperatures(temperatures).tolist()
    steps = _steps_of_pilots(log_weight, shape, streams, inverse)
    if exact is None:
        u = streams.normal((chains, n, latent))
    else:
        u = exact[:, None].expand(runs, chains, n, latent)
    state = State(u, *log_weight(u))
    total = torch.zeros(runs, chains, n, dtype=torch.float64, device=u.device)
    accepted = torch.zeros(runs, n, device=u.device)
    for t in range(1, temperatures + 1) if exact is None else range(temperatures, 0, -1):
        before = state
        state, probability = move(before, log_weight, inverse[t], steps[t - 1], streams)
        colder = before if exact is None else state
        total += (inverse[t] - inverse[t - 1]) * colder.log_w.double()
        accepted += probability.mean(1) / temperatures
    return _of_weights(total if exact is None else -total, exact is None, accepted)


def _of_weights(log_w: Tensor, of_px: bool, accepted: Tensor) -> Annealed:
    """The estimate of log p(x) from importance weights of chains [run, chains, n].

    Their mean estimates p(x), or 1 / p(x) if not ``of_px``.
    """
    log_mean = log_w.logsumexp(1) - math.log(log_w.shape[1])
    log_px = log_mean if of_px else -log_mean
    ess = (2 * log_w.logsumexp(1) - (2 * log_w).logsumexp(1)).exp()
    return Annealed(log_px, log_w.std(1), ess, accepted)


def inverse_temperatures(count: int) -> Tensor:
    """Inverse temperatures b_0 = 0 to b_count = 1, evenly spaced on a sigmoid: [count + 1]."""
    ends = torch.linspace(-STEEPNESS, STEEPNESS, count + 1, dtype=torch.float64).sigmoid()
    return (ends - ends[0]) / (ends[-1] - ends[0])


def _steps_of_pilots(
    log_weight: LogWeight, shape: Sequence[int], streams: Streams, inverse: Sequence[float]
) -> list[Tensor]:
    """A step size for each image and temperature, [run, 1, n] each, from chains of their own."""
    _, n, latent = shape
    u = streams.normal((PILOTS, n, latent))
    state = State(u, *log_weight(u))
    log_step = torch.full_like(state.log_w[:, :1], math.log(FIRST_STEP))
    steps = []
    for b in inverse[1:]:
        state, probability = move(state, log_weight, b, log_step.exp(), streams)
        log_step = log_step + 0.2 * (probability.mean(1, keepdim=True) - ACCEPTED)
        steps.append(log_step.exp())
    return steps


def move(
    state: State, log_weight: LogWeight, b: float, step: Tensor, streams: Streams
) -> tuple[State, Tensor]:
    """Make one HMC step of each chain at the density exp(-u^2 / 2 + b log w), unnormalised.

    ``step`` [run, 1, n] is the step size for each image's chains. Returns the new state and the
    acceptance probability, [run, chains, n].
    """
    velocity = streams.normal(state.u.shape[1:])
    before = _log_density(state, b, velocity)
    step = step[..., None]
    proposed = state
    for _ in range(LEAPFROGS):
        velocity = velocity + step / 2 * (b * proposed.slope - proposed.u)
        u = proposed.u + step * velocity
        proposed = State(u, *log_weight(u))
        velocity = velocity + step / 2 * (b * proposed.slope - proposed.u)
    log_ratio = (_log_density(proposed, b, velocity) - before).nan_to_num(nan=-math.inf)
    taken = streams.uniform(log_ratio.shape[1:]).log() < log_ratio
    log_w = torch.where(taken, proposed.log_w, state.log_w)
    u, slope = (
        torch.where(taken[..., None], new, old)
        for new, old in ((proposed.u, state.u), (proposed.slope, state.slope))
    )
    return State(u, log_w, slope), log_ratio.clamp(max=0).exp()


def _log_density(state: State, b: float, velocity: Tensor) -> Tensor:
    """Log density of u and a velocity, up to a constant: [run, chains, n]."""
    return b * state.log_w - (state.u.square() + velocity.square()).sum(-1) / 2
