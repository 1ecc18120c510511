"""Learning-rate schedules over training steps or over a time budget.

One cycle: a linear warm-up to the peak, then half a cosine down to zero (Smith & Topin 2017). Chapter 2 explains these
and others (`ch02_nn/schedules.py`); the other chapters use the functions of this module.
"""

import math

import torch

from common import distributed


def one_cycle(step: int, steps: int, peak: float, *, warm_up: float = 0.3) -> float:
    """Return the learning rate of step t = 0 ... T - 1.

    eta(t) = peak (t + 1) / W for t < W, else peak (1 + cos(pi (t - W) / (T - W))) / 2, with W = `warm_up` T.
    """
    warm = max(1, round(warm_up * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def one_cycle_at(progress: float, peak: float, *, warm_up: float = 0.04) -> float:
    """Return the learning rate at the fraction p of the training, 0 to 1, for training with a time budget.

    eta(p) = peak p / w for p < w, else peak (1 + cos(pi (p - w) / (1 - w))) / 2, with w = `warm_up`.
    """
    if progress < warm_up:
        return peak * progress / warm_up
    return peak * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up)))) / 2


def linear_at(progress: float, peak: float) -> float:
    """Return the learning rate at a fraction of the training, 0 to 1: linear decay from the peak to zero."""
    return peak * max(0.0, 1 - progress)


def trapezoid_at(progress: float, peak: float, *, warm_up: float = 0.05, decay: float = 0.6) -> float:
    """Learning rate at a share p of the training, 0 to 1: warm-up, constant, then a straight line to zero.

    eta(p) = peak min(1, p / w, (1 - p) / d), with w = `warm_up` and d = `decay`.
    """
    return peak * max(0.0, min(1.0, progress / warm_up, (1 - progress) / decay))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def progress(step: int, steps: int | None, seconds: float, budget: float) -> float:
    """Return the completed fraction of the training: of the steps or, if `steps` is None, of the budget of seconds.

    Under torchrun the clock of the main process is used, so that every process has the same learning rate.
    """
    return step / steps if steps is not None else distributed.from_main(seconds) / budget


def out_of_time(epochs: int | None, seconds: float, budget: float) -> bool:
    """Return whether training without a number of epochs has used its seconds, by the clock of the main process."""
    return epochs is None and distributed.from_main(seconds) >= budget
