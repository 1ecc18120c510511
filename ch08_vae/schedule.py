"""What changes in the course of a training: the size of its steps, and how much the KL term counts."""

import math

import torch

WARM_UP = 0.1
"""Share of the training in which the step size grows."""


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Step size of step t = 0 ... T - 1: a straight line up to the peak, then half a cosine to zero (Smith 2018)"""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Let the next steps be of that size."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def warmed_up(step: int, steps: int, share: float) -> float:
    """How much the KL term counts in step t = 0 ... T - 1: a straight line up to 1 (Sønderby et al. 2016, section 2.3).

    A unit that says little at first costs more than it is worth, and would be given up before it has learned to speak.
    """
    return min(1.0, (step + 1) / (share * steps)) if share > 0 else 1.0
