"""Top-p sampling (15 minutes)

Top-p sampling (Holtzman et al. 2020) samples only from the smallest set of tokens with a total probability of at least
`top_p`. The set contains the most probable tokens; of equally probable ones those with smaller indices come first. Set
the probabilities of all other tokens to 0, and divide the rest by their sum.

Check: python -m ch05_rnn.exercises 6
"""

from torch import Tensor


def nucleus(p: Tensor, top_p: float) -> Tensor:
    """(V,) probabilities, 0 < top_p <= 1 -> (V,) probabilities"""
    raise NotImplementedError
