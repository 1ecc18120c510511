"""Solution: subtract the mean, project, add the mean.

The rows of `directions` are orthonormal, so the coordinates are products with them, and the reconstruction is the sum
of the directions times the coordinates.
"""

import torch
from torch import Tensor


def reconstruct(x: Tensor, k: int) -> Tensor:
    """(N, P) images, 1 <= k <= P -> (N, P) reconstructions"""
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh[:k]
    return mean + (x - mean) @ directions.mT @ directions
