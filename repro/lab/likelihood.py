"""log p(x|z) of the decoder and its two gradients, as functions of tensors that can be compiled.

Rows of a matrix are samples: there are n = T batch of them for each run.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """One matrix product for each run: [run, n, k], [run, k, m] -> [run, n, m]."""
    if len(a) == 1:  # on the CPU the plain product is up to twice as fast
        return torch.mm(a[0], b[0])[None]
    return torch.bmm(a, b)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b for each run: [run, n, in], [run, out, in], [run, out] -> [run, n, out]."""
    return product(x, weight.mT) + bias[:, None]


class LogLikelihood(torch.autograd.Function):
    """log p(x|z) with separate incoming gradients for theta and phi."""

    @staticmethod
    def forward(ctx, x, z, *parameters):
        """log p(x|z) twice, [run, T, batch]: for theta's bound and for phi's.

        x [run, batch, pixels], z [run, T, batch, latent].
        """
        log_p, *saved = log_px_z_and_saved(z.dtype, last_layer, x, z, parameters)
        ctx.save_for_backward(*saved)
        return log_p, log_p.clone()

    @staticmethod
    def backward(ctx, a, b):
        """The derivatives of theta's and phi's bound -> gradients at z and at each parameter."""
        return None, *decoder_gradients(a, b, ctx.saved_tensors)


def log_px_z_and_saved(dtype, last_layer, x, z, decoder) -> tuple[Tensor, ...]:
    """log p(x|z) [run, T, batch], and what ``decoder_gradients`` needs.

    ``decoder`` holds the weights and biases of its three layers. Matrix products take and give
    ``dtype``.
    """
    w1, b1, w2, b2, w3, b3 = decoder
    w1, w2, w3, rows = (tensor.to(dtype) for tensor in (w1, w2, w3, z.flatten(1, 2)))
    h1 = _tanh(affine(rows, w1, b1)).to(dtype)
    h2 = _tanh(affine(h1, w2, b2)).to(dtype)
    log_p, residual, d_h2 = last_layer(x, h2, w3, b3)
    return log_p.view(z.shape[:3]), w1, w2, rows, h1, h2, residual, d_h2


def last_layer(x, h2, w3, b3) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x|z) and its gradients at the logits and at h2.

    x [run, batch, pixels]; h2 [run, n, hidden], whose row i belongs to image i modulo batch.
    Returns log p(x|z) [run, n], x - sigmoid(logits) [run, n, pixels] and the gradient at h2
    [run, n, hidden].
    """
    run, batch, _ = x.shape
    logits = product(h2, w3.mT).view(run, -1, batch, x.shape[-1]) + b3[:, None, None]
    log_partition, sigmoid = _log_partition_and_sigmoid(logits)
    residual = (x[:, None] - sigmoid).to(h2.dtype).flatten(1, 2)
    log_p = _x_logits(x, h2, w3, b3) - log_partition
    return log_p.flatten(1), residual, product(residual, w3)


def decoder_gradients(a, b, saved) -> tuple[Tensor, ...]:
    """The gradients at z and at each parameter, from what ``log_px_z_and_saved`` saved.

    a = d(theta's bound)/d(log p) and b = d(phi's bound)/d(log p), both [run, T, batch]. The
    gradient of each sample's log p is carried back unscaled; its rows are weighed by a where a
    parameter's gradient is summed, and by b where it reaches z. No ratio of weights is formed.
    """
    w1, w2, rows, h1, h2, residual, d_h2 = saved
    shape = b.shape
    dtype = rows.dtype
    a = a.flatten(1)[..., None]
    b = b.flatten(1)[..., None]
    d2 = (d_h2 * (1 - h2.to(a.dtype) ** 2)).to(dtype)
    d1 = (product(d2, w2) * (1 - h1.to(a.dtype) ** 2)).to(dtype)
    gradients = [(product(d1, w1) * b).view(*shape, -1)]
    for delta, inputs in ((d1, rows), (d2, h1), (residual, h2)):
        gradients.append(product(delta.mT, (a * inputs).to(dtype)).to(a.dtype))
        gradients.append(product(delta.mT, a.to(dtype))[..., 0].to(a.dtype))
    return tuple(gradients)


def log_px_z(x, z, decoder) -> Tensor:
    """log p(x|z) alone, [run, T, batch]."""
    w1, b1, w2, b2, w3, b3 = decoder
    h1 = _tanh(affine(z.flatten(1, 2), w1, b1))
    h2 = _tanh(affine(h1, w2, b2))
    logits = product(h2, w3.mT).view(*z.shape[:3], -1) + b3[:, None, None]
    return _x_logits(x, h2, w3, b3) - _log_partition(logits)


def _x_logits(x, h2, w3, b3) -> Tensor:
    """sum_d x_d logits_d, [run, T, batch], as h2 . (x W3) + x . b3: no pass over all pixels."""
    h2 = h2.view(len(x), -1, x.shape[1], h2.shape[-1])
    of_weights = (product(x.to(h2.dtype), w3)[:, None] * h2).sum(-1, dtype=x.dtype)
    return of_weights + (x * b3[:, None]).sum(-1)[:, None]


# Compiled, a chain of element-wise operations costs what its exponentials and logarithms cost, so
# the compiled forms spend one exp a value and share it. Eager ones make the fewest passes over
# memory.


def _tanh(x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return 1 - 2 / (torch.exp(2 * x) + 1)
    return torch.tanh(x)


def _log_partition(logits: Tensor) -> Tensor:
    """sum_d log(1 + exp(logits_d)), [run, n]; overwrites the logits unless compiled."""
    if torch.compiler.is_compiling():
        return _log_partition_and_sigmoid(logits)[0]
    return torch.ops.aten.softplus.out(logits, out=logits).sum(-1)


LANES = 16
FACTORS = 120  # a product of so many factors in (1, 2] is below the largest float32


def _log_partition_and_sigmoid(logits: Tensor) -> tuple[Tensor, Tensor]:
    """sum_d log(1 + exp(logits_d)) [run, n] and sigmoid(logits) [run, n, pixels].

    log(1 + exp(l)) = max(l, 0) + log(1 + e), e = exp(-|l|); the sum of logarithms is taken as the
    logarithm of products. Overwrites the logits unless compiled.
    """
    if not torch.compiler.is_compiling():
        return F.softplus(logits).sum(-1), logits.sigmoid_()
    pixels = logits.shape[-1]
    e = torch.exp(-logits.abs())
    factors = 1 + e
    products = factors
    if pixels % LANES == 0 and pixels <= LANES * FACTORS:
        products = factors.unflatten(-1, (-1, LANES)).prod(-2)
    log_partition = logits.clamp(min=0).sum(-1) + products.log().sum(-1)
    return log_partition, torch.where(logits >= 0, 1, e) / factors
