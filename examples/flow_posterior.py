"""A posterior that is an autoregressive flow, on binarised digits: it needs zuko.

python -m repro train --model examples/flow_posterior.py:flow_posterior
"""

from torch import nn
from torch.distributions import Bernoulli, Independent
from zuko.flows import MAF

import repro

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
