"""Prioritised replay: importance-sampling weights (10 minutes)

Prioritised replay samples a transition i of N with a probability that grows with its TD error (Schaul et al. 2016):

    P_i = |delta_i|^alpha / sum_j |delta_j|^alpha.

Frequent transitions would count too much in the mean of the loss. So each loss is multiplied by a weight

    w_i = (N P_i)^-beta / max_j (N P_j)^-beta.

Return P and w.

Check: python -m ch07_dqn.exercises 6
"""

from torch import Tensor


def prioritise(delta: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """(N,) TD errors, none of them 0 -> (N,) probabilities, (N,) weights"""
    raise NotImplementedError
