"""Check of exercise 3: softmax with a temperature, without PyTorch."""

import math
from random import Random

import torch

from common.exercises.exercise import Arguments, Case, Exercise

Numbers = list[float]


def softmax_of_torch(logits: Numbers, temperature: float) -> Numbers:
    """Expected probabilities by PyTorch."""
    return torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, 0).tolist()


def divided_by_largest(logits: Numbers, temperature: float) -> Numbers:
    """Typical mistake: weights relative to the largest one."""
    return [math.exp((z - max(logits)) / temperature) for z in logits]


def powers_of_probabilities(logits: Numbers, temperature: float) -> Numbers:
    """Typical mistake: the temperature is applied to the probabilities, which no longer add up to 1."""
    return [p ** (1 / temperature) for p in softmax_of_torch(logits, 1.0)]


def sample_logits(generator: Random, size: int) -> Arguments:
    """Random logits, some of them large."""
    factor = generator.choice([1, 1000])
    logits = [float(factor * generator.randint(-3, 3)) for _ in range(size)]
    return {"logits": logits, "temperature": generator.choice([0.01, 0.5, 1.0, 2.0])}


SOFTMAX = Exercise(
    file="ex3_softmax",
    function="softmax",
    reference=softmax_of_torch,
    cases=(
        Case({"logits": [0.0], "temperature": 1.0}, "one symbol has the probability 1"),
        Case({"logits": [1.0, 1.0], "temperature": 1.0}, "equal logits"),
        Case({"logits": [1.0, 0.0], "temperature": 1.0}, "e / (e + 1)"),
        Case({"logits": [2.0, 0.0], "temperature": 2.0}, "z / T: the same as logits 1 and 0"),
        Case({"logits": [10.0, 0.0], "temperature": 0.01}, "10 / 0.01 = 1000, and e^1000 overflows"),
        Case({"logits": [-1000.0, -1000.0], "temperature": 1.0}, "e^-1000 is rounded to 0: 0 / 0"),
        Case({"logits": [2000.0, -2000.0], "temperature": 1.0}, "subtracting the mean is not enough"),
    ),
    sample=sample_logits,
    hint="The probabilities do not change if the same number is subtracted from all logits. Which one avoids overflow?",
    mistakes={
        "the weights must be divided by their sum": divided_by_largest,
        "a low temperature prefers the most probable symbol: divide by T": lambda logits, temperature: softmax_of_torch(
            logits, 1 / temperature
        ),
        "the temperature is missing": lambda logits, temperature: softmax_of_torch(logits, 1.0),  # noqa: ARG005
        "after the power 1 / T the probabilities must be divided by their sum": powers_of_probabilities,
    },
)
