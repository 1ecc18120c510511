"""Find the bug: batch normalisation at evaluation (10 minutes)

Batch normalisation standardises each channel (here without gamma and beta, with epsilon = 1e-5). In training it uses
the mean and the variance of the batch, and moves the running statistics by a tenth towards them; the running variance
moves towards the unbiased estimate, with N - 1 in the denominator. At evaluation it uses the running statistics and
does not change them.

With the function below the prediction for an image depends on the other images of its batch, and a single image becomes
0. Why?

Check: python -m ch06_cnn.exercises 5
"""

# ruff: noqa: ARG001

from torch import Tensor


def batch_norm(x: Tensor, mean: Tensor, var: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(N, C) values, (C,) running mean, (C,) running variance -> (N, C) values, running mean, running variance"""
    # Find the bug, then delete this comment.
    batch_mean, batch_var = x.mean(0), x.var(0, correction=0)
    mean = 0.9 * mean + 0.1 * batch_mean
    var = 0.9 * var + 0.1 * batch_var * len(x) / (len(x) - 1)
    return (x - batch_mean) / (batch_var + 1e-5).sqrt(), mean, var
