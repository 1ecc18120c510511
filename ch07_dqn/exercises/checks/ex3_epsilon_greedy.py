"""Check of exercise 3: probabilities of an epsilon-greedy policy."""

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Case, Exercise


def epsilon_greedy_by_enumeration(q: Tensor, epsilon: float) -> Tensor:
    """Expected probabilities: the sum over all outcomes of both draws."""
    values = q.tolist()
    greedy = values.index(max(values))
    p = [0.0] * len(values)
    for action in range(len(values)):
        p[action] += epsilon / len(values)
        p[greedy] += (1 - epsilon) / len(values)
    return torch.tensor(p, dtype=q.dtype)


def one_hot_of(q: Tensor) -> Tensor:
    """Return 1 for the greedy action, else 0."""
    return torch.zeros_like(q).index_fill(0, q.argmax(), 1)


EPSILON_GREEDY = Exercise(
    file="ex3_epsilon_greedy",
    function="epsilon_greedy",
    reference=epsilon_greedy_by_enumeration,
    cases=(
        Case({"q": vector(1, 2), "epsilon": 0.0}, "without exploration the greedy action is certain"),
        Case({"q": vector(1, 2), "epsilon": 1.0}, "with epsilon = 1 all actions have the same probability"),
        Case({"q": vector(2, 1), "epsilon": 0.2}, "the random action can be the greedy one"),
        Case({"q": vector(0, 3, 1, 2), "epsilon": 0.4}, "each action gets 0.1, the greedy action 0.6 more"),
        Case({"q": vector(1, 1), "epsilon": 0.2}, "of equal Q-values, the first one is greedy"),
    ),
    sample=lambda generator, size: {
        "q": integers(generator, size),
        "epsilon": generator.choice([0.0, 0.1, 0.5]),
    },
    hint="Add the probabilities of the two ways to take the greedy action: on purpose, and by chance.",
    mistakes={
        "the random action is sampled from all A actions, so the greedy one also gets epsilon / A": (
            lambda q, epsilon: one_hot_of(q) * (1 - epsilon) + (1 - one_hot_of(q)) * epsilon / len(q)
        ),
        "the random action is sampled from all A actions, the greedy one included": lambda q, epsilon: (
            one_hot_of(q) * (1 - epsilon) + (1 - one_hot_of(q)) * epsilon / max(1, len(q) - 1)
        ),
        "epsilon is the probability of exploration, not of the greedy action": lambda q, epsilon: (
            one_hot_of(q) * epsilon + (1 - epsilon) / len(q)
        ),
    },
)
