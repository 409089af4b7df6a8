"""Two stochastic layers on binarised digits: a model written out, with its log-weights.

python -m repro train --model examples/two_layers.py:TwoLayers

``burdas`` has the sizes of Burda et al. (2016, section 5): 100 and 50 latent units.
"""

import torch
from torch import nn
from torch.distributions import Bernoulli, Normal


def layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers, and linear outputs."""
    widths = [nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()]
    return nn.Sequential(*widths, nn.Linear(hidden, outputs))


class Gaussian(nn.Module):
    """A normal distribution whose mean and deviation come from two hidden layers."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.layers = layers(inputs, hidden, 2 * outputs)

    def forward(self, x, still=False):
        """The distribution at x; ``still`` takes no gradient at this module's parameters."""
        if still:
            weights = {name: p.detach() for name, p in self.layers.named_parameters()}
            mean, log_sigma = torch.func.functional_call(self.layers, weights, x).chunk(2, -1)
        else:
            mean, log_sigma = self.layers(x).chunk(2, -1)
        return Normal(mean, log_sigma.exp())


class TwoLayers(nn.Module):
    """x <- z1 <- z2 in p, and x -> z1 -> z2 in q."""

    def __init__(self, units=(10, 5), hidden=(50, 50)):
        super().__init__()
        self.units = list(units)
        (near, far), (wide, narrow) = units, hidden
        self.to_z1, self.to_z2 = Gaussian(784, wide, near), Gaussian(near, narrow, far)
        self.from_z2, self.from_z1 = Gaussian(far, narrow, near), layers(near, wide, 784)
        self.theta = [*self.from_z2.parameters(), *self.from_z1.parameters()]
        self.phi = [*self.to_z1.parameters(), *self.to_z2.parameters()]

    def log_weights(self, x, T, still=False):
        """log p(x, z1, z2) - log q(z1, z2 | x), [T, batch]."""
        z1 = self.to_z1(x).rsample((T,))
        z2 = self.to_z2(z1).rsample()
        log_q = self.to_z1(x, still).log_prob(z1).sum(-1)
        log_q = log_q + self.to_z2(z1, still).log_prob(z2).sum(-1)
        return self.log_joint(x, torch.cat([z1, z2], -1)) - log_q

    def log_joint(self, x, z):
        """log p(x, z1, z2) of z1 and z2 side by side in z [T, batch, units]: [T, batch]."""
        z1, z2 = z.split(self.units, -1)
        log_p = Normal(0.0, 1.0).log_prob(z2).sum(-1) + self.from_z2(z2).log_prob(z1).sum(-1)
        return log_p + Bernoulli(logits=self.from_z1(z1)).log_prob(x).sum(-1)

    def draw(self, x, T):
        """T samples of q, z1 and z2 side by side, [T, batch, units]; for ``repro.ais``."""
        z1 = self.to_z1(x).rsample((T,))
        return torch.cat([z1, self.to_z2(z1).rsample()], -1)


def burdas():
    """The larger of the two models in the paper that introduced IWAE."""
    return TwoLayers(units=(100, 50), hidden=(200, 100))
