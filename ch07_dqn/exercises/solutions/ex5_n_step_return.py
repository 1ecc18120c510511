"""Solution: stop at the end of the episode.

The discount of the next reward is also the factor of the value after it, so one variable is enough for both.
"""

from torch import Tensor


def n_step_return(reward: Tensor, terminated: Tensor, truncated: Tensor, discount: float) -> tuple[float, float]:
    """(n,) rewards, (n,) flags, (n,) flags, gamma -> R and f"""
    total, factor = 0.0, 1.0
    for step in range(len(reward)):
        total += factor * float(reward[step])
        factor *= discount
        if terminated[step]:
            return total, 0.0
        if truncated[step]:
            break
    return total, factor
