"""Find the bug: dropout (10 minutes)

Dropout with probability p sets each unit to 0 with probability p during training, and divides the others by 1 - p, so
that the expected value stays the same. In evaluation it changes nothing. Here u has uniform random numbers between 0
and 1: the unit x_i is set to 0 if u_i < p.

The function below passes a test of the expected value for every p, and with p = 0.5 it is right. With p = 0.1 it is not
dropout with probability 0.1. Why?

Check: python -m ch02_nn.exercises 5
"""

from torch import Tensor


def dropout(x: Tensor, u: Tensor, p: float, training: bool) -> Tensor:
    """(N,) units, (N,) uniform random numbers, probability of 0 -> (N,) units after dropout"""
    # Find the bug, then delete this comment.
    if not training:
        return x
    keep = u < p
    return x * keep / p
