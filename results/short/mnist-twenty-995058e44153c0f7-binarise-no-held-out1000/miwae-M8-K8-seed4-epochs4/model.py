"""A convolutional VAE with Gaussian pixels on small digits, trained by a loop of one's own.

python examples/own_loop.py

The commands train it, too:
python -m repro train --model examples/own_loop.py:convolutional --binarise no
"""

import torch
from torch import nn
from torch.distributions import Normal

import repro
from repro import datasets


class Code(nn.Sequential):
    """q(z|x): layers that give a mean and the logarithm of a deviation."""

    def forward(self, x):
        """The distribution at images x [batch, 784]."""
        mean, log_sigma = super().forward(x.view(-1, 1, 28, 28)).chunk(2, -1)
        return Normal(mean, log_sigma.exp())


class Picture(nn.Sequential):
    """p(x|z): layers that give the mean of each pixel."""

    def forward(self, z):
        """The distribution at codes z."""
        return Normal(super().forward(z).flatten(1), 0.3)


def convolutional(latent: int = 5):
    """A new model, with initial weights from PyTorch's own generator."""
    encoder = Code(nn.Conv2d(1, 8, 4, 4), nn.ELU(), nn.Flatten(), nn.Linear(392, 2 * latent))
    decoder = Picture(
        nn.Linear(latent, 392), nn.ELU(), nn.Unflatten(1, (8, 7, 7)), nn.ConvTranspose2d(8, 1, 4, 4)
    )
    return repro.from_distributions(encoder, decoder)


def twenty():
    """The same with 20 latent units."""
    return convolutional(20)


def main(steps: int = 200) -> float:
    """Train for some steps; returns log p-hat of the first test images."""
    torch.manual_seed(0)
    digits = datasets.load("digits")
    model = convolutional()
    optimizer = torch.optim.Adam([*model.theta, *model.phi], 3e-3)
    for step in range(steps):
        batch = digits.train[torch.randint(len(digits.train), (20,))]
        bound = repro.backward(model, batch, method="piwae", M=4, K=4, estimator="drep")
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: bound {bound:.1f} nats")
    score = float(repro.log_px(model, digits.test[:50], K=200).mean())
    print(f"log p-hat {score:.1f} nats")
    return score


if __name__ == "__main__":
    main()
