"""Clip gradients by their global norm (10 minutes)

Exploding gradients are clipped: if the norm of all gradients together, as one long vector g, exceeds c, it is scaled to
c,

    g <- g min(1, c / |g|).

So the direction of the step remains the same. Return new tensors; do not change the arguments.

Check: python -m ch05_rnn.exercises 4
"""

from torch import Tensor


def clip(gradients: list[Tensor], c: float) -> list[Tensor]:
    """Gradients of any shapes, not all 0, and the largest norm -> gradients with a global norm of at most c"""
    raise NotImplementedError
