"""The output layer and its loss in one: logits come and go in chunks, gradients in closed form.

With 10,000 words the usual output layer writes N x V logits, their log-softmax and two gradients of the same size, each
a trip through memory. But the gradient of cross-entropy in the logits is known as soon as they are:

    z = W h + b,    loss = mean over n of (log sum_v exp(z_nv) - z_ny),    dz_nv = (softmax(z_n)_v - [v = y_n]) / N

So forward takes some rows at a time, makes their logits, turns these into their own gradient where they lie, multiplies
it into dh, dW and db, and forgets it. Backward has nothing left to do.

Dimensions: N tokens, H hidden units, V symbols.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

CHUNK_ELEMENTS = 2**22
"""About how many logits exist at once: 16 MiB of float32. Fewer leave the processor's caches less often, but each chunk
adds to the whole of dW."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, bf16: bool = False
) -> Tensor:
    """(N, H) hidden states, (V, H) W, (V,) b, (N,) targets -> mean cross-entropy in nats

    With bf16 the three matrix products are in bfloat16, everything between them in single precision.
    """
    rows = max(1, CHUNK_ELEMENTS // len(weight))
    return LinearCrossEntropy.apply(hidden, weight, bias, targets, rows, bf16)  # pyright: ignore[reportReturnType]


class LinearCrossEntropy(Function):
    """The closed form above, so many rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int, bf16: bool
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
            p = z.softmax(1, dtype=wide)
            # log sum exp(z), from the largest z and its p = exp(z) / sum exp(z), which a logarithm can take
            log_sum = z.amax(1, keepdim=True).to(wide) - p.amax(1, keepdim=True).log()
            total += (log_sum - z.gather(1, y)).sum()
            if learning:
                dz = p.scatter_add_(1, y, p.new_full(y.shape, -1))  # softmax(z) - [v = y]
                db += dz.sum(0)
                dz = dz.to(narrow)
                torch.mm(dz, W, out=dh[start : start + rows])
                dW += dz.T @ h
        if learning:
            ctx.save_for_backward(dh, dW, db)
            ctx.size, ctx.dtypes = len(hidden), (hidden.dtype, weight.dtype, bias.dtype)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """() gradient of the loss, 1 unless somebody scales it -> gradients in the inputs of forward"""
        share = gradient / ctx.size
        scaled = (d.to(dtype) * share for d, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return *scaled, None, None, None
