"""Solution: two equations for overhead and time per image.

Every image costs its time once, and every step costs the overhead, also the last one with fewer images. `crossover
--estimate` uses this model.
"""

import math

Step = tuple[int, float]
"""Number of images, milliseconds."""


def epoch_milliseconds(small: Step, large: Step, images: int, batch: int) -> float:
    """Two measured steps, images of an epoch, images of a batch -> milliseconds"""
    per_image = (large[1] - small[1]) / (large[0] - small[0])
    overhead = small[1] - small[0] * per_image
    return math.ceil(images / batch) * overhead + images * per_image
