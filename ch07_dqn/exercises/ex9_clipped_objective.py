"""Derivative of PPO's clipped objective (15 minutes)

PPO maximises, for each action with the probability ratio p = pi(a | s) / pi_old(a | s) and the advantage A,

    L = min(p A, clip(p, 1 - c, 1 + c) A).

Return dL/dp for each action. A is a constant, and no ratio is exactly 1 - c or 1 + c.

Check: python -m ch07_dqn.exercises 9
"""

from torch import Tensor


def objective_derivative(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """(B,) ratios, (B,) advantages -> (B,) derivatives, without autograd"""
    raise NotImplementedError
