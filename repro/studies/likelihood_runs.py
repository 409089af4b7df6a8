"""Measuring the likelihoods that ``yardstick`` compares.

Annealed importance sampling gives log p(x) of a thousand test images under every model whose
weights are kept, and beside it log p-hat, IWAE-64 and the ELBO of the same binarised images. Under
a user's own model there are fewer images, and no upper bound beside the lower one.
"""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from repro import annealing, own_code, own_models, scores
from repro.models import Autoencoder, StackedModel
from repro.randomness import Streams
from repro.records import Archive, Record
from repro.records.provenance import code_and_date, device_name
from repro.studies.yardstick import name_of
from repro.training import released_files
from repro.training.engines import fastest
from repro.training.networks import model_of
from repro.training.progress import Progress
from repro.training.run import images_for, pick_device

TEST_IMAGES = 1000  # of the test set, at equal distances
SIMULATED = 100  # images of the model's own, between whose bounds log p(x) lies
CHAINS = 16
TEMPERATURES = (100, 200, 400, 800, 1600, 3200)
WIDEST = 0.05  # nats between the bounds; the first number of temperatures that is below is taken
WEIGHTS_OF_EACH = 5000  # of log p-hat
OWN_IMAGES = 200  # under a user's own model
OWN_TEMPERATURES = 200
STREAM = [0]  # of all random numbers, so that every model meets the same binarised images


class Sandwich(NamedTuple):
    """The mean distance of AIS's upper and lower bound on simulated images, in nats."""

    temperatures: int
    width: float
    se: float


def measure_likelihoods(
    record: Record, archive: Archive, data: str | Path | None = None, device: str = "auto"
) -> Path:
    """Measure the likelihoods of a record's model and write them beside the records."""
    e = record.experiment
    begun = time.monotonic()
    provenance = code_and_date()
    device = pick_device(device)
    dataset = images_for(e, data)
    model = _model_of(record, data).to(device)
    with Progress(1, e.name) as bar:
        if isinstance(model, Autoencoder):
            tried, count = sandwiches(model), TEST_IMAGES
            temperatures = tried[-1].temperatures
        else:
            tried, count, temperatures = [], OWN_IMAGES, OWN_TEMPERATURES
        images = scores.some_of(dataset.test, count)
        found = likelihoods(model, images, temperatures, bar.fraction)
    provenance |= {
        "experiment": asdict(e),
        "device": device_name(device),
        "data": dataset.provenance,
        "temperatures": temperatures,
        "chains": CHAINS,
        "sandwiches": [sandwich._asdict() for sandwich in tried],
        "log_px_samples": WEIGHTS_OF_EACH,
        "seconds": round(time.monotonic() - begun, 1),
    }
    return archive.write_arrays(name_of(record), found, provenance)


def _model_of(record: Record, data: str | Path | None) -> StackedModel:
    e = record.experiment
    if e.profile == "published":
        state = released_files.released_weights(e, data)
    else:
        state = record.weights()
    model = model_of(e, state)
    if isinstance(model, Autoencoder):
        model.prepare = fastest()
    return model


def sandwiches(model: Autoencoder) -> list[Sandwich]:
    """Measure the bounds' distance with more and more temperatures until it is below ``WIDEST``."""
    x, z = annealing.simulated(model, SIMULATED, STREAM)
    tried = []
    for temperatures in TEMPERATURES:
        how = (STREAM, temperatures, CHAINS)
        low = annealing.ais_lower_bound(model, x, *how).log_px
        width = (annealing.ais_upper_bound(model, x, z, *how).log_px - low).flatten()
        se = width.std().item() / len(width) ** 0.5
        apart = width.mean().item()
        print(f"{temperatures} temperatures: bounds {apart:.3f} +- {se:.3f} nats apart", flush=True)
        tried.append(Sandwich(temperatures, apart, se))
        if apart < WIDEST:
            break
    return tried


def likelihoods(
    model: StackedModel, images: Tensor, temperatures: int, tell: scores.Done = scores.silent
) -> dict[str, np.ndarray]:
    """Measure AIS's log p(x), log p-hat, IWAE-64 and the ELBO of each image: [n] by name, nats."""
    noise = partial(scores.noise_of, model, STREAM)
    x = scores.binarised(model, images, STREAM, "likelihood: binarise")
    chains = _chains(model, x, temperatures, tell)  # first: not every model can have them
    few = scores.log_weight_sums(model, x, 64, noise("likelihood: IWAE-64"))
    many = scores.log_weight_sums(model, x, WEIGHTS_OF_EACH, noise("likelihood: log_px"))
    values = {
        "ais": chains.log_px,
        "log_px": many["iwae"],
        "iwae_64": few["iwae"],
        "elbo": few["elbo"],
        "spread": chains.spread,
        "ess": chains.ess,
        "accepted": chains.accepted,
    }
    return {name: value[0].cpu().numpy().astype(np.float32) for name, value in values.items()}


def _chains(
    model: StackedModel, x: Tensor, temperatures: int, tell: scores.Done
) -> annealing.Annealed:
    if isinstance(model, Autoencoder):
        return annealing.ais_lower_bound(model, x, STREAM, temperatures, CHAINS, tell)
    random = Streams(STREAM, "likelihood: chains", model.device).as_ambient()
    with own_code.users_code(f"ais of {model.called}"), random:
        found = own_models.ais(model.model.eval(), x[0], temperatures, CHAINS)
    return annealing.Annealed(*(values[None] for values in found))
