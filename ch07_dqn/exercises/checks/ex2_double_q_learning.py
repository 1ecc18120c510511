"""Check of exercise 2: target of double Q-learning."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import flags, integers, matrix, sample_flags, vector
from common.exercises.exercise import Arguments, Case, Exercise


def double_target_by_rows(
    reward: Tensor, online: Tensor, target: Tensor, terminated: Tensor, discount: float
) -> Tensor:
    """Expected targets, one by one."""
    rows = zip(reward.tolist(), online.tolist(), target.tolist(), terminated.tolist(), strict=True)
    return vector(*(r if end else r + discount * other[one.index(max(one))] for r, one, other, end in rows))


def double_arguments(online: list[float], target: list[float], terminated: int = 0) -> Arguments:
    """Arguments of the target of one transition with the reward 0."""
    values = {"reward": vector(0), "online": matrix(online), "target": matrix(target)}
    return {**values, "terminated": flags(terminated), "discount": 0.5}


def sample_double(generator: Random, size: int) -> Arguments:
    """Random transitions, without equal Q-values of the online network."""
    online = torch.stack([torch.tensor(generator.sample(range(-3, 4), 3)).double() for _ in range(size)])
    values = {"reward": integers(generator, size), "online": online, "target": integers(generator, size, 3)}
    return {**values, "terminated": sample_flags(generator, size), "discount": 0.5}


DOUBLE_Q_LEARNING = Exercise(
    file="ex2_double_q_learning",
    function="double_q_target",
    reference=double_target_by_rows,
    cases=(
        Case(double_arguments([1, 2], [1, 2]), "equal networks: the largest Q-value"),
        Case(double_arguments([1, 2], [4, 2]), "the online network selects action 1, the target network evaluates it"),
        Case(double_arguments([8, 6], [2, 4]), "the online network selects action 0, the target network evaluates it"),
        Case(double_arguments([1, 2], [4, 2], terminated=1), "s' is terminal: y = r"),
    ),
    sample=sample_double,
    hint="`argmax(1)` gives one action per row. `Tensor.gather(1, index)` takes a value per row for (B, 1) indices.",
    mistakes={
        "the target network selects and evaluates; the online network must select": (
            lambda reward, online, target, terminated, discount: (  # noqa: ARG005
                reward + discount * target.max(1).values * ~terminated
            )
        ),
        "the online network selects and evaluates; the target network must evaluate": (
            lambda reward, online, target, terminated, discount: (  # noqa: ARG005
                reward + discount * online.max(1).values * ~terminated
            )
        ),
        "the networks are swapped": lambda reward, online, target, terminated, discount: double_target_by_rows(
            reward, target, online, terminated, discount
        ),
        "no rewards follow a terminal state": lambda reward, online, target, terminated, discount: (
            double_target_by_rows(reward, online, target, torch.zeros_like(terminated), discount)
        ),
    },
)
