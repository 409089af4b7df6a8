"""What several tests need: small networks and data, planted records, the paper's log-weights."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from repro import datasets
from repro.catalogue import Architecture
from repro.models import Autoencoder
from repro.ops import export
from repro.records import METRICS, Archive, Record
from repro.records.schema import Provenance
from repro.studies.designs import LAYOUTS
from repro.training import loop
from repro.words.experiments import PROFILES, plan

ROOT = Path(__file__).parents[1]
SMALL = Architecture(hidden=20, latent=5)
M, K, BATCH = 3, 5, 7  # of oracles
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here")
PROVENANCE = {
    "commit": "c0ffee" * 6,
    "dirty": False,
    "versions": {},
    "device": "a machine",
    "seconds": {"training": 0.0, "evaluation": 0.0},
    "date": "2026-01-01",
    "data": {"name": "digits", "variant": "digits", "sha256": ""},
    "log_px_samples": 1000,
}


@functools.cache
def few_digits(images=200, tests=20):
    """The first of the small digits."""
    digits = datasets.load("digits")
    return datasets.Dataset("digits", "a few", digits.train[:images], digits.test[:tests])


def write_record(results, experiment, value=-90.0, se=0.1, also=None, weights=None):
    """Write a record whose every metric is ``value``; its images are 1 below, at and above it.

    Its curve and images are those of other metrics if ``also`` has them.
    """
    usual = {"value": value, "se": se, "sd": 3**0.5 * se}
    metrics = dict.fromkeys(METRICS, usual) | (also or {})
    bounds = {}
    for name in ("iwae_64", "log_px"):
        bounds |= {name: metrics[name]["value"], f"{name}_se": metrics[name]["se"]}
    curve = [
        {"epoch": i + 1, "learning_rate": 1e-3, "loss": 1.0} | bounds
        for i in range(experiment.epochs)
    ]
    grids = {"inputs": torch.zeros(64, 784), "reconstructions": torch.full((64, 784), 0.5)}
    kept = ("iwae_64", "log_px", "elbo", "ssim")
    images = {name: metrics[name]["value"] + np.arange(-1.0, 2.0) for name in kept}
    weights = weights or {"w": torch.ones(2)}
    data = PROVENANCE["data"] | {"name": experiment.dataset}
    samples = PROFILES[experiment.profile].log_px_samples
    provenance = Provenance(**PROVENANCE | {"data": data, "log_px_samples": samples})
    return Archive(results).write(experiment, curve, metrics, grids, images, weights, provenance)


SE = 3**-0.5  # of images that are 1 below, at and above their mean


def sound_record(results, commit=PROVENANCE["commit"]):
    """A record whose numbers agree, of code with this commit."""
    (e,) = plan("vae", profile="short", epochs=1)
    path = write_record(results, e, se=SE, also={"minus_kl": {"value": 0.0, "se": 0.0}})
    file = path / "provenance.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": commit}))
    return path


def git(folder, *words):
    """Let git run in ``folder``, with no settings of this machine."""
    settings = ("user.name=a", "user.email=b", "init.defaultBranch=main")
    options = [word for setting in settings for word in ("-c", setting)]
    env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", folder, *options, *words]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit_all(folder):
    """Commit every file, and return the commit."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return git(folder, "rev-parse", "HEAD")


def exported(project, target):
    """Export a project, and unpack the archive in a folder of its name."""
    export.write_archive(project, target)
    with zipfile.ZipFile(target) as archive:
        archive.extractall(target.with_suffix(""))
    (folder,) = target.with_suffix("").iterdir()
    return folder


class Attack:
    """An object whose pickle makes the file ``owned`` when it is read."""

    def __reduce__(self):
        return os.system, ("touch owned",)


def record_in_memory(experiment=None, metrics=None, images=None):
    """A record with these metrics and single images, of no file."""
    record = Record(None, experiment, metrics or {}, Provenance(**PROVENANCE))
    record.__dict__["images"] = images or {}
    return record


def copy_logs(results):
    """Put the summary of the report's logs into a folder of results, and nothing else."""
    (results / "published").mkdir()
    for name in ("logs.csv", "logs.json"):
        shutil.copy(ROOT / "results" / "published" / name, results / "published")


def copy_published(results):
    """Put all that was measured of the report's files into a folder of results."""
    shutil.copytree(ROOT / "results" / "published", results / "published")


def planted_gradients(power, draws=10):
    """Rows of ``signal.row`` whose ratios follow a power law in K, each draw with its own size."""
    g = np.random.default_rng(0)
    rows = []
    for draw in range(draws):
        size = g.uniform(1, 2)
        for layout in LAYOUTS:
            row = layout._asdict() | {"draw": draw, "ess": 1.0}
            row |= {f"{net}_signal": size * layout.K ** (2 * power[net]) for net in power}
            row |= {f"{net}_noise": 1.0 for net in power}
            rows.append(row)
    return pd.DataFrame(rows)


def with_hashes(path):
    """Write the provenance again, as if the files had always been as they are now."""
    provenance = json.loads((path / "provenance.json").read_text())
    files = provenance["files"]
    there = [name for name in files if (path / name).is_file()]
    digests = [hashlib.sha256((path / name).read_bytes()).hexdigest() for name in there]
    provenance["files"] = dict(zip(there, digests, strict=True))
    (path / "provenance.json").write_text(json.dumps(provenance))


def random_log_w(*shape, seed=0):
    """Standard normal log-weights in float64, the same ones for a seed."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def tiny_problem(runs, pixels=13, init="default"):
    """A model in float64, with x [run, batch, pixels] and eps [run, T, batch, latent]."""
    g = torch.Generator().manual_seed(1)
    shape = Architecture(hidden=11, latent=2, pixels=pixels)
    mean_image = torch.rand(pixels, generator=g)
    model = Autoencoder(shape, [*range(runs)], init, mean_image).double()
    x = torch.rand(runs, BATCH, pixels, generator=g, dtype=torch.float64).round()
    return model, x, torch.randn(runs, M * K, BATCH, 2, generator=g, dtype=torch.float64)


def paper_log_w(model, run, x, eps, still=False):
    """log p(x|z) + log p(z) - log q(z|x) of one run, by torch.distributions.

    x [batch, pixels], eps [T, batch, latent] -> [T, batch]. With ``still``, q's density depends on
    the encoder through z alone.
    """
    from torch.distributions import Bernoulli, Normal

    p = {name: value[run] for name, value in model.named_parameters()}

    def layer(name, h):
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    h = torch.tanh(layer("encoder.hidden2", torch.tanh(layer("encoder.hidden1", x))))
    sigma = torch.nn.functional.softplus(layer("encoder.sigma", h))
    q = Normal(layer("encoder.mu", h), sigma)
    z = q.loc + q.scale * eps
    h = torch.tanh(layer("decoder.hidden2", torch.tanh(layer("decoder.hidden1", z))))
    log_px_z = Bernoulli(logits=layer("decoder.logits", h)).log_prob(x).sum(-1)
    if still:
        q = Normal(q.loc.detach(), q.scale.detach())
    return log_px_z + Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


@contextlib.contextmanager
def double_precision():
    """Let torch make tensors in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def in_double(dataset):
    """The same images in float64."""
    train, test = dataset.train.double(), dataset.test.double()
    return datasets.Dataset(dataset.name, dataset.variant, train, test)


def twin_draws(program, dataset):
    """The batch of each step of an epoch, and a function that draws its noise.

    They are what ``program`` will see, from a twin of it. The function maps T to
    [run, T, batch, latent].
    """
    twin = loop.make(program.experiments, dataset)
    size = twin.batch_size

    def noise(T):
        return twin.streams["noise"].normal((T, size, twin.model.shape.latent))

    for i in range(twin.steps_per_epoch):
        batch = twin.order[:, i * size : (i + 1) * size]
        yield twin.streams["binarise"].binarise(twin.images[batch]), noise
