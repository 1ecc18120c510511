"""One cycle of step sizes: small while the weights are random, large in the middle, nothing at the end."""

import math

import torch

WARM_UP = 0.3
"""Share of the training in which the step size grows."""


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Step size of step t = 0 ... T - 1: a straight line up to the peak, then half a cosine down to zero.

    eta(t) = peak (t + 1) / W for t < W, else peak (1 + cos(pi (t - W) / (T - W))) / 2, with W = 0.3 T (Smith 2018).
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Let the next steps be of that size."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
