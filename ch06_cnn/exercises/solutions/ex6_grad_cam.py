"""Solution: one weight per feature map, ReLU at the end.

alpha_k tells how much the logit grows with the feature map k as a whole. A map with a negative weight is evidence
against the class, so it must be subtracted before the ReLU.
"""

from torch import Tensor


def heat_map(maps: Tensor, gradients: Tensor) -> Tensor:
    """(K, H, W) feature maps, (K, H, W) gradients -> (H, W) heat map"""
    alpha = gradients.mean((1, 2), keepdim=True)
    return (alpha * maps).sum(0).relu()
