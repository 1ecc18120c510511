"""The output layer and its loss in one: logits come and go in chunks, gradients in closed form.

With 10,000 words the usual output layer writes N x V logits, their log-softmax and two gradients of the same size, each
a trip through memory. But the gradient of cross-entropy in the logits is known as soon as they are:

    z = W h + b,    loss = mean over n of (log sum_v exp(z_nv) - z_ny),    dz_nv = (softmax(z_n)_v - [v = y_n]) / N

So forward takes a chunk of the rows at a time, makes their logits, turns these into their own gradient where they lie,
multiplies it into dh, dW and db, and forgets it. Between the products it goes through the chunk a few rows at a time,
so that softmax, exponential and sum find them in the processor's cache. Backward has nothing left to do.

Dimensions: N tokens, H hidden units, V symbols.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

CHUNK_ELEMENTS = 2**23
"""About how many logits exist at once: 16 MiB of bfloat16. Each chunk adds to the whole of dW, so a few large ones."""

CACHE_ELEMENTS = 2**18
"""About how many go through softmax at once: 1 MiB of float32, which a core's cache holds."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, bf16: bool = False
) -> Tensor:
    """(N, H) hidden states, (V, H) W, (V,) b, (N,) targets -> mean cross-entropy in nats

    With bf16 the three matrix products are in bfloat16, everything between them in single precision.
    """
    rows, few = (max(1, elements // len(weight)) for elements in (CHUNK_ELEMENTS, CACHE_ELEMENTS))
    return LinearCrossEntropy.apply(hidden, weight, bias, targets, rows, few, bf16)  # pyright: ignore[reportReturnType]


class LinearCrossEntropy(Function):
    """The closed form above, in chunks of so many rows, and few of them at a time between the products."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int, few: int, bf16: bool
    ) -> Tensor:
        """(N, H) hidden states, (V, H) W, (V,) b, (N,) targets -> ()"""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        narrow = torch.bfloat16 if bf16 else wide
        h_all, W, b = hidden.to(narrow), weight.to(narrow), bias.to(narrow)
        learning = any(ctx.needs_input_grad)
        if learning:
            dW, db = (torch.zeros_like(part, dtype=wide) for part in (weight, bias))
            dh = torch.empty_like(h_all)
        total = hidden.new_zeros((), dtype=wide)
        for start in range(0, len(hidden), rows):
            h, y = h_all[start : start + rows], targets[start : start + rows].unsqueeze(1)
            z = F.linear(h, W, b)
            for z_few, y_few in zip(z.split(few), y.split(few), strict=True):
                log_p = z_few.log_softmax(1, dtype=wide)
                total -= log_p.gather(1, y_few).sum()
                if learning:
                    dz = log_p.exp_().scatter_add_(1, y_few, log_p.new_full(y_few.shape, -1))  # softmax(z) - [v = y]
                    db += dz.sum(0)
                    z_few.copy_(dz)
            if learning:
                torch.mm(z, W, out=dh[start : start + rows])
                dW += z.mT @ h
        if learning:
            ctx.save_for_backward(dh, dW, db)
            ctx.size, ctx.dtypes = len(hidden), (hidden.dtype, weight.dtype, bias.dtype)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """() gradient of the loss, 1 unless somebody scales it -> gradients in the inputs of forward"""
        share = gradient / ctx.size
        scaled = (d.to(dtype) * share for d, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return *scaled, None, None, None, None
