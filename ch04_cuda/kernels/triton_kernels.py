"""The operators in Triton: Python compiled for a GPU, with one program per block of numbers or per row.

Without a GPU, Triton's interpreter runs the programs one after another, slowly. To use it, set TRITON_INTERPRET=1 in
the environment before Triton is imported.

Dimensions: B batch, K classes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ch04_cuda.kernels.contract import define

# Triton converts the block sizes to constants.
# pyright: reportArgumentType=false

BLOCK = 1_024
"""Number of elements per program of axpb."""


@triton.jit
def axpb_kernel(source, target, a, b, count, block: tl.constexpr):
    """Compute one block of a x + b per program."""
    offsets = tl.program_id(0) * block + tl.arange(0, block)
    mask = offsets < count
    x = tl.load(source + offsets, mask=mask)
    tl.store(target + offsets, a * x + b, mask=mask)


@triton.jit
def cross_entropy_kernel(logits, labels, losses, classes, block: tl.constexpr):
    """Compute the loss of one row per program, which loads all K logits at once."""
    row = tl.program_id(0)
    offsets = tl.arange(0, block)
    z = tl.load(logits + row * classes + offsets, mask=offsets < classes, other=-float("inf"))
    largest = tl.max(z, axis=0)
    partition = tl.sum(tl.exp(z - largest), axis=0)
    label_logit = tl.load(logits + row * classes + tl.load(labels + row))
    tl.store(losses + row, tl.log(partition) + largest - label_logit)


@triton.jit
def cross_entropy_backward_kernel(gradient, logits, labels, result, classes, block: tl.constexpr):
    """Compute one row of (softmax - onehot), times the gradient of its loss, per program."""
    row = tl.program_id(0)
    offsets = tl.arange(0, block)
    mask = offsets < classes
    z = tl.load(logits + row * classes + offsets, mask=mask, other=-float("inf"))
    e = tl.exp(z - tl.max(z, axis=0))
    onehot = tl.where(offsets == tl.load(labels + row), 1.0, 0.0)
    value = (e / tl.sum(e, axis=0) - onehot) * tl.load(gradient + row)
    tl.store(result + row * classes + offsets, value, mask=mask)


def axpb(x: Tensor, a: float, b: float) -> Tensor:
    """Compute a x + b."""
    x = x.contiguous()
    result = torch.empty_like(x)
    axpb_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, result, a, b, x.numel(), block=BLOCK)
    return result


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K) logits, (B,) labels -> (B,) losses"""
    logits, (rows, classes) = logits.contiguous(), logits.shape
    losses = logits.new_empty(rows)
    cross_entropy_kernel[(rows,)](logits, labels.contiguous(), losses, classes, block=triton.next_power_of_2(classes))
    return losses


def cross_entropy_backward(gradient: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) gradient of the losses, (B, K) logits, (B,) labels -> (B, K) gradient of the logits"""
    logits, (rows, classes) = logits.contiguous(), logits.shape
    result = torch.empty_like(logits)
    cross_entropy_backward_kernel[(rows,)](
        gradient.contiguous(), logits, labels.contiguous(), result, classes, block=triton.next_power_of_2(classes)
    )
    return result


define("companion_triton", {f.__name__: f for f in (axpb, cross_entropy, cross_entropy_backward)})
