"""Gradient of the actor's loss (20 minutes)

The actor has logits z, p = softmax(z). For one state, an action a and its advantage A, the loss with an entropy bonus
is

    L = -A log p_a - h H    with the entropy H = -sum_k p_k log p_k.

A is a constant. Return dL/dz.

Check: python -m ch07_dqn.exercises 8
"""

from torch import Tensor


def policy_gradient(z: Tensor, action: int, advantage: float, h: float) -> Tensor:
    """(K,) logits -> (K,) gradient, without autograd"""
    raise NotImplementedError
