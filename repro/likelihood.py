"""log p(x|z) of the decoder and its two gradients, as functions of tensors that can be compiled.

Rows of a matrix are samples: n = T batch of them for each run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

How = Callable[[Callable], Callable]  # a function of tensors -> the same, made ready to run


def eager(function: Callable) -> Callable:
    """The function itself."""
    return function


@functools.cache
def compiled(function: Callable) -> Callable:
    """The function compiled by torch.compile, once for every shape that it meets."""
    return torch.compile(function, dynamic=False)


@functools.cache
def fastest() -> How:
    """``compiled`` where a compiler is there, else ``eager``."""
    try:
        compiled(torch.exp)(torch.zeros(1))
    except Exception:
        return eager
    return compiled


def product(a: Tensor, b: Tensor) -> Tensor:
    """One matrix product for each run: [run, n, k], [run, k, m] -> [run, n, m]."""
    if len(a) == 1:  # a stack of one: the plain product is up to twice as fast on the CPU
        return torch.mm(a[0], b[0])[None]
    return torch.bmm(a, b)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b for each run: [run, n, in], [run, out, in], [run, out] -> [run, n, out]."""
    return product(x, weight.mT) + bias[:, None]


class LogLikelihood(torch.autograd.Function):
    """log p(x|z) with separate incoming gradients for theta and phi."""

    @staticmethod
    def forward(ctx, x, z, *parameters):
        """x [run, batch, pixels], z [run, T, batch, latent] -> log p(x|z) twice, [run, T, batch]."""
        log_px_z, *saved = forward(z.dtype, last_layer, x, z, *parameters)
        ctx.save_for_backward(*saved)
        return log_px_z, log_px_z.clone()

    @staticmethod
    def backward(ctx, a, b):
        """The derivatives of theta's and of phi's bound -> the gradients at z and at each parameter."""
        return None, *backward(a, b, *ctx.saved_tensors)


def forward(dtype, last_layer, x, z, w1, b1, w2, b2, w3, b3) -> tuple[Tensor, ...]:
    """log p(x|z) [run, T, batch] and what ``backward`` needs; matrix products take and give ``dtype``."""
    w1, w2, w3, rows = (tensor.to(dtype) for tensor in (w1, w2, w3, z.flatten(1, 2)))
    h1 = _tanh(affine(rows, w1, b1)).to(dtype)
    h2 = _tanh(affine(h1, w2, b2)).to(dtype)
    log_px_z, residual, d_h2 = last_layer(x, h2, w3, b3)
    return log_px_z.view(z.shape[:3]), w1, w2, rows, h1, h2, residual, d_h2


def last_layer(x, h2, w3, b3) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x|z) [run, n], its gradient at the logits, x - sigmoid(logits) [run, n, pixels], and at h2 [run, n, hidden].

    x [run, batch, pixels]; row i of h2 [run, n, hidden] belongs to image i modulo batch.
    """
    run, batch, _ = x.shape
    logits = product(h2, w3.mT).view(run, -1, batch, x.shape[-1]) + b3[:, None, None]
    log_partition, sigmoid = _log_partition_and_sigmoid(logits)
    residual = (x[:, None] - sigmoid).to(h2.dtype).flatten(1, 2)
    return (_x_logits(x, h2, w3, b3) - log_partition).flatten(1), residual, product(residual, w3)


def backward(a, b, w1, w2, rows, h1, h2, residual, d_h2) -> tuple[Tensor, ...]:
    """The gradients at z and at each parameter, from a = d(theta's bound)/d(log p) and b = d(phi's bound)/d(log p).

    Both are [run, T, batch]. The gradient of each sample's log p is carried back unscaled; its rows are weighed by a
    where a parameter's gradient is summed, by b where it reaches z. No ratio of weights is formed.
    """
    shape, dtype, a, b = b.shape, rows.dtype, a.flatten(1)[..., None], b.flatten(1)[..., None]
    d2 = (d_h2 * (1 - h2.to(a.dtype) ** 2)).to(dtype)
    d1 = (product(d2, w2) * (1 - h1.to(a.dtype) ** 2)).to(dtype)
    gradients = [(product(d1, w1) * b).view(*shape, -1)]
    for delta, inputs in ((d1, rows), (d2, h1), (residual, h2)):
        gradients += [product(delta.mT, (a * inputs).to(dtype)).to(a.dtype), product(delta.mT, a.to(dtype))[..., 0].to(a.dtype)]
    return tuple(gradients)


def log_px_z(x, z, w1, b1, w2, b2, w3, b3) -> Tensor:
    """log p(x|z) alone, [run, T, batch]."""
    h2 = _tanh(affine(_tanh(affine(z.flatten(1, 2), w1, b1)), w2, b2))
    logits = product(h2, w3.mT).view(*z.shape[:3], -1) + b3[:, None, None]
    return _x_logits(x, h2, w3, b3) - _log_partition(logits)


def _x_logits(x, h2, w3, b3) -> Tensor:
    """sum_d x_d logits_d [run, T, batch] = h2 . (x W3) + x . b3, which needs no pass over the pixels of every sample."""
    h2 = h2.view(len(x), -1, x.shape[1], h2.shape[-1])
    return (product(x.to(h2.dtype), w3)[:, None] * h2).sum(-1, dtype=x.dtype) + (x * b3[:, None]).sum(-1)[:, None]


# Compiled, a chain of element-wise operations costs what its exponentials and logarithms cost, so the compiled forms
# spend one exp a value and share it. Eager ones spend the fewest passes over memory.


def _tanh(x: Tensor) -> Tensor:
    return 1 - 2 / (torch.exp(2 * x) + 1) if torch.compiler.is_compiling() else torch.tanh(x)


def _log_partition(logits: Tensor) -> Tensor:
    """sum_d log(1 + exp(logits_d)) [run, n]; overwrites the logits where not compiled."""
    if torch.compiler.is_compiling():
        return _log_partition_and_sigmoid(logits)[0]
    return torch.ops.aten.softplus.out(logits, out=logits).sum(-1)


LANES, FACTORS = 16, 120  # a product of so many factors in (1, 2] is below the largest float32


def _log_partition_and_sigmoid(logits: Tensor) -> tuple[Tensor, Tensor]:
    """sum_d log(1 + exp(logits_d)) [run, n] and sigmoid(logits) [run, n, pixels]; overwrites the logits where not compiled.

    log(1 + exp(l)) = max(l, 0) + log(1 + e), e = exp(-|l|); the sum of logarithms is taken as that of products.
    """
    if not torch.compiler.is_compiling():
        return F.softplus(logits).sum(-1), logits.sigmoid_()
    e, pixels = torch.exp(-logits.abs()), logits.shape[-1]
    factors = 1 + e
    products = factors.unflatten(-1, (-1, LANES)).prod(-2) if pixels % LANES == 0 and pixels <= LANES * FACTORS else factors
    return logits.clamp(min=0).sum(-1) + products.log().sum(-1), torch.where(logits >= 0, 1, e) / factors
