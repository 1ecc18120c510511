"""Gradient of negative sampling (15 minutes)

word2vec (Mikolov et al. 2013) trains the vector v of a word to be similar to the output vector u of a word near it, and
not to the output vectors n_1, ..., n_K of K random words:

    L = -log s(u v) - sum_k log s(-n_k v)    with the sigmoid s.

Return the gradients with respect to v, u and the n_k.

Check: python -m ch05_rnn.exercises 8
"""

from torch import Tensor


def gradients(v: Tensor, u: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(D,) vector, (D,) output vector, (K, D) output vectors of random words -> their gradients, without autograd"""
    raise NotImplementedError
