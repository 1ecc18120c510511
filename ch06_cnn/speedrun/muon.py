"""The Muon optimizer: momentum SGD with orthogonalised updates (Jordan et al. 2024).

The gradient of a convolution, written as a matrix with one row per filter, has a few large singular values; in other
directions the weights change very slowly. Muon sets all singular values of the update to about 1, so that the weights
change equally fast in all directions. `torch.optim.Muon` is the library's version for matrices.

Dimensions: R rows (filters), Q columns (weights per filter).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of a x + b x^3 + c x^5. Iterated, it maps (0, 1] to about 0.7 ... 1.2, and small x grow fastest."""


def orthogonalise(matrix: Tensor, iterations: int = 3) -> Tensor:
    """(R, Q) -> approximately U V^T, where U S V^T is the singular value decomposition of the matrix

    Newton-Schulz iteration: X <- a X + b (X X^T) X + c (X X^T)^2 X applies the polynomial above to every singular value
    and keeps the singular vectors. It uses matrix products only.
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)  # the Frobenius norm bounds the singular values
    if len(x) > x.shape[1]:
        return orthogonalise(matrix.T, iterations).T
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with an orthogonalised update, for filter banks of constant norm:

    m <- mu m + g,  W <- sqrt(R) W / |W| - eta orthogonalise(g + mu m)

    Batch normalisation after a convolution removes the scale of its filters, so their norm can be fixed; the learning
    rate then sets the angle of an update.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.6, *, bf16: bool = False) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "bf16": bf16})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(group["momentum"]).add_(weight.grad)
                direction = (weight.grad + group["momentum"] * momentum).flatten(1)
                if group["bf16"]:
                    direction = direction.bfloat16()
                update = orthogonalise(direction).view_as(weight)
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(update, alpha=-group["lr"])
