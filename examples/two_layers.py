"""Two stochastic layers on binarised digits: a model written out, with its log-weights.

python -m repro train --model examples/two_layers.py:TwoLayers
"""

import torch
from torch import nn
from torch.distributions import Bernoulli, Normal


class Gaussian(nn.Module):
    """A normal distribution whose mean and deviation come from one hidden layer."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 50), nn.Tanh(), nn.Linear(50, 2 * outputs))

    def forward(self, x, still=False):
        """The distribution at x; ``still`` takes no gradient at this module's parameters."""
        layers = self.layers
        if still:
            weights = {name: p.detach() for name, p in layers.named_parameters()}
            mean, log_sigma = torch.func.functional_call(layers, weights, x).chunk(2, -1)
        else:
            mean, log_sigma = layers(x).chunk(2, -1)
        return Normal(mean, log_sigma.exp())


class TwoLayers(nn.Module):
    """x <- z1 <- z2 in p, and x -> z1 -> z2 in q."""

    def __init__(self):
        super().__init__()
        self.to_z1, self.to_z2 = Gaussian(784, 10), Gaussian(10, 5)
        self.from_z2 = Gaussian(5, 10)
        self.from_z1 = nn.Sequential(nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 784))
        self.theta = [*self.from_z2.parameters(), *self.from_z1.parameters()]
        self.phi = [*self.to_z1.parameters(), *self.to_z2.parameters()]

    def log_weights(self, x, T, still=False):
        """log p(x, z1, z2) - log q(z1, z2 | x), [T, batch]."""
        z1 = self.to_z1(x).rsample((T,))
        z2 = self.to_z2(z1).rsample()
        log_q = self.to_z1(x, still).log_prob(z1).sum(-1)
        log_q = log_q + self.to_z2(z1, still).log_prob(z2).sum(-1)
        log_p = Normal(0.0, 1.0).log_prob(z2).sum(-1) + self.from_z2(z2).log_prob(z1).sum(-1)
        return log_p + Bernoulli(logits=self.from_z1(z1)).log_prob(x).sum(-1) - log_q
