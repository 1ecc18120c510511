"""n-step return (15 minutes)

A replay buffer has n consecutive transitions. The target of the first one is

    y = R + f max_a Q(s_k, a)    with R = r_0 + gamma r_1 + ... + gamma^(k-1) r_(k-1)

and k = n, or less if the episode ends earlier: transitions after the end belong to the next episode. The factor f is
gamma^k, or 0 if s_k is terminal. At a time limit (truncated) the episode ends as well, but f remains gamma^k.

Return R and f.

Check: python -m ch07_dqn.exercises 5
"""

from torch import Tensor


def n_step_return(reward: Tensor, terminated: Tensor, truncated: Tensor, discount: float) -> tuple[float, float]:
    """(n,) rewards, (n,) flags, (n,) flags, gamma -> R and f"""
    raise NotImplementedError
