"""Check of exercise 7: generalised advantage estimation."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import flags, integers, sample_flags, vector
from common.exercises.exercise import Arguments, Case, Exercise


def advantages_by_sums(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    lam: float,
) -> Tensor:
    """Expected advantages as sums of discounted TD errors up to the end of the episode."""
    result = []
    for start in range(len(reward)):
        total, factor = 0.0, 1.0
        for t in range(start, len(reward)):
            bootstrap = 0.0 if terminated[t] else discount * float(next_value[t])
            total += factor * (float(reward[t]) + bootstrap - float(value[t]))
            factor *= discount * lam
            if terminated[t] or truncated[t]:
                break
        result.append(total)
    return vector(*result)


def rollout(
    reward: list[float],
    value: list[float],
    next_value: list[float],
    *,
    terminated: list[int] | None = None,
    truncated: list[int] | None = None,
    lam: float = 0.5,
) -> Arguments:
    """Arguments of the estimate with gamma = 0.5."""
    numbers = {"reward": vector(*reward), "value": vector(*value), "next_value": vector(*next_value)}
    never = [0] * len(reward)
    ends = {"terminated": flags(*(terminated or never)), "truncated": flags(*(truncated or never))}
    return {**numbers, **ends, "discount": 0.5, "lam": lam}


def sample_rollout(generator: Random, size: int) -> Arguments:
    """Random rollout."""
    numbers = {name: integers(generator, size) for name in ("reward", "value", "next_value")}
    terminated = sample_flags(generator, size)
    ends = {"terminated": terminated, "truncated": sample_flags(generator, size) & ~terminated}
    return {**numbers, **ends, "discount": 0.5, "lam": generator.choice([0.0, 0.5, 1.0])}


def wrong_advantages(*, bootstrap: str = "terminated", chain: str = "both", use_lambda: bool = True) -> Callable:
    """Make a wrong function: which flags end the bootstrap and the chain of TD errors."""

    def wrong(
        reward: Tensor,
        value: Tensor,
        next_value: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        discount: float,
        lam: float,
    ) -> Tensor:
        sets = {"terminated": terminated, "both": terminated | truncated, "none": torch.zeros_like(terminated)}
        delta = reward + discount * next_value * ~sets[bootstrap] - value
        result, following = torch.zeros_like(delta), torch.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            following = delta[t] + discount * (lam if use_lambda else 1) * ~sets[chain][t] * following
            result[t] = following
        return result

    return wrong


ADVANTAGES = Exercise(
    file="ex7_advantages",
    function="advantages",
    reference=advantages_by_sums,
    cases=(
        Case(rollout([1], [0], [0]), "one step: the TD error"),
        Case(rollout([1], [2], [4]), "delta = 1 + 0.5 * 4 - 2"),
        Case(rollout([0, 4], [0, 0], [0, 0]), "the second TD error is discounted by gamma lambda = 0.25"),
        Case(rollout([1], [0], [4], terminated=[1]), "s_1 is terminal: V is left out"),
        Case(rollout([1], [0], [4], truncated=[1]), "a time limit: V estimates the rewards that could follow"),
        Case(rollout([0, 4], [0, 0], [0, 0], terminated=[1, 0]), "the second step belongs to another episode"),
        Case(rollout([0, 4], [0, 0], [0, 0], truncated=[1, 0]), "after a time limit another episode begins as well"),
        Case(rollout([0, 4], [0, 0], [0, 0], lam=0.0), "lambda = 0: one-step TD errors"),
    ),
    sample=sample_rollout,
    hint=(
        "First compute all TD errors at once. Then go from the last step to the first, and keep A of the following "
        "step in a variable."
    ),
    mistakes={
        "V of a terminal state is left out": wrong_advantages(bootstrap="none"),
        "at a time limit V is kept: it estimates the rewards that could follow": wrong_advantages(bootstrap="both"),
        "after the end of an episode another one begins: leave out A_(t+1)": wrong_advantages(chain="none"),
        "another episode begins after a time limit, too: leave out A_(t+1)": wrong_advantages(chain="terminated"),
        "lambda is missing": wrong_advantages(use_lambda=False),
    },
)
