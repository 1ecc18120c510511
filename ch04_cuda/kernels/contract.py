"""Custom PyTorch operators: schema, fake kernel that computes only shapes, and derivative.

There are two operators. The first is the example for extending a library in the Theano book:

    y = a x + b,    dL/dx = a dL/dy

The second is a fused softmax and cross-entropy, which does not store the probabilities for the backward pass:

    loss_i = log(sum_k exp z_ik) - z_iy,    dL/dz_ik = (exp z_ik / sum_j exp z_ij - [k = y_i]) dL/dloss_i

An implementation provides the kernels. The operators then work in eager mode, with autograd and in torch.compile, which
calls the fake kernel to get the shape and type of the result.

Dimensions: B batch, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

SCHEMAS = {
    "axpb": "(Tensor x, float a, float b) -> Tensor",
    "cross_entropy": "(Tensor logits, Tensor labels) -> Tensor",  # (B, K), (B,) int64 -> (B,)
    "cross_entropy_backward": "(Tensor gradient, Tensor logits, Tensor labels) -> Tensor",  # (B,) ... -> (B, K)
}


def define(namespace: str, kernels: Mapping[str, Callable[..., Tensor]]) -> None:
    """Define the operators with the given kernels, for all devices, as `torch.ops.<namespace>.axpb` and so on."""
    for name, schema in SCHEMAS.items():
        torch.library.define(f"{namespace}::{name}", schema)
        torch.library.impl(f"{namespace}::{name}", "default", kernels[name])
    complete(namespace)


def complete(namespace: str) -> None:
    """Register the fake kernels and derivatives of operators that have schemas and kernels."""
    torch.library.register_fake(f"{namespace}::axpb", lambda x, a, b: new(x, x.shape))  # noqa: ARG005
    torch.library.register_fake(f"{namespace}::cross_entropy", lambda logits, labels: new(logits, labels.shape))
    torch.library.register_fake(
        f"{namespace}::cross_entropy_backward",
        lambda gradient, logits, labels: new(logits, logits.shape),  # noqa: ARG005
    )
    operators = getattr(torch.ops, namespace)

    def keep_factor(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:  # noqa: ARG001
        ctx.a = inputs[1]

    def axpb_derivative(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return operators.axpb(gradient, ctx.a, 0.0), None, None

    def keep_inputs(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG001
        ctx.save_for_backward(*inputs)

    def cross_entropy_derivative(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return operators.cross_entropy_backward(gradient, *ctx.saved_tensors), None

    torch.library.register_autograd(f"{namespace}::axpb", axpb_derivative, setup_context=keep_factor)
    torch.library.register_autograd(f"{namespace}::cross_entropy", cross_entropy_derivative, setup_context=keep_inputs)


def new(like: Tensor, shape: torch.Size) -> Tensor:
    """Make an uninitialised contiguous tensor of the type and device of `like`, as the result of all kernels."""
    return like.new_empty(shape)
