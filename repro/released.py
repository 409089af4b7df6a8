"""The training steps that the report's released code takes where they are not those of the paper. For comparison only.

``train()`` in miwae_simplified.py, github.com/madhubabuv/TightIWAE, commit a03f441. IWAE and MIWAE are trained there as here;
the VAE with one sample, which is ``Program`` with M = K = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from repro.bounds import METHODS, iwae, miwae
from repro.program import Program

DECODER_SAMPLES = 10  # K of PIWAE's second step; its flags are not used


class Released(Program):
    """One run of the released PIWAE, CIWAE or CIWAE with learned beta.

    PIWAE: the encoder steps on MIWAE(M, K), then the decoder on IWAE(10) with fresh samples and the new encoder.
    CIWAE: beta VAE + (1 - beta) IWAE, the VAE's bound from one sample and IWAE's from K others.
    Learned beta: a free number that descends the same loss.
    """

    def __init__(self, *given):
        super().__init__(*given)
        self.beta_logit.data.copy_(self.fixed_beta)  # beta itself here

    @property
    def beta(self) -> Tensor:
        """Beta, with nothing to keep it between 0 and 1."""
        return torch.where(self.learns, self.beta_logit, self.fixed_beta)

    def update(self, x: Tensor) -> None:
        """One update on the binary batch x [run, batch, pixels]."""
        (e,) = self.experiments
        if e.method == "piwae":
            self._step(x, self.T, lambda log_w: miwae(log_w.unflatten(1, (e.M, e.K))), network=0)
            loss = self.losses[self.index]
            self._step(x, DECODER_SAMPLES, lambda log_w: iwae(log_w[:, None]), network=1)
            self.losses.index_copy_(0, self.index, (loss + self.losses[self.index]) / 2)
        elif METHODS[e.method].takes_beta:
            self._step(x, 1 + e.K, lambda log_w: self.beta[:, None] * log_w[:, 0] + (1 - self.beta[:, None]) * iwae(log_w[:, None, 1:]))
        else:
            super().update(x)

    def _step(self, x: Tensor, T: int, bound: Callable[[Tensor], Tensor], network: int | None = None) -> None:
        """Both networks, or the one named, ascend ``bound`` of log w [run, T, batch]; beta descends the loss too."""

        def weigh(log_w: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                loss = -bound(log_w.requires_grad_()).mean(-1)
                a, self.beta_logit.grad = torch.autograd.grad(loss.sum(), [log_w, self.beta_logit], materialize_grads=True)
            self.losses.index_copy_(0, self.index, loss.detach()[None])
            return a, a

        for i, gradient in enumerate(self.gradients(x, T, weigh)):
            self.parameters[i].grad = gradient if network in (None, i) else None  # Adam leaves out what has none
        self.optimizer.step()
