"""Value iteration (20 minutes)

An environment has S states and A actions: action a in state s gives the reward r(s, a) and leads to the state s'(s, a).
Compute the Q-values, the solution of the Bellman equation

    Q(s, a) = r(s, a) + gamma max_a' Q(s'(s, a), a').

If s' is terminal, the second term is left out. Start with Q = 0 and apply the equation to all states and actions until
no value changes by more than 1e-12. gamma is below 1, so this ends.

Check: python -m ch07_dqn.exercises 4
"""

from torch import Tensor


def value_iteration(reward: Tensor, next_state: Tensor, terminal: Tensor, discount: float) -> Tensor:
    """(S, A) rewards, (S, A) indices of the next states, (S,) flags of terminal states -> (S, A) Q-values"""
    raise NotImplementedError
