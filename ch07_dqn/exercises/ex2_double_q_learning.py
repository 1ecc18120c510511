"""Target of double Q-learning (10 minutes)

The maximum of noisy estimates is too large on average, because it prefers actions whose value is overestimated. In
double Q-learning one network selects the next action and another one evaluates it (van Hasselt et al. 2016):

    y = r + gamma Q_target(s', a*)    with a* = argmax_a Q_online(s', a).

If s' is terminal, y = r.

Check: python -m ch07_dqn.exercises 2
"""

from torch import Tensor


def double_q_target(reward: Tensor, online: Tensor, target: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """(B,) rewards, (B, A) Q-values of s' by the online network, (B, A) by the target network, (B,) flags -> (B,) y"""
    raise NotImplementedError
