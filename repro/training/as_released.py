"""The training steps that the report's released code takes, where they are not the paper's.

For comparison only. They are ``train()`` in miwae_simplified.py, github.com/madhubabuv/TightIWAE,
commit a03f441. IWAE and MIWAE are trained there as here, and the VAE with one sample, which is
``Program`` with M = K = 1.
"""

import torch
from torch import Tensor

from repro.bounds import METHODS, Bound, both, iwae, miwae
from repro.estimators import cotangents
from repro.training.program import Program

DECODER_SAMPLES = 10  # K of PIWAE's second step, which ignores the flags given
ENCODER = 0
DECODER = 1


def vae_and_iwae(log_w: Tensor, beta: Tensor) -> Tensor:
    """CIWAE as released: beta times the VAE's bound of the first sample, 1 - beta IWAE's of others.

    [..., 1, 1 + K, batch] -> [..., batch].
    """
    return beta * log_w[..., 0, 0, :] + (1 - beta) * iwae(log_w[..., 1:, :])


class ProgramAsReleased(Program):
    """One run of the released PIWAE, CIWAE or CIWAE with learned beta.

    PIWAE: the encoder steps on MIWAE(M, K), then the decoder on IWAE(10), with fresh samples from
    the new encoder. CIWAE: beta VAE + (1 - beta) IWAE, with the VAE's bound from one sample and
    IWAE's from K others. Learned beta: a free number that descends the same loss.
    """

    def _initial_beta_parameter(self) -> Tensor:
        """Beta itself."""
        return self.fixed_beta.clone()

    @property
    def beta(self) -> Tensor:
        """The weight of the VAE's bound, [run]; a learned one may leave the interval [0, 1]."""
        return torch.where(self.learns, self.beta_parameter, self.fixed_beta)

    def update(self, x: Tensor) -> Tensor:
        """Update the run on the binary batch x [run, batch, pixels]; return the loss, [run]."""
        (e,) = self.experiments
        if e.method == "piwae":
            of_encoder = self._ascend(x, miwae, e.M, e.K, only=ENCODER)
            of_decoder = self._ascend(x, iwae, 1, DECODER_SAMPLES, only=DECODER)
            return (of_encoder + of_decoder) / 2
        if METHODS[e.method].takes_beta:
            return self._ascend(x, vae_and_iwae, 1, 1 + e.K)
        return super().update(x)

    def _ascend(self, x: Tensor, bound: Bound, M: int, K: int, only: int | None = None) -> Tensor:
        """Let both networks, or ``only`` one, ascend a bound of log w; beta descends the loss."""
        forward = self.forward(x, self.noise(M * K))
        with self.beside:
            counts = cotangents(forward.log_w, both(bound), M, K, beta=self.beta)
            of_beta = torch.where(self.learns, counts.beta, 0.0)
            of_last = self.model.last_layer_gradients(forward, counts.theta)
        found = self.pull_back(forward, counts, of_last)
        of_networks = (found.encoder, found.decoder)
        moving = [g if only in (None, network) else None for network, g in enumerate(of_networks)]
        self.descend(*moving, of_beta)
        return found.loss
