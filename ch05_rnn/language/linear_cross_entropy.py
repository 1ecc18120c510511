"""Fused output layer and cross-entropy: logits are computed in chunks, gradients in closed form.

A standard output layer with 10,000 words stores N x V logits, their log-softmax and two gradients of the same size. But
the gradient of the cross-entropy with respect to the logits has a closed form:

    z = W h + b,    loss = mean over n of (log sum_v exp(z_nv) - z_ny),    dz_nv = (softmax(z_n)_v - [v = y_n]) / N

The forward pass therefore computes the logits of one chunk of rows at a time, replaces them in place by their gradient,
adds its contribution to dh, dW and db, and reuses the memory. Softmax, exponential and sum run over a few rows at a
time, which fit into the processor's cache. The backward pass only scales the stored gradients.

Dimensions: N tokens, H hidden units, V vocabulary size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

CHUNK_ELEMENTS = 2**23
"""Approximate number of logits in memory: 16 MiB in bfloat16. Each chunk updates all of dW, so chunks are large."""

CACHE_ELEMENTS = 2**18
"""Approximate number of logits per softmax: 1 MiB in float32, which fits into the cache of a core."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, bf16: bool = False
) -> Tensor:
    """(N, H) hidden states, (V, H) W, (V,) b, (N,) targets -> mean cross-entropy in nats

    With bf16 the three matrix products are in bfloat16; softmax and sums are in float32.
    """
    rows, few = (max(1, elements // len(weight)) for elements in (CHUNK_ELEMENTS, CACHE_ELEMENTS))
    return LinearCrossEntropy.apply(hidden, weight, bias, targets, rows, few, bf16)  # pyright: ignore[reportReturnType]


class LinearCrossEntropy(Function):
    """The closed form above: `rows` per chunk for the matrix products, `few` rows at a time for the softmax."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int, few: int, bf16: bool
    ) -> Tensor:
        """(N, H) hidden states, (V, H) W, (V,) b, (N,) targets -> ()"""
        accumulation_dtype = torch.promote_types(hidden.dtype, torch.float32)
        product_dtype = torch.bfloat16 if bf16 else accumulation_dtype
        h_all, W, b = hidden.to(product_dtype), weight.to(product_dtype), bias.to(product_dtype)
        needs_gradient = any(ctx.needs_input_grad)
        if needs_gradient:
            dW, db = (torch.zeros_like(part, dtype=accumulation_dtype) for part in (weight, bias))
            dh = torch.empty_like(h_all)
        total = hidden.new_zeros((), dtype=accumulation_dtype)
        for start in range(0, len(hidden), rows):
            h, y = h_all[start : start + rows], targets[start : start + rows].unsqueeze(1)
            z = F.linear(h, W, b)
            for z_few, y_few in zip(z.split(few), y.split(few), strict=True):
                log_p = z_few.log_softmax(1, dtype=accumulation_dtype)
                total -= log_p.gather(1, y_few).sum()
                if needs_gradient:
                    dz = log_p.exp_().scatter_add_(1, y_few, log_p.new_full(y_few.shape, -1))  # softmax(z) - [v = y]
                    db += dz.sum(0)
                    z_few.copy_(dz)
            if needs_gradient:
                torch.mm(z, W, out=dh[start : start + rows])
                dW += z.mT @ h
        if needs_gradient:
            ctx.save_for_backward(dh, dW, db)
            ctx.size, ctx.dtypes = len(hidden), (hidden.dtype, weight.dtype, bias.dtype)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """() gradient of the loss -> gradients with respect to the inputs of forward"""
        share = gradient / ctx.size
        scaled = (d.to(dtype) * share for d, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return *scaled, None, None, None, None
