"""Solution: no Q term if the next state is terminal.

Otherwise the Q-values of the exit enter the targets. No transition starts at the exit, so no target ever corrects them.
A time limit is different: the return that was cut off is estimated by Q.
"""

from torch import Tensor


def td_target(reward: Tensor, next_q: Tensor, terminated: Tensor, truncated: Tensor, discount: float) -> Tensor:  # noqa: ARG001
    """(B,) rewards, (B, A) Q-values of s', (B,) flags, (B,) flags, gamma -> (B,) targets"""
    return reward + discount * next_q.max(1).values * ~terminated
