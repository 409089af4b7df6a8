"""The training steps that the report's released code takes, where they are not the paper's.

For comparison only. They are ``train()`` in miwae_simplified.py, github.com/madhubabuv/TightIWAE,
commit a03f441. IWAE and MIWAE are trained there as here, and the VAE with one sample, which is
``Program`` with M = K = 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from repro.bounds import METHODS, iwae, miwae
from repro.lab.derivatives import Weighed
from repro.lab.program import Program

DECODER_SAMPLES = 10  # K of PIWAE's second step, which ignores the flags given
ENCODER = 0
DECODER = 1


class ReleasedProgram(Program):
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
        """Beta, with nothing to keep it between 0 and 1."""
        return torch.where(self.learns, self.beta_parameter, self.fixed_beta)

    def update(self, x: Tensor) -> Tensor:
        """Update on the binary batch x [run, batch, pixels]; returns the loss, [run]."""
        (e,) = self.experiments
        if e.method == "piwae":
            of_encoder = self._ascend(x, self.T, self._miwae, only=ENCODER)
            of_decoder = self._ascend(x, DECODER_SAMPLES, self._iwae, only=DECODER)
            return (of_encoder + of_decoder) / 2
        if METHODS[e.method].takes_beta:
            return self._ascend(x, 1 + e.K, self._two_bounds)
        return super().update(x)

    def _miwae(self, log_w: Tensor) -> Tensor:
        (e,) = self.experiments
        return miwae(log_w.unflatten(1, (e.M, e.K)))

    def _iwae(self, log_w: Tensor) -> Tensor:
        return iwae(log_w[:, None])

    def _two_bounds(self, log_w: Tensor) -> Tensor:
        """The VAE's bound of the first sample and IWAE's of the others, weighed by beta."""
        beta = self.beta[:, None]
        return beta * log_w[:, 0] + (1 - beta) * iwae(log_w[:, None, 1:])

    def _ascend(
        self, x: Tensor, T: int, bound: Callable[[Tensor], Tensor], only: int | None = None
    ) -> Tensor:
        """Let both networks, or ``only`` one, ascend a bound of log w; beta descends the loss."""

        @torch.enable_grad()
        def weigh(log_w: Tensor) -> Weighed:
            loss = -bound(log_w.requires_grad_()).mean(-1)
            leaves = [log_w, self.beta_parameter]
            a, of_beta = torch.autograd.grad(loss.sum(), leaves, materialize_grads=True)
            return Weighed(loss.detach(), a, a, of_beta)

        weighed, gradients = self.gradients(x, T, weigh)
        moving = [g if only in (None, network) else None for network, g in enumerate(gradients)]
        self.descend(*moving, weighed.beta)
        return weighed.loss
