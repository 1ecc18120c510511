"""Weight normalisation: the length and the direction of each unit's weights are separate parameters.

    w = g v / ||v||,    y = w . x + b = g (v . x) / ||v|| + b

Source: Salimans & Kingma (2016), Weight Normalization, equation 2 and section 3 (data-dependent initialisation).

Dimensions: B batch, I inputs, U units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightNormLinear(nn.Module):
    """Linear layer with normalised weights. The lengths g are trained only if `train_length`."""

    def __init__(self, inputs: int, units: int, *, train_length: bool = True) -> None:
        super().__init__()
        self.v = nn.Parameter(0.1 * torch.randn(units, inputs))
        self.g = nn.Parameter(torch.ones(units), requires_grad=train_length)
        self.b = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, U); the outputs are divided by ||v||, which takes less time than dividing the weights"""
        projected = F.linear(x, self.v)
        scale = self.g / self.v.norm(dim=1)
        return torch.addcmul(self.b.to(projected.dtype), projected, scale.to(projected.dtype))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Set g and b so that on a batch (B, I) each output has mean 0 and variance 1; return these (B, U) outputs."""
        self.g.fill_(1)
        self.b.zero_()
        outputs = self(x)
        mean, deviation = outputs.mean(0), outputs.std(0, correction=0)
        self.g.copy_(1 / deviation)
        self.b.copy_(-mean / deviation)
        return self(x)
