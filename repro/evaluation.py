"""How good a trained model is: the bounds, log p-hat, the gap, SSIM, effective sample size and active units.

All sums over samples are streamed in float64 over chunks of one size for each kind of device. So memory does not grow with K, with the test
set only by the images themselves and a few numbers for each, and a run's numbers depend on its seed alone. Log-likelihoods are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.data import Streams
from repro.models import Autoencoder

IMAGES, SAMPLES = {"cpu": 20, "cuda": 1000}, 64  # one chunk: log-weights of so many images, so many samples each
Progress = Callable[[float], None]  # told the fraction done


@torch.no_grad()
def log_weight_sums(model: Autoencoder, x: Tensor, K: int, noise, progress: Progress = lambda done: None) -> dict[str, Tensor]:
    """Streamed over K fresh samples of z for binary x [run, n, pixels]: each [run, n], float64.

    ``elbo`` = (1/K) sum log w; ``iwae`` = log (1/K) sum w; ``ess`` = (sum w)^2 / sum w^2.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    size = IMAGES[x.device.type]
    for first in range(0, x.shape[1], size):
        chunk, total, once, twice = x[:, first : first + size], 0.0, [], []
        for done in range(0, K, SAMPLES):
            log_w = model.log_weights(chunk, 1, min(SAMPLES, K - done), noise)[0][:, 0].double()
            total = total + log_w.sum(1)
            once.append(log_w.logsumexp(1))
            twice.append((2 * log_w).logsumexp(1))
        log_sum, log_sum_squares = torch.stack(once).logsumexp(0), torch.stack(twice).logsumexp(0)
        parts.append((total / K, log_sum - math.log(K), (2 * log_sum - log_sum_squares).exp()))
        progress(min(first + size, x.shape[1]) / x.shape[1])
    return {name: torch.cat(values, 1) for name, values in zip(("elbo", "iwae", "ess"), zip(*parts, strict=True), strict=True)}


def iwae_bound(model: Autoencoder, images: Tensor, seeds: Sequence[int], purpose: str, K: int = 64, progress: Progress = lambda done: None) -> Tensor:
    """IWAE-K of each image, [run, n], on a fresh binarisation: the log-mean-exp of K fresh log-weights."""
    device = next(model.parameters()).device
    x = Streams(seeds, f"{purpose}: binarise", device).binarise(images.to(device)[None])
    return log_weight_sums(model, x, K, Streams(seeds, f"{purpose}: IWAE-{K}", device).normal, progress)["iwae"].cpu()


def evaluate(
    model: Autoencoder, images: Tensor, seeds: Sequence[int], log_px_samples: int = 5000, progress: Progress = lambda done: None
) -> list[dict[str, dict[str, float]]]:
    """For each run, every metric's value and its standard error over the images of the test set; see ``measure``."""
    return [summary(values, seed) for values, seed in zip(measure(model, images, seeds, log_px_samples, progress), seeds, strict=True)]


def measure(
    model: Autoencoder, images: Tensor, seeds: Sequence[int], log_px_samples: int = 5000, progress: Progress = lambda done: None
) -> list[dict[str, np.ndarray]]:
    """For each run, every metric of every image [n], and ``mu`` [n, latent].

    ``elbo``, ``iwae_64`` and ``ess`` (of 64 weights) come from one set of samples, ``log_px`` (log p-hat) and
    ``log_px_variance`` (of its Monte Carlo error) from ``log_px_samples`` others; ``minus_kl`` = iwae_64 - log_px estimates -KL(Q||P).
    """
    device = next(model.parameters()).device
    streams = {p: Streams(seeds, f"evaluate: {p}", device) for p in ("binarise", "IWAE-64", "log_px", "reconstruct")}
    x = streams["binarise"].binarise(images.to(device)[None])
    few = log_weight_sums(model, x, 64, streams["IWAE-64"].normal)
    many = log_weight_sums(model, x, log_px_samples, streams["log_px"].normal, progress)
    with torch.no_grad():
        mu = torch.cat([model.encoder(chunk)[0] for chunk in x.split(1000, 1)], 1)
    values = {"iwae_64": few["iwae"], "log_px": many["iwae"], "minus_kl": few["iwae"] - many["iwae"], "elbo": few["elbo"], "ess": few["ess"]}
    values |= {"log_px_variance": 1 / many["ess"] - 1 / log_px_samples, "mu": mu}  # Var(log of a mean of K weights), to first order
    values = {name: value.cpu().numpy() for name, value in values.items()} | {"ssim": similarity(model, x, streams["reconstruct"].normal)}
    return [{name: value[run] for name, value in values.items()} for run in range(len(seeds))]


def elsewhere(model: Autoencoder, images: Tensor, seeds: Sequence[int]) -> list[dict[str, float]]:
    """For each run, SSIM's mean and standard error over images of a dataset that it was not trained on."""
    device = next(model.parameters()).device
    x = Streams(seeds, "other: binarise", device).binarise(images.to(device)[None])
    return [mean_and_error(values) for values in similarity(model, x, Streams(seeds, "other: reconstruct", device).normal)]


def summary(values: dict[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
    """Each metric's value and standard error over the images, from ``measure``'s values of one run."""
    metrics = {name: mean_and_error(values[name]) for name in ("iwae_64", "log_px", "minus_kl", "elbo", "ess", "ssim")}
    metrics["log_px"]["monte_carlo_se"] = float(values["log_px_variance"].sum() ** 0.5 / len(values["log_px_variance"]))
    return metrics | {"active_units": active_units(values["mu"], seed)}


@torch.no_grad()
def similarity(model: Autoencoder, x: Tensor, noise) -> np.ndarray:
    """SSIM of binary x [run, n, pixels] and its reconstructions, [run, n]."""
    chunks = ((chunk, model.reconstruct(chunk, noise)) for chunk in x.split(1000, 1))
    pairs = ([ssim(a.cpu().numpy(), b.cpu().numpy()) for a, b in zip(*pair, strict=True)] for pair in chunks)
    return np.concatenate([*pairs], 1)


def other_binarisations(model: Autoencoder, images: Tensor, seeds: Sequence[int], count: int) -> list[dict[str, float]]:
    """For each run, the standard deviation of IWAE-64's and SSIM's means over ``count`` binarisations of the images."""
    device, means = next(model.parameters()).device, {"iwae_64": [], "ssim": []}
    for i in range(count):
        means["iwae_64"].append(iwae_bound(model, images, seeds, f"binarisation {i}").mean(1).numpy())
        x = Streams(seeds, f"binarisation {i}: SSIM", device).binarise(images.to(device)[None])
        means["ssim"].append(similarity(model, x, Streams(seeds, f"binarisation {i}: reconstruct", device).normal).mean(1))
    return [{name: float(np.std([m[run] for m in values], ddof=1)) for name, values in means.items()} for run in range(len(seeds))]


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and standard error of independent values."""
    sd = values.std(ddof=1)
    return {"value": float(values.mean()), "se": float(sd / math.sqrt(len(values))), "sd": float(sd)}


def active_units(mu: np.ndarray, seed: int = 0, threshold: float = 1e-2, resamples: int = 200) -> dict[str, float]:
    """How many latent units have Var over x of E_q[z] > 1e-2 (Burda et al., sec. 5.1): mu [n, latent].

    The standard error is the standard deviation over bootstrap resamples of the images.
    """
    n = len(mu)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples) / n
    centred = (mu - mu.mean(0)).astype(np.float64)
    counts = ((weights @ centred**2 - (weights @ centred) ** 2) > threshold).sum(1)
    return {"value": float(((centred**2).mean(0) > threshold).sum()), "se": float(counts.std(ddof=1))}


def ssim(x: np.ndarray, y: np.ndarray, chunk: int = 200) -> np.ndarray:
    """Structural similarity of each pair of images in [n, 784] -> [n], as the report measures it (Wang et al., 2004).

    Gaussian window 11x11 with sigma 1.5, data range 1, biased covariance, borders padded with zeros, mean over the whole
    28x28 map. The images of a chunk stand below one another with their padding between them, for one call on all.
    """
    from skimage.metrics import structural_similarity

    side, pad = math.isqrt(x.shape[1]), 5
    values = []
    for first in range(0, len(x), chunk):
        tall = [
            np.pad(images[first : first + chunk].reshape(-1, side, side), ((0, 0), (pad, pad), (pad, pad))).reshape(-1, side + 2 * pad)
            for images in (x.astype(np.float64), y.astype(np.float64))
        ]
        _, full = structural_similarity(*tall, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)
        maps = full.reshape(-1, side + 2 * pad, side + 2 * pad)[:, pad:-pad, pad:-pad]
        values.append(maps.mean((1, 2)))
    return np.concatenate(values)


def reconstructions(model: Autoencoder, images: Tensor, seeds: Sequence[int], count: int = 64) -> tuple[Tensor, Tensor]:
    """The first ``count`` images binarised, and each run's reconstruction of them: [run, count, pixels] both."""
    device = next(model.parameters()).device
    x = Streams([0] * len(seeds), "grid: binarise", device).binarise(images[:count].to(device)[None])  # one input for all
    with torch.no_grad():
        return x.cpu(), model.reconstruct(x, Streams(seeds, "grid: noise", device).normal).cpu()
