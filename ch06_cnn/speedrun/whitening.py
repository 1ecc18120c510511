"""Whitening: filters of the first layer computed from image patches before training.

Neighbouring pixels are strongly correlated. Their differences have a small variance, and gradient descent is slow in
directions of small variance. The filters of the first layer are therefore the principal components of small patches,
each scaled so that the mean square of its response is 1.

Dimensions: N images, C channels, H height, W width, K patch size, P values per patch (C K K).
"""

import torch
from torch import Tensor


def whitening_filters(images: Tensor, size: int = 2, damping: float = 5e-4) -> Tensor:
    """(N, C, H, W) -> (2 P, C, K, K) filters that whiten K x K patches, and their negatives

    With S = U diag(lambda) U^T the second moments of the patches, the filters are the rows of
    (diag(lambda) + damping)^(-1/2) U^T. Their responses are uncorrelated, with a mean square of 1 up to the damping
    (Page 2018; Jordan 2024). The negated filters keep both signs after a rectifier.
    """
    channels = images.shape[1]
    patches = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, H - K + 1, W - K + 1, K, K)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * size * size)
    moments = patches.T @ patches / len(patches)
    eigenvalues, eigenvectors = torch.linalg.eigh(moments)
    filters = (eigenvectors / (eigenvalues + damping).sqrt()).T.flip(0)  # in order of decreasing variance
    filters = filters.reshape(-1, channels, size, size)
    return torch.cat([filters, -filters])
