"""Probabilities of an epsilon-greedy policy (5 minutes)

With probability epsilon an epsilon-greedy policy samples an action uniformly from all A actions, otherwise it takes the
greedy action, the first one with the largest Q-value. Return the probability of each action.

Check: python -m ch07_dqn.exercises 3
"""

from torch import Tensor


def epsilon_greedy(q: Tensor, epsilon: float) -> Tensor:
    """(A,) Q-values -> (A,) probabilities"""
    raise NotImplementedError
