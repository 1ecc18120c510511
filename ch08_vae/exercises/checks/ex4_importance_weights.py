"""Check of exercise 4: importance-weighted bound."""

from torch import Tensor

from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Case, Exercise


def bound_by_ratios(log_w: Tensor) -> Tensor:
    """Expected bounds relative to the first sample's weight in float64."""
    largest = log_w.max(0).values
    return largest + (log_w - largest).exp().mean(0).log()


IMPORTANCE_WEIGHTS = Exercise(
    file="ex4_importance_weights",
    function="importance_weighted_bound",
    reference=bound_by_ratios,
    cases=(
        Case({"log_w": matrix([-2])}, "one sample: its logarithm"),
        Case({"log_w": matrix([-2], [-2])}, "the mean of equal weights is the weight"),
        Case({"log_w": matrix([0], [-1])}, "the logarithm of the mean, not the mean of the logarithms"),
        Case({"log_w": matrix([0, -3], [0, -3])}, "the mean is over the samples, one bound for each image"),
        Case({"log_w": matrix([-1000], [-1000])}, "e^-1000 is rounded to 0, and log 0 is minus infinity"),
    ),
    sample=lambda generator, size: {"log_w": integers(generator, size, 2, low=-9, high=0)},
    hint="`torch.logsumexp` computes log(sum_s e^(log w_s)). What is missing for the mean?",
    mistakes={
        "log k is missing: this is the logarithm of the sum, not of the mean": lambda log_w: log_w.logsumexp(0),
        "the mean of the logarithms is the ELBO; take the logarithm of the mean of the weights": lambda log_w: (
            log_w.mean(0)
        ),
        "e^(log w) is rounded to 0: use `torch.logsumexp`": lambda log_w: log_w.exp().mean(0).log(),
        "divide by k inside the logarithm: subtract log k": lambda log_w: log_w.logsumexp(0) / len(log_w),
    },
)
