"""Reconstruct images from principal components (20 minutes)

Principal component analysis (PCA) is the linear code with the smallest squared error. Its directions are the
eigenvectors of the covariance matrix of the pixels with the k largest eigenvalues: an image is described by its
coordinates along them, relative to the mean image. The first k right singular vectors of the centred images
(`torch.linalg.svd`) are the same directions.

Return the reconstructions of all images from k components.

Check: python -m ch03_autoencoder_rbm.exercises 2
"""

from torch import Tensor


def reconstruct(x: Tensor, k: int) -> Tensor:
    """(N, P) images, 1 <= k <= P -> (N, P) reconstructions"""
    raise NotImplementedError
