"""Solution: gather the target network's value of the online network's action.

Noise in both networks is not the same, so an action that one of them overestimates is evaluated without this error by
the other.
"""

from torch import Tensor


def double_q_target(reward: Tensor, online: Tensor, target: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """(B,) rewards, (B, A) Q-values of s' by the online network, (B, A) by the target network, (B,) flags -> (B,) y"""
    best = online.argmax(1, keepdim=True)
    return reward + discount * target.gather(1, best)[:, 0] * ~terminated
