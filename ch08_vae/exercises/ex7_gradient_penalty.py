"""Gradient penalty of a critic (10 minutes)

A critic with one hidden layer of ReLUs maps a point y to the score

    D(y) = a . max(W y, 0).

The gradient penalty of WGAN-GP (Gulrajani et al. 2017) is the mean over the batch of

    (|grad D(y)| - 1)^2,

where grad D(y) is the gradient with respect to the point. Compute the gradient of each point by hand, with a slope of 0
for a ReLU whose input is 0, and return the penalty.

Check: python -m ch08_vae.exercises 7
"""

from torch import Tensor


def gradient_penalty(y: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """(B, D) points, (H, D) weights, (H,) weights of the output -> () penalty, without autograd"""
    raise NotImplementedError
