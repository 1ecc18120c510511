"""Estimate the time of an epoch (10 minutes)

The time of a training step with B images is modelled as an overhead plus B times the time per image. Two measured steps
determine both: `small` and `large` are pairs (number of images, milliseconds).

Return the estimated milliseconds of an epoch over `images` images in batches of `batch`. The last batch has the images
that are left.

Check: python -m ch04_cuda.exercises 7
"""

Step = tuple[int, float]
"""Number of images, milliseconds."""


def epoch_milliseconds(small: Step, large: Step, images: int, batch: int) -> float:
    """Two measured steps, images of an epoch, images of a batch -> milliseconds"""
    raise NotImplementedError
