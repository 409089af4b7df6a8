"""The same training step in fewer kernels, of which fewer wait for one another."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from repro.estimators import Cotangents
from repro.models import decoder_gradient, encoder_gradient
from repro.training.program import Program, matmul_precision


@functools.cache
def followed_by(gradient: Callable[..., Tensor], descent: Callable) -> Callable[..., None]:
    """Make one function of ``gradient`` and a step with it; compiled, it writes no gradient."""

    def step(optimizer, *arguments) -> None:
        moments, *how = optimizer
        descent(moments, [gradient(*arguments)], *how)

    step.__name__ = f"{gradient.__name__}_and_step"
    return step


def keep_loss(losses: Tensor, index: Tensor, counts: Cotangents) -> Tensor:
    """Write the loss to its place, count the step, and return the gradient at beta, [run]."""
    losses.index_copy_(0, index, counts.loss[None])
    index += 1
    return counts.beta


class FusedProgram(Program):
    """A program each of whose gradients is one function with the optimiser's step.

    Within several steps, the next batch and noise are drawn beside the step before, in the same
    order, and nothing after the last: a state is never ahead. If beta is chosen, all is as usual.
    """

    @torch.no_grad()
    def _take(self, steps: int = 1) -> None:
        if self.criterion is not None:
            super()._take(steps)
            return
        x, eps = self.draw_batch(), self.noise(self.T)
        for left in reversed(range(steps)):
            now = x, eps
            if left:
                with self.beside:
                    x, eps = self.draw_batch(self.offsets + len(self.offsets)), self.noise(self.T)
            with matmul_precision(self.precision):
                self._update(*now)

    def _update(self, x: Tensor, eps: Tensor) -> None:
        forward = self.forward(x, eps)
        of_beta = (self.beta_parameter.detach(), self.learns, self.fixed_beta)
        with self.beside:
            counts = self.cotangents(forward.log_w, *of_beta)
        of_each = self.model.sample_gradients(forward)
        self.beside.join()
        encoders, decoders = self.parameters
        with self.beside:
            self._step_by(keep_loss, self.beta_parameter, self.losses, self.index, counts)
            if not self.decoder_is_fixed:
                self._step_by(decoder_gradient, decoders, counts.theta, forward.of_decoder, of_each)
        layers = (forward.x, forward.eps, forward.encoder, forward.of_encoder)
        of_phi = (self.model.encoder.positive, counts.phi, self.still, *layers, of_each[-1])
        self._step_by(encoder_gradient, encoders, *of_phi)
        self.beside.join()

    def _step_by(self, gradient: Callable, parameter: Tensor, *arguments) -> None:
        descent, *optimizer = self._descent([parameter])
        self.engine.prepare(followed_by(gradient, descent))(optimizer, *arguments)
