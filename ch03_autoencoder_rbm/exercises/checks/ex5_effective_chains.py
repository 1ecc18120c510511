"""Check of exercise 5: effective sample size of importance weights."""

import torch

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Case, Exercise

EFFECTIVE_CHAINS = Exercise(
    file="ex5_effective_chains",
    function="effective_chains",
    reference=lambda log_w: torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)),
    cases=(
        Case({"log_w": vector(0)}, "one chain"),
        Case({"log_w": vector(0, 0)}, "equal weights: all chains count"),
        Case({"log_w": vector(3, 3)}, "a common factor of the weights does not matter"),
        Case({"log_w": vector(0, -50)}, "one weight is much larger: one chain counts"),
        Case({"log_w": vector(0, -1, -2)}, "between 1 and 3"),
        Case({"log_w": vector(1000, 1000)}, "e^1000 overflows"),
        Case({"log_w": vector(-1000, -1000)}, "e^-1000 is rounded to 0"),
    ),
    sample=lambda generator, size: {"log_w": integers(generator, size)},
    hint="Subtract the same number from all logarithms: which one makes the largest weight 1?",
    mistakes={
        "e^(log w) overflows or is rounded to 0: subtract the maximum first": lambda log_w: (
            log_w.exp().sum() ** 2 / log_w.exp().square().sum()
        ),
        "the sum in the numerator is squared": lambda log_w: (
            (log_w - log_w.max()).exp().sum() / (log_w - log_w.max()).exp().square().sum()
        ),
        "the weights count, not their logarithms": lambda log_w: log_w.sum() ** 2 / log_w.square().sum(),
    },
)
