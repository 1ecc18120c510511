"""Check of exercise 5: n-step return."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import flags, integers, sample_flags, vector
from common.exercises.exercise import Arguments, Case, Exercise


def n_step_by_sums(reward: Tensor, terminated: Tensor, truncated: Tensor, discount: float) -> tuple[float, float]:
    """Expected return and factor from closed formulas."""
    ends = (terminated | truncated).nonzero().flatten().tolist()
    k = ends[0] + 1 if ends else len(reward)
    total = sum(discount**i * r for i, r in enumerate(reward.tolist()[:k]))
    return float(total), 0.0 if bool(terminated[k - 1]) else discount**k


def steps(reward: list[float], terminated: list[int], truncated: list[int] | None = None) -> Arguments:
    """Arguments of a return with gamma = 0.5."""
    ends = {"terminated": flags(*terminated), "truncated": flags(*(truncated or [0] * len(reward)))}
    return {"reward": vector(*reward), **ends, "discount": 0.5}


def sample_steps(generator: Random, size: int) -> Arguments:
    """Random transitions; a step is not both terminated and truncated."""
    terminated = sample_flags(generator, size, 0.2)
    truncated = sample_flags(generator, size, 0.2) & ~terminated
    return {"reward": integers(generator, size), "terminated": terminated, "truncated": truncated, "discount": 0.5}


def discounted_sum(reward: Tensor, discount: float) -> float:
    """Sum of all discounted rewards, also those of the next episode."""
    return float(sum(discount**i * r for i, r in enumerate(reward.tolist())))


N_STEP_RETURN = Exercise(
    file="ex5_n_step_return",
    function="n_step_return",
    reference=n_step_by_sums,
    results=("R", "f"),
    cases=(
        Case(steps([1], [0]), "one step"),
        Case(steps([0, 4], [0, 0]), "the second reward is discounted once"),
        Case(steps([1], [1]), "s_1 is terminal: f = 0"),
        Case(steps([1], [0], [1]), "a time limit: f = gamma"),
        Case(steps([1, 4], [1, 0]), "the second transition belongs to the next episode"),
        Case(steps([1, 4], [0, 0], [1, 0]), "after a time limit the next episode begins, too: k = 1"),
    ),
    sample=sample_steps,
    hint=(
        "Go through the transitions with two variables: the sum so far, and the discount of the next reward. Return "
        "early if a flag is set."
    ),
    mistakes={
        "the rewards after the end belong to the next episode": (
            lambda reward, terminated, truncated, discount: (
                discounted_sum(reward, discount),
                n_step_by_sums(reward, terminated, truncated, discount)[1],
            )
        ),
        "at a time limit f remains gamma^k: rewards could follow": lambda reward, terminated, truncated, discount: (
            n_step_by_sums(reward, terminated | truncated, truncated, discount)
        ),
        "f is gamma^k with the number k of rewards in the sum": lambda reward, terminated, truncated, discount: (
            n_step_by_sums(reward, terminated, truncated, discount)[0],
            0.0 if n_step_by_sums(reward, terminated, truncated, discount)[1] == 0 else discount ** len(reward),
        ),
        "an episode ends at a time limit as well": lambda reward, terminated, truncated, discount: n_step_by_sums(
            reward, terminated, torch.zeros_like(truncated), discount
        ),
    },
)
