"""A beta that is chosen during training, by its effect on the inference network.

CIWAE's own bound cannot choose it: its slope in beta is VAE - IWAE, which is never positive, so a
beta that ascends it goes to 0. Here beta is chosen so that a step of the inference network, of a
given length, raises IWAE's bound most.
"""

import torch
from torch import Tensor

WINDOW = 200  # steps over which products of gradients are averaged
SINGULAR = 1e-6  # relative determinant below which the two gradients are one


def descents(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Phi's cotangents of the VAE's and IWAE's loss, under ``drep``.

    log_w [run, T, batch] -> two of the same shape.
    """
    _, T, batch = log_w.shape
    of_vae = torch.full_like(log_w, -1 / (T * batch))
    of_iwae = -(log_w.softmax(1) ** 2) / batch
    return of_vae, of_iwae


def best_beta(products: Tensor, last: Tensor) -> Tensor:
    """The beta in [0, 1] that maximises the expected rise of IWAE's bound, [run].

    ``J(beta) = <E g_I, E g_beta> / sqrt(E |g_beta|^2)``, g_beta = beta g_V + (1 - beta) g_I. The
    five of ``products`` [5, run] are ``<E g_I, E g_V>``, ``|E g_I|^2``, ``E |g_V|^2``,
    ``E <g_V, g_I>`` and ``E |g_I|^2``.
    Where no beta lets the bound rise, or both gradients are one, the ``last`` beta stays.
    """
    along_v, along_i, vv, vi, ii = products
    determinant = vv * ii - vi**2
    of_v = ii * along_v - vi * along_i
    of_i = vv * along_i - vi * along_v
    inside = (of_v > 0) & (of_i > 0)
    better_end = (along_v * ii.sqrt() > along_i * vv.sqrt()).to(last.dtype)
    beta = torch.where(inside, of_v / (of_v + of_i), better_end)
    tells = ((along_v > 0) | (along_i > 0)) & (determinant > SINGULAR * vv * ii)
    return torch.where(tells, beta, last)


class BetaCriterion:
    """Statistics of gradients, collected while training, from which ``best_beta`` chooses beta.

    They are running means over about ``window`` steps. A product of two mean gradients is taken
    between successive batches, whose noise is independent; a second moment within one batch.
    """

    def __init__(self, parameters: Tensor, window: int = WINDOW):
        runs = len(parameters)
        self.window = window
        self.before = parameters.new_zeros(2, *parameters.shape)  # the last batch's gradients
        self.products = parameters.new_zeros(5, runs)
        self.steps = parameters.new_zeros(())

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors that the next choice depends on, by name, without a copy."""
        return {
            "criterion_before": self.before,
            "criterion_products": self.products,
            "criterion_steps": self.steps,
        }

    def choose(self, of_vae: Tensor, of_iwae: Tensor, last: Tensor) -> Tensor:
        """Choose the next beta, [run], from a batch's gradients of both losses [run, parameters].

        ``last`` is the beta so far, for ``best_beta``.
        """
        vae_before, iwae_before = self.before
        along_v = (_dot(of_iwae, vae_before) + _dot(of_vae, iwae_before)) / 2
        along_i = _dot(of_iwae, iwae_before)
        moments = (_dot(of_vae, of_vae), _dot(of_vae, of_iwae), _dot(of_iwae, of_iwae))
        found = torch.stack([along_v, along_i, *moments])
        self.steps += 1
        weight = (1 / self.steps).clamp(min=1 / self.window)
        self.products.lerp_(found, weight)
        self.before.copy_(torch.stack([of_vae, of_iwae]))
        return best_beta(self.products, last)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """[run, parameters] twice -> [run]."""
    return (a * b).sum(1)
