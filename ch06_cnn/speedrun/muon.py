"""Muon: momentum whose steps are made orthogonal (Jordan et al. 2024).

A convolution's gradient, written as a matrix with a row a filter, is dominated by a few directions; most others hardly
move. Muon sets every singular value of the step to about one, so that all directions learn at the same pace.

Dimensions: R rows (filters), Q columns (numbers in a filter).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of a x + b x^3 + c x^5, which, applied again and again, takes 0 ... 1 to about 0.7 ... 1.2, small x fastest."""


def orthogonalise(matrix: Tensor, iterations: int = 3) -> Tensor:
    """(R, Q) -> about U V^T, where U S V^T is the matrix's singular value decomposition

    A Newton-Schulz iteration: X <- a X + b (X X^T) X + c (X X^T)^2 X moves each singular value by the polynomial above
    and leaves the singular vectors as they are. It needs matrix products alone.
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)  # no singular value is above the Frobenius norm
    if len(x) > x.shape[1]:
        return orthogonalise(matrix.T, iterations).T
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose step for each filter bank is orthogonal, and whose filters keep their norm.

    m <- mu m + g,  W <- sqrt(R) W / |W| - eta orthogonalise(g + mu m). Batch-norm behind a convolution makes the
    filters' length meaningless; kept constant, the step size is an angle.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.6, *, bf16: bool = False) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "bf16": bf16})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every parameter by its orthogonal step."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(group["momentum"]).add_(weight.grad)
                direction = (weight.grad + group["momentum"] * momentum).flatten(1)
                if group["bf16"]:
                    direction = direction.bfloat16()
                step = orthogonalise(direction).view_as(weight)
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(step, alpha=-group["lr"])
