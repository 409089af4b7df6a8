"""The same training step in fewer kernels: of those that wait for one another, a GPU runs half."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from repro.models import Preparation
from repro.training.program import Program, matmul_precision


@functools.cache
def followed_by(gradient: Callable[..., Tensor], descent: Callable) -> Callable[..., None]:
    """Make one function of ``gradient`` and the optimiser's step with it.

    Compiled, it writes no gradient to memory. It takes what ``descent`` takes besides gradients, as
    one tuple, and then what ``gradient`` takes.
    """

    def step(optimizer, *arguments) -> None:
        moments, *how = optimizer
        descent(moments, [gradient(*arguments)], *how)

    step.__name__ = f"{gradient.__name__}_and_step"
    return step


def keep_loss(losses: Tensor, index: Tensor, loss: Tensor, at_beta: Tensor) -> Tensor:
    """Write the step's loss [run] to its place, count the step, and return the gradient at beta."""
    losses.index_copy_(0, index, loss[None])
    index += 1
    return at_beta


class FusedProgram(Program):
    """A program whose gradients are functions together with the optimiser's steps.

    Nothing waits for the optimiser, the losses, or the decoder's gradient but the next step. Within
    several steps, the next batch and its noise are drawn beside the step before: the same numbers
    in the same order. After the last step nothing is drawn, so that a state is never ahead. Where
    beta is chosen by gradients, the step is ``Program``'s.
    """

    def _set_buffers(self) -> None:
        super()._set_buffers()
        self.following = self.offsets + self.batch_size

    @torch.no_grad()
    def _take(self, steps: int = 1) -> None:
        if self.criterion is not None:
            super()._take(steps)
            return
        x, eps = self.draw_batch(), self.noise(self.T)
        for left in reversed(range(steps)):
            this = x, eps
            if left:
                with self.beside:
                    x, eps = self.draw_batch(self.following), self.noise(self.T)
            with matmul_precision(self.precision):
                self._update(*this)

    def _update(self, x: Tensor, eps: Tensor) -> None:
        """Update every run on its binary batch x [run, batch, pixels] with the noise eps."""
        model = self.model
        encoders, decoders = map(self._descending, self.parameters)
        forward = self.forward(x, eps)
        with self.beside:
            counts = self._counts(forward.log_w)
        of_each = model.sample_gradients(forward)
        self.beside.join()
        with self.beside:
            at_beta = self._descending(self.beta_parameter)(keep_loss)
            at_beta(self.losses, self.index, counts.loss, counts.beta)
            if not self.decoder_is_fixed:
                model.decoder_gradient(forward, counts.theta, of_each, None, decoders)
        model.encoder_gradient(forward, counts.phi, of_each, self.still, encoders)
        self.beside.join()

    def _descending(self, parameter: torch.nn.Parameter) -> Preparation:
        """Prepare functions that give the gradient at ``parameter`` to take the step with it."""
        optimizer = self._optimizer_of([parameter])

        def prepare(gradient: Callable) -> Callable:
            step = self.engine.prepare(followed_by(gradient, self._descent()))
            return functools.partial(step, optimizer)

        return prepare
