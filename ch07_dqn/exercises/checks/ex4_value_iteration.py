"""Check of exercise 4: value iteration."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import flags, integers, matrix, sample_flags
from common.exercises.exercise import Arguments, Case, Exercise


def q_by_equations(reward: Tensor, next_state: Tensor, terminal: Tensor, discount: float) -> Tensor:
    """Expected Q-values by policy iteration: solve the linear equations of a policy, then improve it."""
    states = len(reward)
    policy = torch.zeros(states, dtype=torch.int64)
    for _ in range(100):
        transition = torch.zeros(states, states, dtype=reward.dtype)
        transition[torch.arange(states), next_state[torch.arange(states), policy]] = 1
        transition *= ~terminal
        system = torch.eye(states, dtype=reward.dtype) - discount * transition
        value = torch.linalg.solve(system, reward[torch.arange(states), policy])
        # the value of a state is that of its policy's action; a terminal next state has the value 0
        value_after = (value * ~terminal)[next_state]
        q = reward + discount * value_after
        better = q.argmax(1)
        if torch.allclose(q.max(1).values, q[torch.arange(states), policy], rtol=0, atol=1e-12):
            return q
        policy = better
    raise AssertionError("policy iteration does not end")


def environment(reward: list[list[float]], next_state: list[list[int]], terminal: list[int]) -> Arguments:
    """Arguments of value iteration with gamma = 0.5."""
    tables = {"reward": matrix(*reward), "next_state": torch.tensor(next_state), "terminal": flags(*terminal)}
    return {**tables, "discount": 0.5}


def sample_environment(generator: Random, size: int) -> Arguments:
    """Random environment with two actions."""
    states = size + 1
    next_state = [[generator.randrange(states) for _ in range(2)] for _ in range(states)]
    tables = {"reward": integers(generator, states, 2), "next_state": torch.tensor(next_state)}
    return {**tables, "terminal": sample_flags(generator, states), "discount": 0.5}


def swept(
    sweeps: int, *, ends: bool = True, best: Callable[[Tensor], Tensor] = lambda q: q.max(1).values
) -> Callable[..., Tensor]:
    """Make a wrong function with a fixed number of sweeps."""

    def wrong(reward: Tensor, next_state: Tensor, terminal: Tensor, discount: float) -> Tensor:
        q = torch.zeros_like(reward)
        for _ in range(sweeps):
            q = reward + discount * (best(q) * ~(terminal & ends))[next_state]
        return q

    return wrong


VALUE_ITERATION = Exercise(
    file="ex4_value_iteration",
    function="value_iteration",
    reference=q_by_equations,
    cases=(
        Case(environment([[1]], [[0]], [1]), "the only state is terminal: the return is the reward"),
        Case(environment([[1], [0]], [[1], [1]], [0, 1]), "one step to a terminal state"),
        Case(environment([[0], [1], [0]], [[1], [2], [2]], [0, 0, 1]), "two steps: the reward is discounted once"),
        Case(environment([[1]], [[0]], [0]), "a reward of 1 in every step forever: 1 / (1 - gamma) = 2"),
        Case(environment([[0, 1], [4, 0]], [[1, 0], [0, 1]], [0, 0]), "a later reward of 4 is better than 1 now"),
        Case(
            environment([[1], [7]], [[1], [1]], [0, 1]), "the reward of the terminal state's own action does not count"
        ),
    ),
    sample=sample_environment,
    hint=(
        "The value of a state is the largest Q-value of its row, or 0 if the state is terminal. Indexing these values "
        "with next_state gives the values of all next states, of shape (S, A)."
    ),
    mistakes={
        "one application moves a reward back by one step only: repeat until nothing changes": swept(1),
        "no rewards follow a terminal state: its value is 0": swept(60, ends=False),
        "the best next action counts, not the mean of all": swept(60, best=lambda q: q.mean(1)),
    },
)
