"""Solution: one flattened window per column.

`flatten` goes through channels, rows and columns in this order, which is the order of the weights. The matrix has about
K^2 times as many elements as the image for stride 1: im2col trades memory for one large matrix product.
"""

import torch
from torch import Tensor


def im2col(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(C, H, W) image, kernel size K, stride -> (C K K, L) elements of L windows"""
    _, height, width = x.shape
    windows = [
        x[:, r : r + kernel, c : c + kernel].flatten()
        for r in range(0, height - kernel + 1, stride)
        for c in range(0, width - kernel + 1, stride)
    ]
    return torch.stack(windows, 1)
