"""Solution: each token counts the same.

A mean of the means of sentences gives a token of a short sentence a larger weight than one of a long sentence. The sums
over the whole batch must be divided once.
"""

from torch import Tensor


def perplexity(losses: Tensor, mask: Tensor) -> float:
    """(B, T) losses, (B, T) mask with a True in each row -> perplexity"""
    return float(losses[mask].mean().exp())
