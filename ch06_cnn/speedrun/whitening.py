"""Whitening: first-layer filters that are known before the training begins.

Neighbouring pixels say almost the same. Their differences carry the news, but they are small, and gradient descent
learns small directions last. So the first layer's filters are not learned but computed: the principal directions of
small patches, each scaled so that the mean square of its response is one.

Dimensions: N images, C channels, H height, W width, K patch size, P numbers in a patch (C K K).
"""

import torch
from torch import Tensor


def whitening_filters(images: Tensor, size: int = 2, damping: float = 5e-4) -> Tensor:
    """(N, C, H, W) -> (2 P, C, K, K) filters that whiten K x K patches, and their negatives

    With the second moments of the patches about zero S = U diag(lambda) U^T, the filters are the rows of
    (diag(lambda) + damping)^(-1/2) U^T: the mean product of two filters' responses is zero and, but for the damping,
    the mean square of one's is one (Page 2018; Jordan 2024). The negatives let a rectifier keep both signs.
    """
    channels = images.shape[1]
    patches = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, H - K + 1, W - K + 1, K, K)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * size * size)
    moments = patches.T @ patches / len(patches)
    eigenvalues, eigenvectors = torch.linalg.eigh(moments)
    filters = (eigenvectors / (eigenvalues + damping).sqrt()).T.flip(0)  # the largest direction first
    filters = filters.reshape(-1, channels, size, size)
    return torch.cat([filters, -filters])
