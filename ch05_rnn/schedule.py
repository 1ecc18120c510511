"""One cycle of step sizes, by the share of the training that is over: by the clock or by the steps."""

import math

import torch

WARM_UP = 0.04
"""Share of the training in which the step size grows."""


def one_cycle(progress: float, peak: float) -> float:
    """Step size at a progress from 0 to 1: a straight line up to the peak, then half a cosine down to zero.

    eta(p) = peak p / w for p < w, else peak (1 + cos(pi (p - w) / (1 - w))) / 2, with w = 0.04.
    """
    if progress < WARM_UP:
        return peak * progress / WARM_UP
    return peak * (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP)))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Let the next steps be of that size."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
