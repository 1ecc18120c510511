"""Learning-rate schedules as functions of the step t = 0 ... T - 1."""

import math

from common.config import require


def step_decay(step: int, peak: float, *, every: int, factor: float = 0.1) -> float:
    """eta(t) = peak factor^floor(t / every), as torch's StepLR"""
    require(every >= 1, "`every` must be at least 1", every)
    return peak * factor ** (step // every)


def cosine(step: int, steps: int, peak: float, *, floor: float = 0.0) -> float:
    """eta(t) = floor + (peak - floor) (1 + cos(pi t / T)) / 2 (Loshchilov & Hutter 2017), as CosineAnnealingLR"""
    require(0 <= step <= steps, f"the step of a cosine schedule must be between 0 and {steps}", step)
    return _half_cosine(step / steps, peak, floor)


def warm_up(step: int, peak: float, *, steps: int) -> float:
    """eta(t) = peak min(1, (t + 1) / W), a linear warm-up over W steps (Goyal et al. 2017), as LinearLR"""
    require(steps >= 1, "a warm-up needs at least 1 step", steps)
    return peak * min(1.0, (step + 1) / steps)


def one_cycle(
    step: int, steps: int, peak: float, *, warm: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000
) -> float:
    """Half a cosine from `start` times the peak up to the peak, then half a cosine down to `end` times the peak.

    The peak is at t = warm T - 1 (Smith & Topin 2017); values and defaults are those of torch's OneCycleLR.
    """
    require(0 <= step < steps, f"the step of a one-cycle schedule must be between 0 and {steps - 1}", step)
    require(0 < warm < 1, "the fraction of warm-up steps must be between 0 and 1", warm)
    top = max(0.0, warm * steps - 1)  # with at most 1 / warm steps, the first step has the peak
    if step <= top:
        return _half_cosine(step / top if top else 1.0, start * peak, peak)
    return _half_cosine((step - top) / (steps - 1 - top), peak, end * peak)


def _half_cosine(fraction: float, first: float, last: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES = {
    "constant": lambda step, steps, peak: peak,  # noqa: ARG005
    "step": lambda step, steps, peak: step_decay(step, peak, every=max(1, steps // 3)),
    "cosine": cosine,
    "one-cycle": one_cycle,
    "warm-up": lambda step, steps, peak: warm_up(step, peak, steps=max(1, steps // 10)),
}
"""Schedules eta(t, T, peak) by name, as used by the classifier."""
