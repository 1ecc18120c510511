"""Check of exercise 7: one step of AdamW."""

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def adamw_of_numbers(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected step, number by number; a test compares it with torch.optim.AdamW, whose import takes seconds."""
    steps = []
    for p, slope, mean, square in zip(theta.tolist(), g.tolist(), m.tolist(), v.tolist(), strict=True):
        mean += (slope - mean) / 10
        square += (slope * slope - square) / 1000
        direction = mean / (1 - 0.9**t) / (math.sqrt(square / (1 - 0.999**t)) + 1e-8)
        steps.append((p - lr * (weight_decay * p + direction), mean, square))
    after = torch.tensor(steps, dtype=theta.dtype)
    return after[:, 0], after[:, 1], after[:, 2]


def adam_arguments(
    theta: float, g: float, m: float = 0, v: float = 0, t: int = 1, lr: float = 0.1, weight_decay: float = 0.0
) -> Arguments:
    """Arguments of a step of one parameter."""
    tensors = {"theta": vector(theta), "g": vector(g), "m": vector(m), "v": vector(v)}
    return {**tensors, "t": t, "lr": lr, "weight_decay": weight_decay}


def sample_adam(generator: Random, size: int) -> Arguments:
    """Random state of `size` parameters."""
    tensors = {name: integers(generator, size) for name in ("theta", "g", "m")}
    options = {"lr": 0.1, "weight_decay": generator.choice([0.0, 0.5])}
    return {**tensors, "v": integers(generator, size, low=0), "t": generator.randint(1, 5), **options}


def wrong_adam(*, corrected: bool = True, coupled: bool = False, decay_factor: bool = True) -> Callable[..., tuple]:
    """Make a wrong step."""

    def step(
        theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        if coupled:
            g = g + weight_decay * theta
        else:
            theta = theta * (1 - (lr if decay_factor else 1) * weight_decay)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        m_hat, v_hat = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if corrected else (m, v)
        return theta - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v

    return step


ADAMW = Exercise(
    file="ex7_adamw",
    function="adamw_step",
    reference=adamw_of_numbers,
    results=("theta", "m", "v"),
    cases=(
        Case(adam_arguments(1.0, 1.0), "in the first step m^ = g and sqrt(v^) = |g|: the parameter moves by lr"),
        Case(adam_arguments(1.0, 4.0), "in the first step the size of the gradient does not matter"),
        Case(adam_arguments(1.0, 1.0, m=1.0, v=1.0, t=2), "the second step"),
        Case(
            adam_arguments(1.0, 0.0, weight_decay=0.5), "without a gradient, theta shrinks by the factor 1 - lr lambda"
        ),
        Case(adam_arguments(1.0, 1e-6), "a small gradient: eps is added to the root, not under it"),
    ),
    sample=sample_adam,
    hint=(
        "Follow the four lines of the task in order. m^ and v^ are used once; the m and v that you return are not "
        "corrected."
    ),
    mistakes={
        "the bias of m and v is not corrected": wrong_adam(corrected=False),
        "weight decay is added to the gradient, as in Adam; in AdamW it does not enter m and v": wrong_adam(
            coupled=True
        ),
        "the weight decay is multiplied by the learning rate": wrong_adam(decay_factor=False),
    },
)
