"""The training of a user's own model, one run at a time, through automatic differentiation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from repro import ReproError
from repro.beta import descents
from repro.bounds import METHODS
from repro.estimators import holds_q_still
from repro.own_models import gradients_of, parameter_lists, pulled_back
from repro.training.program import Gradients, Program


class OwnProgram(Program):
    """A program that trains one run of a user's own model, with ``Program``'s optimiser and data.

    Its theta takes the decoder's place and its phi the encoder's.
    """

    def _set_engine(self, name: str) -> None:
        super()._set_engine(name)
        if self.engine.graph:
            raise ReproError("a model of your own is not captured as a graph")

    def _networks(self) -> tuple[list[Tensor], list[Tensor]]:
        theta, phi = parameter_lists(self.model.model)
        return phi, theta

    def gradients(self, x: Tensor) -> Gradients:
        """The gradients of both losses at x [1, batch, ...], with T fresh samples."""
        (e,) = self.experiments
        phi, theta = self._networks()
        still = holds_q_still(e.estimator)
        log_w = self.model.differentiable_log_weights(x[0], self.T, still, self.streams["noise"])
        of_beta = (self.beta_parameter.detach(), self.learns, self.fixed_beta)
        counts = self.cotangents(log_w.detach()[None], *of_beta)
        one_pass = METHODS[e.method].is_shared and e.estimator == "rep"
        for_phi = None if one_pass else counts.phi[0]
        at_theta, at_phi = pulled_back(log_w, theta, phi, counts.theta[0], for_phi)
        ends = descents(log_w.detach()[None]) if self.criterion else ()
        at_ends = [self._as_one(gradients_of(log_w, phi, end[0])) for end in ends]
        return Gradients(
            self._as_one(at_phi), self._as_one(at_theta), counts.beta, counts.loss, (*at_ends,)
        )

    def _as_one(self, gradients: Sequence[Tensor]) -> Tensor:
        """Gradients of several parameters as those of one run, [1, parameters]."""
        none = torch.zeros(0, device=self.device)
        return torch.cat([none, *(g.flatten() for g in gradients)])[None]

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors that the next step depends on, by name, the model's buffers included."""
        buffers = self.model.model.named_buffers()
        return super().state | {f"buffer {name}": tensor for name, tensor in buffers}
