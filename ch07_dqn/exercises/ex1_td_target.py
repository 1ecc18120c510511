"""Find the bug: a target that bootstraps at terminal states (10 minutes)

A deep Q-network is trained towards the targets

    y = r + gamma max_a Q(s', a).

The function below computes them for B transitions. `terminated` is True if s' is terminal (the exit): no rewards
follow. `truncated` is True if a time limit interrupted the episode in s': rewards could have followed. In the mazes of
this chapter the last step before the exit has the reward 1 and so the Q-value 1. With this function it has another one.
Why?

Check: python -m ch07_dqn.exercises 1
"""

# ruff: noqa: ARG001

from torch import Tensor


def td_target(reward: Tensor, next_q: Tensor, terminated: Tensor, truncated: Tensor, discount: float) -> Tensor:
    """(B,) rewards, (B, A) Q-values of s', (B,) flags, (B,) flags, gamma -> (B,) targets"""
    # Find the bug, then delete this comment.
    return reward + discount * next_q.max(1).values
