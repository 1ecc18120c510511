"""Spectral normalisation: divide a weight matrix by its largest singular value (Miyato et al. 2018).

    W_SN = W / sigma(W),   sigma(W) = max |W v| over all v with |v| = 1

The power iteration approximates sigma(W) with two vectors that are kept between steps,

    u <- W v / |W v|,   v <- W^T u / |W^T u|,   sigma(W) = u^T W v,

so that one iteration per forward pass is enough: the weights change slowly. A linear map with W_SN never increases
distances by more than a factor of 1. Gradients flow through W, with u and v as constants.

Dimensions: R rows, C columns. The kernel of a convolution is a matrix with one row per output channel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

FIRST_ITERATIONS = 15
"""Number of power iterations for the initial weights."""


class SpectralNorm(nn.Module):
    """The map from a weight W to W / sigma(W), with one power iteration per call in training mode."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.u: Tensor
        self.v: Tensor
        self.register_buffer("u", matrix.new_zeros(len(matrix)))
        self.register_buffer("v", F.normalize(torch.randn(matrix.shape[1]).to(matrix), dim=0))
        for _ in range(FIRST_ITERATIONS):
            self.iterate(matrix)

    @torch.no_grad()
    def iterate(self, matrix: Tensor) -> None:
        """Update u and v by one power iteration on a (R, C) matrix."""
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))
        self.v.copy_(F.normalize(matrix.mT @ self.u, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """(R, ...) weight -> (R, ...) weight / sigma"""
        matrix = weight.flatten(1)
        if self.training:
            self.iterate(matrix.detach())
        u, v = self.u.clone(), self.v.clone()  # the next iteration must not change what backward needs
        return weight / torch.dot(u, torch.mv(matrix, v))


def normalise_layers(network: nn.Module) -> None:
    """Apply spectral normalisation to the weights of all linear layers and convolutions of a network.

    The layer's parameter is then `parametrizations.weight.original`, and `layer.weight` is computed from it.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            parametrize.register_parametrization(module, "weight", SpectralNorm(module.weight))
