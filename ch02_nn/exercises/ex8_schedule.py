"""Learning-rate schedule: warm-up, then a cosine (10 minutes)

The learning rate of step t = 0, 1, ..., T - 1 rises linearly over the first W steps, from peak / W in step 0 to the
peak in step W - 1. Then it falls along half a cosine: it is the peak in step W, and would be 0 in step T.

    rises    peak (t + 1) / W
    falls    peak (1 + cos(pi s)) / 2    with a fraction s, which grows from 0 to 1

Check: python -m ch02_nn.exercises 8
"""


def warm_up_cosine(step: int, steps: int, warm_up: int, peak: float) -> float:
    """Step t, number of steps T, warm-up W with 0 <= W < T -> learning rate"""
    raise NotImplementedError
