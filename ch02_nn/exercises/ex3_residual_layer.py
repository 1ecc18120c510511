"""Backpropagation through a residual layer (20 minutes)

A residual layer adds its input to its output (He et al. 2016):

    z = x W^T + b,    h = x + relu(z).

Let d = dL/dh. Return dL/dW, dL/db and dL/dx, with one row per sample in x, z, h and d. The derivative of ReLU is 1
where z > 0, else 0.

Check: python -m ch02_nn.exercises 3
"""

from torch import Tensor


def residual_backward(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, I) input, (I, I) weight, (I,) bias, (B, I) gradient of h -> gradients of weight, bias and x

    Do not use autograd.
    """
    raise NotImplementedError
