"""The models of experiments: new ones at the beginning of a training, or those of records."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from repro import own, records
from repro.models import Autoencoder, StackedModel
from repro.one_run import OneRun
from repro.own_models import DistributionModel
from repro.randomness import Streams
from repro.words.experiments import Experiment, check_own_files


def new_model(experiments: Sequence[Experiment], mean_image: Tensor) -> StackedModel:
    """Make the untrained model of stacked runs; ``mean_image`` [...] is of the training images."""
    first = experiments[0]
    if own.is_own(first.model):
        model = _own(first)
    else:
        shape = replace(first.architecture, pixels=mean_image.numel())
        seeds = [e.seed for e in experiments]
        model = Autoencoder(shape, seeds, first.init, mean_image.flatten())
    if first.weights is not None:
        for run in range(len(experiments)):
            model.load_run_state(run, own.weights_called(first.weights))
    return model


def model_of(e: Experiment, state: dict[str, Tensor]) -> StackedModel:
    """Make the model of experiment ``e`` with the weights ``state``, from ``run_state``."""
    if own.is_own(e.model):
        model = _own(e)
    else:
        shape = replace(e.architecture, pixels=state["encoder.hidden1.weight"].shape[-1])
        model = Autoencoder(shape, [e.seed], e.init, torch.zeros(shape.pixels))
    model.load_run_state(0, state)
    return model


def _own(e: Experiment) -> OneRun:
    called = own.without_hash(e.model)
    with Streams([e.seed], "init").as_ambient():
        model = own.made(e.model)
    return OneRun(model, called, binarises=e.binarise != "no")


def load_model(folder: str | Path, model: str | None = None) -> nn.Module:
    """Load the trained model of the record in ``folder``, for ``log_px``, ``ais`` and your own use.

    It has no axis for runs: ``encoder(x)`` is q(z|x) of images x [batch, 784], ``decoder(z)`` is
    p(x|z). A record of a model of your own needs its file again, ``model="FILE.py:NAME"``. Raises
    ReproError if there is no record, or none with weights.

    >>> iwae = load_model("results/short/mnist-reference/iwae-M1-K64-seed2")
    >>> iwae.decoder(torch.zeros(3, 50)).mean.shape  # three codes, three pictures
    torch.Size([3, 784])
    """
    record = records.read(folder)
    check_own_files(record.experiment, model=model)
    found = model_of(record.experiment, record.weights())
    return (found.model if isinstance(found, OneRun) else without_run_axis(found)).eval()


def without_run_axis(networks: Autoencoder) -> DistributionModel:
    """Make a ``DistributionModel`` of the first of the stacked runs in ``networks``."""

    def encoder(x: Tensor) -> Normal:
        mu, sigma = networks.encoder(x.flatten(1)[None])
        return Normal(mu[0], sigma[0])

    def decoder(z: Tensor) -> Bernoulli:
        return Bernoulli(logits=networks.decoder(z[None])[0], validate_args=False)

    parts = (list(part.parameters()) for part in (networks.decoder, networks.encoder))
    model = DistributionModel(encoder, decoder, Normal(0.0, 1.0), *parts)
    model.networks = networks  # so that the module has their parameters
    return model
