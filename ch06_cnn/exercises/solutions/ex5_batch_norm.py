"""Solution: running statistics at evaluation.

The function ignored `training`. A batch of one image is its own mean, so the image became 0; in a larger batch each
image changed the statistics of the others. `model.eval()` sets the flag in PyTorch.
"""

from torch import Tensor


def batch_norm(x: Tensor, mean: Tensor, var: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(N, C) values, (C,) running mean, (C,) running variance -> (N, C) values, running mean, running variance"""
    if not training:
        return (x - mean) / (var + 1e-5).sqrt(), mean, var
    batch_mean, batch_var = x.mean(0), x.var(0, correction=0)
    mean = 0.9 * mean + 0.1 * batch_mean
    var = 0.9 * var + 0.1 * batch_var * len(x) / (len(x) - 1)
    return (x - batch_mean) / (batch_var + 1e-5).sqrt(), mean, var
