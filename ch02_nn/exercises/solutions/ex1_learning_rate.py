"""Solution: 1 / (2 mean(x^2)).

dL/dW = 2/N sum_i x_i (W x_i - y_i) = 2 mean(x^2) (W - W*), with the optimal weight W*. A step multiplies W - W* by
r = 1 - 2 eta mean(x^2). With twice the learning rate r is -1: the weight oscillates forever. In general r is
1 - eta times the second derivative of the loss.
"""

from torch import Tensor


def best_learning_rate(x: Tensor) -> float:
    """(N,) inputs, not all 0 -> learning rate eta with r = 0"""
    return 1 / (2 * float(x.square().mean()))
