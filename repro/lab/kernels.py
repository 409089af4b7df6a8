"""The decoder's last layer as one Triton kernel, so that no logit leaves the chip.

It needs triton, which comes with PyTorch for CUDA. A program of the kernel keeps a tile of h2's
rows and goes over the pixels in blocks. For each block it computes the logits, adds to log p(x|z),
writes the residual, and adds the residual's product with W3 to the gradient at h2.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _last_layer_tile(  # noqa: PLR0913  (pointers, strides and sizes of a kernel)
    x, h2, w3, b3, log_px_z, residual, d_h2, x_run, w3_run, b3_run, n, batch, pixels, hidden,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, HIDDEN: tl.constexpr,
):  # fmt: skip
    run = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    unit = tl.arange(0, HIDDEN)
    is_row = row < n
    is_unit = unit < hidden
    is_h = is_row[:, None] & is_unit[None, :]
    h_at = (run * n + row)[:, None] * hidden + unit[None, :]
    h = tl.load(h2 + h_at, mask=is_h, other=0.0)
    gradient = tl.zeros((ROWS, HIDDEN), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for first in range(0, pixels, BLOCK):
        d = first + tl.arange(0, BLOCK)
        is_pixel = d < pixels
        is_w = is_pixel[:, None] & is_unit[None, :]
        w = tl.load(w3 + run * w3_run + d[:, None] * hidden + unit[None, :], mask=is_w, other=0.0)
        bias = tl.load(b3 + run * b3_run + d, mask=is_pixel, other=0.0)
        inside = is_row[:, None] & is_pixel[None, :]
        x_at = run * x_run + (row % batch)[:, None] * pixels + d[None, :]
        pixel = tl.load(x + x_at, mask=inside, other=0.0)
        logit = tl.dot(h, tl.trans(w), input_precision="tf32") + bias[None, :]
        e = tl.exp(-tl.abs(logit))
        log_p = pixel * logit - tl.maximum(logit, 0.0) - tl.log(1.0 + e)
        total += tl.sum(tl.where(inside, log_p, 0.0), 1)
        sigmoid = tl.where(logit >= 0, 1.0, e) / (1.0 + e)
        r = tl.where(inside, pixel - sigmoid, 0.0).to(h.dtype)
        residual_at = (run * n + row)[:, None] * pixels + d[None, :]
        tl.store(residual + residual_at, r, mask=inside)
        gradient += tl.dot(r, w, input_precision="tf32")
    tl.store(log_px_z + run * n + row, total, mask=is_row)
    tl.store(d_h2 + h_at, gradient.to(h.dtype), mask=is_h)


def fused_last_layer(
    x: Tensor, h2: Tensor, w3: Tensor, b3: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``likelihood.last_layer`` in one kernel; h2 and w3 float32 or bfloat16, sums in float32.

    Products of float32 are taken in TensorFloat-32: exact ones need more registers than there are.
    """
    runs, n, hidden = h2.shape
    _, batch, pixels = x.shape
    log_px_z = torch.empty(runs, n, device=x.device)
    residual = h2.new_empty(runs, n, pixels)
    d_h2 = h2.new_empty(runs, n, hidden)
    width = triton.next_power_of_2(hidden)
    rows = 64 if width * h2.element_size() <= 1024 else 32
    _last_layer_tile[triton.cdiv(n, rows), runs](
        x, h2.contiguous(), w3, b3, log_px_z, residual, d_h2, x.stride(0), w3.stride(0),
        b3.stride(0), n, batch, pixels, hidden,
        ROWS=rows, BLOCK=32, HIDDEN=max(width, 16), num_warps=8,
    )  # fmt: skip
    return log_px_z, residual, d_h2
