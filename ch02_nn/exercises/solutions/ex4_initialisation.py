"""Solution: sqrt(2 / (I (1 + a^2))).

Half of the z are positive and keep their square; the squares of the others are multiplied by a^2. So the mean square is
multiplied by I v (1 + a^2) / 2, which is 1 for v = 2 / (I (1 + a^2)). The number of outputs matters only in the
backward pass.
"""

import math


def weight_deviation(inputs: int, outputs: int, slope: float) -> float:  # noqa: ARG001  # outputs: see above
    """I inputs, O outputs, slope a of the leaky ReLU below 0 -> standard deviation of the weights"""
    return math.sqrt(2 / (inputs * (1 + slope**2)))
