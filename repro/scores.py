"""Scores of a trained model: bounds, log p-hat, the gap, SSIM, ESS and active units.

All sums over samples are streamed in float64 over chunks, of one size for each kind of device. So
memory does not grow with K, and with the test set only by the images and a few numbers for each; a
run's numbers depend on its seed alone. Log-likelihoods are in nats.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from repro.catalogue import CHANNELS, picture_shape
from repro.models import StackedModel
from repro.randomness import Streams

# One chunk: the log-weights of so many images, with so many samples each.
CHUNK_IMAGES = {"cpu": 20, "cuda": 1000}
CHUNK_SAMPLES = 64

Done = Callable[[float], None]  # receives the fraction that is done


def silent(done: float) -> None:
    """Report no progress, as the default of ``tell``."""


@torch.no_grad()
def log_weight_sums(
    model: StackedModel, x: Tensor, K: int, noise, tell: Done = silent
) -> dict[str, Tensor]:
    """Sums over K fresh samples of z for binary x [run, n, pixels]: each [run, n], float64.

    ``elbo`` = (1/K) sum log w; ``iwae`` = log (1/K) sum w; ``ess`` = (sum w)^2 / sum w^2.
    """
    chunks: list[Tensor] = []
    done = 0
    for chunk in x.split(CHUNK_IMAGES[x.device.type], 1):
        chunks.append(_sums_of_chunk(model, chunk, K, noise))
        done += chunk.shape[1]
        tell(done / x.shape[1])
    return dict(zip(("elbo", "iwae", "ess"), torch.cat(chunks, -1), strict=True))


def _by_run(values: dict) -> list[dict]:
    """{name: [run, ...]} as a dictionary for each run."""
    return [dict(zip(values, of_run, strict=True)) for of_run in zip(*values.values(), strict=True)]


def _sums_of_chunk(model: StackedModel, x: Tensor, K: int, noise) -> Tensor:
    """``log_weight_sums`` for as many images as fit into memory, [sum, run, n]."""
    total = 0.0
    once = []
    twice = []
    for log_w in _chunks_of_log_weights(model, x, K, noise):
        total = total + log_w.sum(1)
        once.append(log_w.logsumexp(1))
        twice.append((2 * log_w).logsumexp(1))
    log_sum = torch.stack(once).logsumexp(0)
    log_sum_of_squares = torch.stack(twice).logsumexp(0)
    ess = (2 * log_sum - log_sum_of_squares).exp()
    return torch.stack([total / K, log_sum - math.log(K), ess])


def _chunks_of_log_weights(model: StackedModel, x: Tensor, K: int, noise) -> Iterator[Tensor]:
    """K log-weights of x [run, n, pixels], a few at a time: each [run, samples, n], float64."""
    for done in range(0, K, CHUNK_SAMPLES):
        samples = min(CHUNK_SAMPLES, K - done)
        yield model.log_weights(x, 1, samples, noise)[0][:, 0].double()


def iwae_bound(
    model: StackedModel,
    images: Tensor,
    seeds: Sequence[int],
    purpose: str,
    K: int = 64,
    tell: Done = silent,
) -> Tensor:
    """IWAE-K of each image, [run, n]; ``purpose`` names its streams of random numbers."""
    x = binarised(model, images, seeds, f"{purpose}: binarise")
    noise = noise_of(model, seeds, f"{purpose}: IWAE-{K}")
    return log_weight_sums(model, x, K, noise, tell)["iwae"].cpu()


def binarised(model: StackedModel, images: Tensor, seeds: Sequence[int], purpose: str) -> Tensor:
    """Images [n, ...] binarised for each run, where the model is: [run, n, ...].

    They stay as they are if the model takes them so.
    """
    images = images.to(model.device)[None]
    streams = Streams(seeds, purpose, model.device)
    return streams.binarise(images) if model.binarises else streams.runs(images)


def noise_of(model: StackedModel, seeds: Sequence[int], purpose: str):
    """Random numbers for a model's methods, where it is."""
    return model.noise(Streams(seeds, purpose, model.device))


def some_of(images: Tensor, most: int) -> Tensor:
    """At most ``most`` of ``images``, evenly spaced in their order: [n, pixels]."""
    count = min(most, len(images))
    return images[torch.arange(count) * len(images) // count]


def measure(
    model: StackedModel,
    images: Tensor,
    seeds: Sequence[int],
    log_px_samples: int = 5000,
    tell: Done = silent,
) -> list[dict[str, np.ndarray]]:
    """Every metric of every image [n], and ``mu`` [n, latent], for each run.

    ``ssim`` and ``mu`` are left out for a user's model without reconstructions and means.

    ``elbo``, ``iwae_64`` and ``ess`` (of 64 weights) come from one set of samples; ``log_px``
    (log p-hat) and ``log_px_variance`` (of its Monte Carlo error) from ``log_px_samples`` others.
    ``minus_kl`` = iwae_64 - log_px estimates -KL(Q||P). ``summary`` gives their means and errors.

    >>> from repro import datasets
    >>> from repro.models import Architecture, Autoencoder
    >>> model = Autoencoder(Architecture(hidden=20, latent=5), [0])
    >>> (values,) = measure(model, datasets.load("digits").test[:7], [0], log_px_samples=100)
    >>> sorted(summary(values, seed=0)["log_px"])
    ['monte_carlo_se', 'sd', 'se', 'value']
    """

    noise = partial(noise_of, model, seeds)
    x = binarised(model, images, seeds, "evaluate: binarise")
    few = log_weight_sums(model, x, 64, noise("evaluate: IWAE-64"))
    many = log_weight_sums(model, x, log_px_samples, noise("evaluate: log_px"), tell)
    similarity = ssim_of_reconstructions(model, x, noise("evaluate: reconstruct"))
    tensors = {
        "iwae_64": few["iwae"],
        "log_px": many["iwae"],
        "minus_kl": few["iwae"] - many["iwae"],
        "elbo": few["elbo"],
        "ess": few["ess"],
        # the variance of the logarithm of a mean of K weights, to first order
        "log_px_variance": 1 / many["ess"] - 1 / log_px_samples,
        "mu": _means(model, x),
    }
    values = {name: t.cpu().numpy() for name, t in tensors.items() if t is not None}
    if similarity is not None:
        values["ssim"] = similarity
    return _by_run(values)


@torch.no_grad()
def _means(model: StackedModel, x: Tensor) -> Tensor | None:
    """The mean of q at each of x [run, n, ...]: [run, n, latent]; None if it is not known."""
    found = [model.means(chunk) for chunk in x.split(1000, 1)]
    known = found[0] is not None and all(means.isfinite().all() for means in found)
    return torch.cat(found, 1) if known else None


def log_px_and_ess(
    model: StackedModel, images: Tensor, seeds: Sequence[int], K: int
) -> dict[str, Tensor]:
    """Binarise images and estimate log p(x) and the ESS with K samples: ``log_weight_sums``."""
    x = binarised(model, images, seeds, "evaluate: binarise")
    noise = noise_of(model, seeds, f"evaluate: log_px of {K}")
    return log_weight_sums(model, x, K, noise)


@torch.no_grad()
def pareto_shapes(
    model: StackedModel, images: Tensor, seeds: Sequence[int], K: int = 5000
) -> np.ndarray:
    """Pareto's k-hat of the K importance weights of each image: [n], for the model's first run.

    Vehtari et al. (2024): the shape of the generalised Pareto distribution that is fitted to the
    largest weights. Above 0.7 the mean of the weights has not settled down for any practical K.
    """
    from arviz_stats.base import array_stats

    x = binarised(model, images, seeds, "evaluate: binarise")
    noise = noise_of(model, seeds, "evaluate: log_px")
    shapes: list[float] = []
    for chunk in x.split(SHAPE_IMAGES, 1):
        of_run = [part[0].cpu() for part in _chunks_of_log_weights(model, chunk, K, noise)]
        log_w = torch.cat(of_run).numpy()
        _, khat = array_stats.psislw(-log_w.T)  # it takes the logarithm of 1 / w
        shapes.extend(khat)
    return np.array(shapes)


SHAPE_IMAGES = 20  # whose weights are all in memory


def summary(values: dict[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
    """Each metric's value and standard error over the images, from ``measure`` of one run."""
    names = ("iwae_64", "log_px", "minus_kl", "elbo", "ess", "ssim")
    metrics = {name: over_images(values[name]) for name in names if name in values}
    variances = values["log_px_variance"]
    metrics["log_px"]["monte_carlo_se"] = float(variances.sum() ** 0.5 / len(variances))
    if "mu" in values:
        metrics["active_units"] = active_units(values["mu"], seed)
    return metrics


def over_images(values: np.ndarray) -> dict[str, float]:
    """Mean, standard error of the mean, and standard deviation of independent values."""
    sd = values.std(ddof=1)
    return {
        "value": float(values.mean()),
        "se": float(sd / math.sqrt(len(values))),
        "sd": float(sd),
    }


def mean_ssim(
    model: StackedModel, images: Tensor, seeds: Sequence[int], purpose: str
) -> list[dict[str, float]]:
    """Mean SSIM of each run over images; empty if the model makes no reconstructions.

    ``purpose`` names the random streams: "evaluate" has those of ``measure``, and "other" is for a
    dataset that the run was not trained on.
    """
    x = binarised(model, images, seeds, f"{purpose}: binarise")
    noise = noise_of(model, seeds, f"{purpose}: reconstruct")
    similarities = ssim_of_reconstructions(model, x, noise)
    return [] if similarities is None else [over_images(values) for values in similarities]


@torch.no_grad()
def ssim_of_reconstructions(model: StackedModel, x: Tensor, noise) -> np.ndarray | None:
    """SSIM of x [run, n, ...] and its reconstructions, [run, n]; None if x are no pictures.

    It is None, too, if the model makes no reconstructions. Runs are measured in parallel threads.
    """
    if picture_shape(x.shape[2:]) is None:
        return None
    again = [model.reconstruct(chunk, noise) for chunk in x.split(1000, 1)]
    if again[0] is None or not all(images.isfinite().all() for images in again):
        return None
    with ThreadPoolExecutor() as threads:
        similarities = threads.map(ssim, x.cpu().numpy(), torch.cat(again, 1).cpu().numpy())
    return np.stack(list(similarities))


def other_binarisations(
    model: StackedModel, images: Tensor, seeds: Sequence[int], count: int
) -> list[dict[str, float]]:
    """Standard deviation of mean IWAE-64 and SSIM over ``count`` binarisations, for each run."""
    means: dict[str, list[np.ndarray]] = {"iwae_64": [], "ssim": []}
    for i in range(count):
        purpose = f"binarisation {i}"
        means["iwae_64"].append(iwae_bound(model, images, seeds, purpose).mean(1).numpy())
        x = binarised(model, images, seeds, f"{purpose}: SSIM")
        noise = noise_of(model, seeds, f"{purpose}: reconstruct")
        means["ssim"].append(ssim_of_reconstructions(model, x, noise).mean(1))
    spread = {name: np.std(values, axis=0, ddof=1).tolist() for name, values in means.items()}
    return _by_run(spread)


def active_units(
    mu: np.ndarray, seed: int = 0, threshold: float = 1e-2, resamples: int = 200
) -> dict[str, float]:
    """Count the latent units whose E_q[z], mu [n, latent], has a variance over x > ``threshold``.

    Burda et al., section 5.1. The standard error is the standard deviation over bootstrap
    resamples of the images.
    """
    n = len(mu)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n, np.full(n, 1 / n), resamples) / n
    centred = (mu - mu.mean(0)).astype(np.float64)
    variances = weights @ centred**2 - (weights @ centred) ** 2
    counts = (variances > threshold).sum(1)
    return {
        "value": float(((centred**2).mean(0) > threshold).sum()),
        "se": float(counts.std(ddof=1)),
    }


SSIM_PADDING = 5  # pixels; half of the window, so that the whole map is measured


def ssim(x: np.ndarray, y: np.ndarray, chunk: int = 200) -> np.ndarray:
    """Structural similarity of each pair of pictures in [n, ...] -> [n], as the report measures it.

    Wang et al., 2004: Gaussian window 11x11 with sigma 1.5, biased covariance, borders padded with
    zeros, mean over the whole map and over the colours. The data range is 1, or that of x if x is
    not between 0 and 1.
    """
    span = 1.0 if x.min() >= 0 and x.max() <= 1 else float(np.ptp(x))
    x, y = _planes(x), _planes(y)
    starts = range(chunk, len(x), chunk)
    measure_chunk = partial(_ssim_of_chunk, span)
    parts = map(measure_chunk, np.split(x, starts), np.split(y, starts))
    return np.concatenate([*parts])


def _planes(pictures: np.ndarray) -> np.ndarray:
    """Pictures [n, ...] by colour: [n, colours, height, width]."""
    shape = picture_shape(pictures.shape[1:])
    pictures = pictures.reshape(len(pictures), *shape)
    return np.moveaxis(pictures, -1, 1) if shape[-1] in CHANNELS else pictures


def _ssim_of_chunk(span: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM in one call: the pictures stand below one another, with their padding."""
    from skimage.metrics import structural_similarity

    *which, height, width = x.shape
    margin = (SSIM_PADDING, SSIM_PADDING)

    def tall(planes: np.ndarray) -> np.ndarray:
        each = planes.astype(np.float64).reshape(-1, height, width)
        return np.pad(each, ((0, 0), margin, margin)).reshape(-1, width + 2 * SSIM_PADDING)

    _, similarity = structural_similarity(
        tall(x),
        tall(y),
        data_range=span,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inside = slice(SSIM_PADDING, -SSIM_PADDING)
    padded = (*which, height + 2 * SSIM_PADDING, width + 2 * SSIM_PADDING)
    maps = similarity.reshape(padded)[..., inside, inside]
    return maps.mean((1, 2, 3))


def reconstruction_grids(
    model: StackedModel, images: Tensor, seeds: Sequence[int], count: int = 64
) -> tuple[Tensor, Tensor] | None:
    """The first images binarised, and each run's reconstruction: [run, count, ...] both.

    None if they are no pictures, or if the model has no reconstructions.
    """
    if picture_shape(images.shape[1:]) is None:
        return None
    same_for_all = [0] * len(seeds)
    x = binarised(model, images[:count], same_for_all, "grid: binarise")
    noise = noise_of(model, seeds, "grid: noise")
    with torch.no_grad():
        again = model.reconstruct(x, noise)
    known = again is not None and bool(again.isfinite().all())
    return (x.cpu(), again.cpu()) if known else None
