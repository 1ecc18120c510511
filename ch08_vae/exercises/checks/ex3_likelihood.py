"""Check of exercise 3: log-likelihood of binary pixels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Case, Exercise


def likelihood_of_torch(logits: Tensor, x: Tensor) -> Tensor:
    """Expected log-likelihoods by PyTorch's loss."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


LIKELIHOOD = Exercise(
    file="ex3_likelihood",
    function="log_likelihood",
    reference=likelihood_of_torch,
    cases=(
        Case({"logits": matrix([0]), "x": matrix([1])}, "p = 1/2: log(1/2)"),
        Case({"logits": matrix([2]), "x": matrix([1])}, "a pixel 1 with a positive logit is probable"),
        Case({"logits": matrix([2]), "x": matrix([0])}, "a pixel 0 with a positive logit is improbable"),
        Case({"logits": matrix([0, 0]), "x": matrix([1, 0])}, "the sum over two pixels"),
        Case({"logits": matrix([0], [0]), "x": matrix([1], [0])}, "one log-likelihood for each image"),
        Case({"logits": matrix([1000]), "x": matrix([0])}, "1 - s(1000) is rounded to 0, and log 0 is minus infinity"),
    ),
    sample=lambda generator, size: {
        "logits": integers(generator, 2, size),
        "x": integers(generator, 2, size, low=0, high=1),
    },
    hint="`F.logsigmoid` does not overflow. Which logit has the probability of a pixel 0?",
    mistakes={
        "the log-likelihood of an image is the sum over its pixels, not the mean": lambda logits, x: (
            likelihood_of_torch(logits, x) / logits.shape[1]
        ),
        "this is the loss, the negative log-likelihood": lambda logits, x: -likelihood_of_torch(logits, x),
        "s is rounded to 0 or 1: compute log s(l) and log s(-l) with `F.logsigmoid`": lambda logits, x: torch.where(
            x == 1, torch.sigmoid(logits).log(), (1 - torch.sigmoid(logits)).log()
        ).sum(1),
        "pixels 0 have a probability as well: log s(-l)": lambda logits, x: (x * F.logsigmoid(logits)).sum(1),
    },
)
