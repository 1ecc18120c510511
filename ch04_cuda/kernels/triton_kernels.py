"""The operators in Triton: Python compiled for a GPU, one program per block of numbers or per row.

On a machine without a GPU, Triton's interpreter runs the programs one after the other, slowly. It is selected by
TRITON_INTERPRET=1 in the environment before Triton is imported.

Dimensions: B batch, K classes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ch04_cuda.kernels.contract import define

# Triton converts the block sizes into constants.
# pyright: reportArgumentType=false

BLOCK = 1_024
"""Numbers that one program of axpb computes."""


@triton.jit
def axpb_kernel(source, target, a, b, count, block: tl.constexpr):
    """Each program computes one block of a x + b."""
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < count
    x = tl.load(source + places, mask=inside)
    tl.store(target + places, a * x + b, mask=inside)


@triton.jit
def cross_entropy_kernel(logits, labels, losses, classes, block: tl.constexpr):
    """Each program computes the loss of one row; it loads all K logits at once."""
    row = tl.program_id(0)
    places = tl.arange(0, block)
    z = tl.load(logits + row * classes + places, mask=places < classes, other=-float("inf"))
    largest = tl.max(z, axis=0)
    partition = tl.sum(tl.exp(z - largest), axis=0)
    right = tl.load(logits + row * classes + tl.load(labels + row))
    tl.store(losses + row, tl.log(partition) + largest - right)


@triton.jit
def cross_entropy_backward_kernel(gradient, logits, labels, result, classes, block: tl.constexpr):
    """Each program computes one row of (softmax - onehot) times the row's gradient."""
    row = tl.program_id(0)
    places = tl.arange(0, block)
    inside = places < classes
    z = tl.load(logits + row * classes + places, mask=inside, other=-float("inf"))
    e = tl.exp(z - tl.max(z, axis=0))
    onehot = tl.where(places == tl.load(labels + row), 1.0, 0.0)
    value = (e / tl.sum(e, axis=0) - onehot) * tl.load(gradient + row)
    tl.store(result + row * classes + places, value, mask=inside)


def axpb(x: Tensor, a: float, b: float) -> Tensor:
    """A x + b"""
    x = x.contiguous()
    result = torch.empty_like(x)
    axpb_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, result, a, b, x.numel(), block=BLOCK)
    return result


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K), (B,) -> (B,) losses"""
    logits, (rows, classes) = logits.contiguous(), logits.shape
    losses = logits.new_empty(rows)
    cross_entropy_kernel[(rows,)](logits, labels.contiguous(), losses, classes, block=triton.next_power_of_2(classes))
    return losses


def cross_entropy_backward(gradient: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """(B,), (B, K), (B,) -> (B, K)"""
    logits, (rows, classes) = logits.contiguous(), logits.shape
    result = torch.empty_like(logits)
    cross_entropy_backward_kernel[(rows,)](
        gradient.contiguous(), logits, labels.contiguous(), result, classes, block=triton.next_power_of_2(classes)
    )
    return result


define("companion_triton", {f.__name__: f for f in (axpb, cross_entropy, cross_entropy_backward)})
