"""The networks: sizes, initial weights, and independence of stacked runs."""

import pytest
import torch

from repro.catalogue import MODELS, Architecture
from repro.models import Autoencoder


@pytest.mark.parametrize(("name", "count"), [("reference", 425_284), ("larger", 973_624)])
def test_parameter_count_is_the_reports_and_the_architectures(name, count):
    model = Autoencoder(MODELS[name], seeds=[0])
    assert sum(p.numel() for p in model.parameters()) == MODELS[name].parameters == count


def test_default_initialisation_is_torch_linears():
    ours = Autoencoder(MODELS["reference"], seeds=[3]).encoder.hidden1
    linear = torch.nn.Linear(784, 200)
    for a, b in ((ours.weight, linear.weight), (ours.bias, linear.bias)):
        assert max(a.abs().max(), b.abs().max()) <= 784**-0.5
        assert abs(a.std().item() / (784**-0.5 / 3**0.5) - 1) < 0.15


def test_burda_initialisation_is_glorot_with_the_mean_image_in_the_output_bias():
    mean = torch.linspace(0, 1, 784)
    model = Autoencoder(MODELS["reference"], seeds=[0], init="burda", mean_image=mean)
    limit = (6 / (784 + 200)) ** 0.5
    assert 0.95 * limit < model.encoder.hidden1.weight.abs().max() <= limit
    assert model.encoder.hidden1.bias.abs().max() == 0
    torch.testing.assert_close(model.decoder.logits.bias[0].sigmoid(), mean.clamp(0.001, 0.999))
    x = torch.zeros(1, 5, 784)
    _, sigma = model.encoder(x)  # sigma = exp(0) at zero input and zero biases
    torch.testing.assert_close(sigma, torch.ones_like(sigma))


def test_same_seed_starts_from_the_same_weights_in_any_company():
    shape = Architecture(hidden=11, latent=3, pixels=13)
    alone = Autoencoder(shape, seeds=[5])
    stacked = Autoencoder(shape, seeds=[4, 5, 5])
    for p, q in zip(alone.parameters(), stacked.parameters(), strict=True):
        assert torch.equal(p[0], q[1])
        assert torch.equal(q[1], q[2])
        assert not torch.equal(q[0], q[1])


def test_run_state_goes_round():
    shape = Architecture(hidden=11, latent=3, pixels=13)
    a = Autoencoder(shape, seeds=[0, 1])
    b = Autoencoder(shape, seeds=[2])
    b.load_run_state(0, a.run_state(1))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p[1], q[0])
