"""The decoder's last layer as one Triton kernel, so that no logit leaves the chip. Needs triton, which comes with PyTorch for CUDA.

A program of the kernel keeps a tile of h2's rows, goes over the pixels in blocks, and for each block takes the logits, adds
to log p(x|z), writes the residual and adds its product with W3 to the gradient at h2.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _last_layer(
    x, h2, w3, b3, log_px_z, residual, d_h2, x_run, w3_run, b3_run, n, batch, pixels, hidden,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, HIDDEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    run = tl.program_id(1)
    row, unit = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, HIDDEN)
    is_row, is_unit = row < n, unit < hidden
    h = tl.load(h2 + (run * n + row)[:, None] * hidden + unit[None, :], mask=is_row[:, None] & is_unit[None, :], other=0.0)
    gradient = tl.zeros((ROWS, HIDDEN), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for first in range(0, pixels, BLOCK):
        d = first + tl.arange(0, BLOCK)
        is_pixel = d < pixels
        w = tl.load(w3 + run * w3_run + d[:, None] * hidden + unit[None, :], mask=is_pixel[:, None] & is_unit[None, :], other=0.0)
        bias = tl.load(b3 + run * b3_run + d, mask=is_pixel, other=0.0)
        inside = is_row[:, None] & is_pixel[None, :]
        pixel = tl.load(x + run * x_run + (row % batch)[:, None] * pixels + d[None, :], mask=inside, other=0.0)
        logit = tl.dot(h, tl.trans(w), input_precision=PRECISION) + bias[None, :]
        e = tl.exp(-tl.abs(logit))
        total += tl.sum(tl.where(inside, pixel * logit - tl.maximum(logit, 0.0) - tl.log(1.0 + e), 0.0), 1)
        r = tl.where(inside, pixel - tl.where(logit >= 0, 1.0, e) / (1.0 + e), 0.0).to(h.dtype)
        tl.store(residual + (run * n + row)[:, None] * pixels + d[None, :], r, mask=inside)
        gradient += tl.dot(r, w, input_precision=PRECISION)
    tl.store(log_px_z + run * n + row, total, mask=is_row)
    tl.store(d_h2 + (run * n + row)[:, None] * hidden + unit[None, :], gradient.to(h.dtype), mask=is_row[:, None] & is_unit[None, :])


def last_layer(x: Tensor, h2: Tensor, w3: Tensor, b3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``likelihood.last_layer`` in one kernel; h2 and w3 float32 or bfloat16, sums in float32."""
    (runs, n, hidden), (_, batch, pixels) = h2.shape, x.shape
    log_px_z = torch.empty(runs, n, device=x.device)
    residual, d_h2 = h2.new_empty(runs, n, pixels), h2.new_empty(runs, n, hidden)
    width = triton.next_power_of_2(hidden)
    rows = 64 if width * h2.element_size() <= 1024 else 32
    precision = "tf32" if torch.get_float32_matmul_precision() == "high" else "ieee"
    _last_layer[triton.cdiv(n, rows), runs](
        x, h2.contiguous(), w3, b3, log_px_z, residual, d_h2, x.stride(0), w3.stride(0), b3.stride(0), n, batch, pixels, hidden,
        ROWS=rows, BLOCK=32, HIDDEN=max(width, 16), PRECISION=precision, num_warps=8,
    )  # fmt: skip
    return log_px_z, residual, d_h2
