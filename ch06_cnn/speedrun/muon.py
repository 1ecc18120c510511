"""The Muon optimizer: momentum SGD with orthogonalised updates (Jordan et al. 2024).

The gradient of a convolution, as a matrix with one row per filter, has a few large singular values; in the other
directions the weights change very slowly. Muon raises the small singular values towards 1, so that the weights change
at more equal rates in all directions. `torch.optim.Muon` is the library's version for matrices.

Dimensions: R rows (filters), Q columns (weights per filter).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

ITERATIONS = 3
"""Newton-Schulz iterations per update. Each multiplies small singular values by 3.4 and takes three matrix products.
`spectrum` measures the singular values of the momentum after the iterations; the README has those of the speed run."""

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of a x + b x^3 + c x^5. Iterated, it maps (0, 1] to about 0.7 ... 1.2; small x grow fastest."""


def orthogonalise(matrix: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """(R, Q) -> an approximation of U V^T, where U S V^T is the singular value decomposition of the matrix

    Newton-Schulz iteration: X <- a X + b (X X^T) X + c (X X^T)^2 X applies this polynomial to every singular value
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

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.6,
        *,
        iterations: int = ITERATIONS,
        bf16: bool = False,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "iterations": iterations, "bf16": bf16})

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
                update = orthogonalise(direction, group["iterations"]).view_as(weight)
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(update, alpha=-group["lr"])

    @torch.no_grad()
    def spectrum(self, iterations: int) -> Tensor:
        """Return the singular values of all momentum matrices after the given number of iterations (exact: 1)."""
        matrices = [state["momentum"].flatten(1).float() for state in self.state.values()]
        return torch.cat([torch.linalg.svdvals(orthogonalise(matrix, iterations)) for matrix in matrices])
