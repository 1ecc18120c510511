"""Fréchet distance of two Gaussians (10 minutes)

The Fréchet distance compares the features of real images, with mean mu_a and covariance S_a, with those of generated
images:

    d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

If the features are independent, the covariances are diagonal matrices. Compute d^2 for this case from the vectors of
the variances, without matrices.

Check: python -m ch08_vae.exercises 6
"""

from torch import Tensor


def frechet_distance(mean_a: Tensor, variance_a: Tensor, mean_b: Tensor, variance_b: Tensor) -> Tensor:
    """(D,) mean and (D,) variances of the real features, the same of the generated ones -> () d^2"""
    raise NotImplementedError
