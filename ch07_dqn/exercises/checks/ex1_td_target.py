"""Check of exercise 1: find the bug: a target that bootstraps at terminal states."""

from random import Random

from torch import Tensor

from common.exercises.arguments import flags, integers, matrix, sample_flags, vector
from common.exercises.exercise import Arguments, Case, Exercise


def td_target_by_rows(
    reward: Tensor,
    next_q: Tensor,
    terminated: Tensor,
    truncated: Tensor,  # noqa: ARG001  # the signature of the exercise
    discount: float,
) -> Tensor:
    """Expected targets, one by one."""
    rows = zip(reward.tolist(), next_q.tolist(), terminated.tolist(), strict=True)
    return vector(*(r if end else r + discount * max(q) for r, q, end in rows))


def target_arguments(reward: float, q: list[float], terminated: int = 0, truncated: int = 0) -> Arguments:
    """Arguments of the target of one transition."""
    ends = {"terminated": flags(terminated), "truncated": flags(truncated)}
    return {"reward": vector(reward), "next_q": matrix(q), **ends, "discount": 0.5}


def sample_targets(generator: Random, size: int) -> Arguments:
    """Random transitions."""
    ends = {name: sample_flags(generator, size) for name in ("terminated", "truncated")}
    return {"reward": integers(generator, size), "next_q": integers(generator, size, 2), **ends, "discount": 0.5}


TD_TARGET = Exercise(
    file="ex1_td_target",
    function="td_target",
    reference=td_target_by_rows,
    cases=(
        Case(target_arguments(1, [0, 0]), "only the reward"),
        Case(target_arguments(0, [2, 4]), "half of the largest Q-value"),
        Case(target_arguments(0, [-4, -2]), "the largest Q-value may be negative"),
        Case(target_arguments(1, [2, 4], terminated=1), "s' is terminal: no rewards follow"),
        Case(target_arguments(1, [2, 4], truncated=1), "a time limit is not a terminal state: rewards could follow"),
    ),
    sample=sample_targets,
    hint="What is the return after the exit was reached? Which of the two flags says that it was?",
    mistakes={
        "after a terminal state no rewards follow, so the target must not contain its Q-value": (
            lambda reward, next_q, terminated, truncated, discount: (  # noqa: ARG005
                reward + discount * next_q.max(1).values
            )
        ),
        "a time limit only interrupts the episode: the target keeps the Q term": (
            lambda reward, next_q, terminated, truncated, discount: (
                reward + discount * next_q.max(1).values * ~(terminated | truncated)
            )
        ),
        "the flags are swapped: `terminated` means that s' is terminal": (
            lambda reward, next_q, terminated, truncated, discount: (  # noqa: ARG005
                reward + discount * next_q.max(1).values * ~truncated
            )
        ),
    },
)
