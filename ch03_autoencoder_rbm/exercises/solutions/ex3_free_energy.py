"""Solution: softplus.

The sum over h_j = 0 and 1 of e^(h_j x_j) is 1 + e^x_j, with x = b + v W. So F(v) = -a v - sum_j log(1 + e^x_j).
`F.softplus` computes log(1 + e^x) without overflow.
"""

from torch import Tensor
from torch.nn import functional as F


def free_energy(v: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(B, V) visible states, (V, H) weight, (V,) visible biases, (H,) hidden biases -> (B,) free energies"""
    return -v @ a - F.softplus(v @ weight + b).sum(1)
