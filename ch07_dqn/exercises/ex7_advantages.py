"""Generalised advantage estimation (20 minutes)

An actor-critic estimates the advantages of its actions in T consecutive steps from TD errors (Schulman et al. 2016):

    delta_t = r_t + gamma V(s_(t+1)) - V(s_t)
    A_t = delta_t + gamma lambda A_(t+1).

V(s_(t+1)) is left out if s_(t+1) is terminal (`terminated`). A_(t+1) is left out in the last step, and if the episode
ended in any way (`terminated` or `truncated`): then step t + 1 belongs to another episode. `next_value` has V(s_(t+1))
of the episode of step t, also at its end.

Check: python -m ch07_dqn.exercises 7
"""

from torch import Tensor


def advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    lam: float,
) -> Tensor:
    """(T,) rewards, (T,) V(s_t), (T,) V(s_(t+1)), (T,) flags, (T,) flags -> (T,) advantages"""
    raise NotImplementedError
