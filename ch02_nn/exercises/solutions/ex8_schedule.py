"""Solution: s = (t - W) / (T - W).

The cosine takes the T - W steps after the warm-up. With s = t / T the learning rate would jump down after the warm-up.
With a warm-up that starts at 0, the first step would change nothing.
"""

import math


def warm_up_cosine(step: int, steps: int, warm_up: int, peak: float) -> float:
    """Step t, number of steps T, warm-up W with 0 <= W < T -> learning rate"""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
