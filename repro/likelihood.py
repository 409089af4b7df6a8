"""log p(x|z) of the decoder, its gradients at theta and at z, as functions that can be compiled.

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


def log_px_z_and_layers(dtype, x, z, decoder) -> tuple[Tensor, ...]:
    """log p(x|z) [run, T, batch], and the decoder's activations that the gradients need.

    x [run, batch, pixels], z [run, T, batch, latent]; ``decoder`` holds the weights and biases of
    its three layers. Matrix products take and give ``dtype``. The last tensor returned is
    x - sigmoid(logits) [run, n, pixels], the gradient at the logits.
    """
    w1, b1, w2, b2, w3, b3 = decoder
    w1, w2, w3, rows = (tensor.to(dtype) for tensor in (w1, w2, w3, z.flatten(1, 2)))
    h1 = _tanh(affine(_aligned(rows), _aligned(w1), b1)).to(dtype)
    h2 = _tanh(affine(h1, w2, b2)).to(dtype)
    logits = product(h2, w3.mT).view(*z.shape[:3], -1) + b3[:, None, None]
    if _is_compiled_for_gpu(x):
        log_p = _log_p_in_one_pass(x, logits)
        sigmoid = logits.sigmoid()
    else:
        log_partition, sigmoid = _log_partition_and_sigmoid(logits)
        log_p = _x_logits(x, h2, w3, b3) - log_partition
    residual = (x[:, None] - sigmoid).to(dtype).flatten(1, 2)
    return log_p, w1, w2, w3, rows, h1, h2, residual


# The gradient of each sample's log p is carried back unscaled. Its rows are multiplied by theta's
# cotangent where a parameter's gradient is summed, and by phi's where it reaches z, both
# [run, T, batch] (``estimators.Cotangents``). No ratio of weights is formed, and what needs no
# cotangent can be computed while the bounds are differentiated.


def gradients_of_each(layers) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of each sample's log p(x|z) at the hidden pre-activations and at z.

    [run, n, hidden] for the second and the first layer, and [run, n, latent]. ``layers`` is from
    ``log_px_z_and_layers``, without its log p.
    """
    w1, w2, w3, rows, h1, h2, residual = layers
    dtype = rows.dtype
    wide = torch.promote_types(dtype, torch.float32)
    d2 = (product(residual, w3) * (1 - h2.to(wide) ** 2)).to(dtype)
    d1 = (product(d2, w2) * (1 - h1.to(wide) ** 2)).to(dtype)
    return d2, d1, product(d1, _aligned(w1))[..., : rows.shape[-1]]


def last_layer_gradients(cotangent, layers) -> tuple[Tensor, Tensor]:
    """The gradients of sum(cotangent log p(x|z)) at the last layer's weight and bias."""
    *_, h2, residual = layers
    return _layer_gradients(cotangent, residual, h2)


def other_layers_gradients(cotangent, layers, of_each) -> tuple[Tensor, ...]:
    """The gradients of sum(cotangent log p(x|z)) at the first two layers' weights and biases.

    ``cotangent`` is [run, T, batch]; ``of_each`` is from ``gradients_of_each(layers)``.
    """
    _, _, _, rows, h1, _, _ = layers
    d2, d1, _ = of_each
    return *_layer_gradients(cotangent, d1, rows), *_layer_gradients(cotangent, d2, h1)


ALIGNED = 8  # matrix products are fastest if the number of columns is a multiple of this


def _aligned(matrix: Tensor) -> Tensor:
    """The matrix with columns of zeros up to a multiple of ``ALIGNED``, if it is of 16 bits."""
    lacking = -matrix.shape[-1] % ALIGNED
    return F.pad(matrix, (0, lacking)) if lacking and matrix.itemsize == 2 else matrix


def _layer_gradients(cotangent, delta, inputs) -> tuple[Tensor, Tensor]:
    """The gradients at a weight [run, out, in] and a bias [run, out], in one product.

    delta [run, n, out] is each sample's gradient after the layer, inputs [run, n, in] are before
    it. The bias has inputs of one, in as many columns as alignment asks for.
    """
    fan_in = inputs.shape[-1]
    of_row = cotangent.flatten(1)[..., None]
    ones = of_row.expand(-1, -1, ALIGNED - fan_in % ALIGNED)
    scaled = torch.cat([of_row * inputs, ones], -1).to(inputs.dtype)
    gradients = product(delta.mT, scaled).to(cotangent.dtype)
    return gradients[..., :fan_in], gradients[..., fan_in]


def log_px_z(x, z, decoder) -> Tensor:
    """log p(x|z) [run, T, batch], without the layers of ``log_px_z_and_layers``."""
    w1, b1, w2, b2, w3, b3 = decoder
    h1 = _tanh(affine(z.flatten(1, 2), w1, b1))
    h2 = _tanh(affine(h1, w2, b2))
    logits = product(h2, w3.mT).view(*z.shape[:3], -1) + b3[:, None, None]
    if _is_compiled_for_gpu(x):
        return _log_p_in_one_pass(x, logits)
    return _x_logits(x, h2, w3, b3) - _log_partition(logits)


def _is_compiled_for_gpu(x: Tensor) -> bool:
    return x.is_cuda and torch.compiler.is_compiling()


def _log_p_in_one_pass(x, logits) -> Tensor:
    """log p(x|z), [run, T, batch], where arithmetic costs nothing beside memory."""
    log_partition = logits.clamp(min=0) + torch.log1p(torch.exp(-logits.abs()))
    return (x[:, None] * logits - log_partition).sum(-1)


def _x_logits(x, h2, w3, b3) -> Tensor:
    """The part sum_d x_d logits_d of log p(x | z), [run, T, batch].

    The logits are h2 W3^T + b3, so it is h2 . (x W3) + x . b3, and no [run, T, batch, pixels]
    is read.
    """
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
    """sum_d log(1 + exp(logits_d)), [run, n]; may overwrite logits that need no gradient."""
    if torch.compiler.is_compiling():
        return _log_partition_and_sigmoid(logits)[0]
    if logits.requires_grad:
        return F.softplus(logits).sum(-1)
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
