"""Grad-CAM heat map (10 minutes)

Grad-CAM shows where an image has evidence for a class. From the feature maps A_k of the last convolution and the
gradient g of the class's logit with respect to them, it computes

    alpha_k = mean of g_k(r, s) over all positions (r, s)
    map(r, s) = max(0, sum over k of alpha_k A_k(r, s)).

Return the heat map.

Check: python -m ch06_cnn.exercises 6
"""

from torch import Tensor


def heat_map(maps: Tensor, gradients: Tensor) -> Tensor:
    """(K, H, W) feature maps, (K, H, W) gradients -> (H, W) heat map"""
    raise NotImplementedError
