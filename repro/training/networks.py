"""The networks of runs: new ones at the beginning of a training, or those of a record."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from repro import own
from repro.models import Autoencoder, StackedModel
from repro.one_run import OneRun
from repro.randomness import Streams
from repro.words.experiments import Experiment


def new_model(experiments: Sequence[Experiment], mean_image: Tensor) -> StackedModel:
    """The networks that stacked runs begin with; ``mean_image`` [...] is of the training images."""
    first = experiments[0]
    if own.is_own(first.model):
        with Streams([first.seed], "init").as_ambient():
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
    """The model of one run, with the tensors of its ``run_state``."""
    if own.is_own(e.model):
        model = _own(e)
    else:
        shape = replace(e.architecture, pixels=state["encoder.hidden1.weight"].shape[-1])
        model = Autoencoder(shape, [e.seed], e.init, torch.zeros(shape.pixels))
    model.load_run_state(0, state)
    return model


def _own(e: Experiment) -> OneRun:
    called = own.without_hash(e.model)
    return OneRun(own.made(e.model), called, binarises=e.binarise != "no")
