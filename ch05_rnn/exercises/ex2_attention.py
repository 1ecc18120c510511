"""Find the bug: attention with a mask (10 minutes)

A query q_t attends to those keys k_s for which the mask is True. Its output is a weighted mean of their values,

    y_t = sum_s alpha_ts v_s    with alpha_ts proportional to exp(q_t k_s / sqrt(D)),

and the weights of the attended keys add up to 1. With the function below the last position of a causal network gets the
right output, the other positions do not. Why?

Check: python -m ch05_rnn.exercises 2
"""

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """(T, D) queries, (S, D) keys, (S, D) values, (T, S) mask with a True in each row -> (T, D) outputs"""
    # Find the bug, then delete this comment.
    scores = q @ k.mT / math.sqrt(q.shape[1])
    weights = torch.softmax(scores, dim=1) * mask
    return weights @ v
