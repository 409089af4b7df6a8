"""A posterior that is an autoregressive flow, on binarised digits: it needs zuko.

python examples/flow_posterior.py

The commands train it, too: python -m repro train --model examples/flow_posterior.py:flow_posterior
"""

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent
from zuko.flows import MAF

import repro
from repro import datasets

LATENT = 10


class Pixels(nn.Sequential):
    """p(x|z): layers that give the logit of each pixel."""

    def forward(self, z):
        """The distribution at codes z."""
        return Independent(Bernoulli(logits=super().forward(z)), 1)


def flow_posterior():
    """A model whose q(z|x) is a masked autoregressive flow with x as its context."""
    encoder = MAF(LATENT, context=784, transforms=2, hidden_features=(50,))
    decoder = Pixels(nn.Linear(LATENT, 100), nn.Tanh(), nn.Linear(100, 784))
    return repro.from_distributions(encoder, decoder)


def main(steps: int = 200) -> float:
    """Train for some steps; returns log p-hat of the first test images."""
    torch.manual_seed(0)
    digits = datasets.load("digits")
    model = flow_posterior()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        batch = digits.train[torch.randint(len(digits.train), (20,))].bernoulli()
        repro.backward(model, batch, method="iwae", M=1, K=8, estimator="stl")
        optimizer.step()
    score = float(repro.log_px(model, digits.test[:50].bernoulli(), K=200).mean())
    print(f"log p-hat {score:.1f} nats")
    return score


if __name__ == "__main__":
    main()
