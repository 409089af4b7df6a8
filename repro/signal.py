"""The signal-to-noise ratio of gradient estimates, in a linear Gaussian model and in networks.

The linear Gaussian model is that of Rainforth et al., section 4: z ~ N(mu, I) and x ~ N(z, I) in
D = 20 dimensions; q(z|x) = N(A x + b, 2/3 I). theta is mu; of phi the gradient at b is measured.
The best parameters are mu*, A = I/2 and b = mu*/2; each is offset by Gaussian noise of a given
standard deviation. In a network, theta and phi are all parameters of the decoder and the encoder.

There is one ratio for all parameters of a network together: its square is the squared norm of
E Delta over the trace of Cov Delta. Measurements are rows with ``where``, ``method``, ``M``, ``K``,
``draw`` (of a problem, or of a batch of images), the squared signal and the squared noise of both
gradients, and the effective sample size of the M K weights. ``studies.gradients`` makes ratios of
them.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import torch
from torch import Tensor
from torch.distributions import Normal

from repro.bounds import METHODS, USUAL_BETA, Layout
from repro.estimators import cotangents, holds_q_still
from repro.models import Autoencoder
from repro.randomness import Streams

D = 20  # dimensions of the linear Gaussian model
Q_SIGMA = (2 / 3) ** 0.5  # standard deviation of its q
AT_ONCE = 100  # replicates in memory


def problem(seed: int, offset: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a linear Gaussian model: x, the generative parameter mu, q's mean A x + b, each [D]."""
    g = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    best = noise(D)
    x = best + noise(D) * 2**0.5
    mu = best + offset * noise(D)
    A = torch.eye(D, dtype=torch.float64) / 2 + offset * noise(D, D)
    mean = A @ x + best / 2 + offset * noise(D)
    return x, mu, mean


def gradient_estimates(
    layout: Layout, replicates: int, seed: int, offset: float, estimator: str = "rep"
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate the gradients at mu and b of ``problem(seed, offset)``: [replicates, D]; and ESS."""
    g = torch.Generator().manual_seed(seed + 1)
    where = problem(seed, offset)
    found = []
    for first in range(0, replicates, AT_ONCE):
        count = min(AT_ONCE, replicates - first)
        eps = torch.randn(layout.M, layout.K, count, D, generator=g, dtype=torch.float64)
        found.append(_estimates_at(where, layout, eps, estimator))
    at_mu, at_b, ess = zip(*found, strict=True)
    return torch.cat(at_mu), torch.cat(at_b), torch.cat(ess)


def _estimates_at(
    where: tuple[Tensor, Tensor, Tensor], layout: Layout, eps: Tensor, estimator: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at mu and at b, and the ESS, for eps [M, K, replicates, D].

    log w = log p(x, z) - log q(z|x) up to a constant; theta ascends its bound and phi its own.
    d log w / d mu = z - mu. At b, d log w / dz = mu + x - 2 z in full, and eps / sigma more if q's
    density is held still. A replicate is an image of a batch.
    """
    x, mu, mean = where
    z = mean + Q_SIGMA * eps
    log_w = (eps.square() - (z - mu).square() - (x - z).square()).sum(-1) / 2
    counts = cotangents(log_w.flatten(0, 1), *layout, estimator, USUAL_BETA)
    slope = mu + x - 2 * z
    if holds_q_still(estimator):
        slope = slope + eps / Q_SIGMA
    at_mu = _sum_of_samples(counts.theta, z - mu)
    at_b = _sum_of_samples(counts.phi, slope)
    return at_mu, at_b, effective_sample_size(log_w)


def _sum_of_samples(cotangent: Tensor, gradients: Tensor) -> Tensor:
    """Ascent of a bound, from a cotangent [T, replicates] of the loss, the mean over replicates.

    ``gradients`` are those of log w, [M, K, replicates, D]; the result is [replicates, D].
    """
    count = cotangent.shape[-1]
    return -count * (cotangent[..., None] * gradients.flatten(0, 1)).sum(0)


def network_gradients(
    model: Autoencoder,
    x: Tensor,
    layout: Layout,
    noise,
    estimator: str = "rep",
    beta_of_bound: float = USUAL_BETA,
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate the gradient of the mean bound of x [1, batch, pixels] once, with the mean ESS.

    Gradients are at all of theta and at all of phi, each [parameters]; ``noise`` makes normal
    numbers of a shape.
    """
    eps = noise((layout.M * layout.K, x.shape[1], model.shape.latent))
    still = None
    if holds_q_still(estimator):
        still = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=x.device)
    with torch.no_grad():
        forward = model.forward_with_layers(x, eps)
        counts = cotangents(forward.log_w, *layout, estimator, beta_of_bound)
        of_phi, of_theta = model.pull_back(forward, -counts.theta, -counts.phi, still)
    ess = effective_sample_size(forward.log_w.unflatten(1, (layout.M, layout.K)))
    return of_theta[0], of_phi[0], ess.mean()


def effective_sample_size(log_w: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over all samples: [..., M, K, batch] -> [..., batch]."""
    log_w = log_w.detach()
    return (2 * log_w.logsumexp((-3, -2)) - (2 * log_w).logsumexp((-3, -2))).exp()


def signal_and_noise(gradients: Tensor) -> tuple[float, float]:
    """The squared norm of E Delta and the trace of Cov Delta, from estimates [n, D] of a gradient.

    Without bias: the squared norm of a mean of n estimates exceeds that of the expectation by
    their variance / n, which is subtracted.
    """
    variance, mean = torch.var_mean(gradients.double(), 0)
    noise = variance.sum()
    signal = mean.square().sum() - noise / len(gradients)
    return float(signal), float(noise)


def row(where: str, layout: Layout, draw: int, measured: Sequence[Tensor]) -> dict:
    """Make a row for the model ``where`` of ``measured``: estimates of both gradients, and ESS."""
    *of_networks, ess = measured
    numbers = {"where": where, **layout._asdict(), "draw": draw}
    for network, of_network in zip(("theta", "phi"), of_networks, strict=True):
        signal, noise = signal_and_noise(of_network)
        numbers |= {f"{network}_signal": signal, f"{network}_noise": noise}
    return numbers | {"ess": float(ess.mean())}


@cache
def bias_of_bound(layout: Layout, seed: int, offset: float, replicates: int = 1000) -> float:
    """Bias E L - log p(x) of theta's bound in ``problem(seed, offset)``, in nats.

    p(x) = N(x; mu, 2 I).
    """
    x, mu, mean = problem(seed, offset)
    g = torch.Generator().manual_seed(seed + 1)
    eps = torch.randn(layout.M, layout.K, replicates, D, generator=g, dtype=torch.float64)
    z = mean + Q_SIGMA * eps
    log_pz = Normal(mu, 1.0).log_prob(z)
    log_px_given_z = Normal(z, 1.0).log_prob(x)
    log_q = Normal(mean, Q_SIGMA).log_prob(z)
    log_w = (log_pz + log_px_given_z - log_q).sum(-1)
    log_px = Normal(mu, 2**0.5).log_prob(x).sum()
    bound, _ = METHODS[layout.method](log_w, log_w, USUAL_BETA)
    return float(bound.mean() - log_px)


def in_network(  # noqa: PLR0913  (what to measure, and how often)
    where: str,
    model: Autoencoder,
    images: Tensor,
    layouts: Sequence[Layout],
    estimators: Sequence[str] = ("rep",),
    batches: int = 5,
    replicates: int = 60,
    batch_size: int = 20,
    beta: float = USUAL_BETA,
) -> Iterator[dict]:
    """Rows for layouts, estimators and batches of ``images`` [n, pixels], in a single ``model``.

    ``where`` names the model in the rows, and ``beta`` is the weight in CIWAE's bound.

    A batch and its binarisation stay as they are; only the samples of z differ from one replicate
    to the next, and layouts with as many samples see the same ones.
    """
    for seed in range(batches):
        x = _batch(images, seed, batch_size)
        for layout, estimator in product(layouts, estimators):
            noise = Streams([seed], "gradients: noise", x.device).normal
            how = (layout, noise, estimator, beta)
            found = [network_gradients(model, x, *how) for _ in range(replicates)]
            together = [torch.stack(parts) for parts in zip(*found, strict=True)]
            yield row(where, layout, seed, together) | {"estimator": estimator}


def _batch(images: Tensor, seed: int, size: int) -> Tensor:
    """A batch of ``images`` [n, pixels], binarised: [1, size, pixels]."""
    g = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=g)[:size]
    binarise = Streams([seed], "gradients: binarise", images.device).binarise
    return binarise(images[chosen][None])
