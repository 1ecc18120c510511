"""Check of exercise 5: find the bug: batch normalisation at evaluation."""

from collections.abc import Callable
from random import Random

from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, matrix, vector
from common.exercises.exercise import Arguments, Case, Exercise

Results = tuple[Tensor, Tensor, Tensor]


def batch_norm_of_torch(x: Tensor, mean: Tensor, var: Tensor, training: bool) -> Results:
    """Expected values by PyTorch's function, which changes the running statistics in place."""
    mean, var = mean.clone(), var.clone()
    return F.batch_norm(x, mean, var, training=training), mean, var


def wrong_norm(
    *,
    at_evaluation: bool = False,
    moved: bool = False,
    in_training: bool = True,
    unbiased: bool = True,
    share: float = 0.1,
) -> Callable[..., Results]:
    """Make a wrong function."""

    def wrong(x: Tensor, mean: Tensor, var: Tensor, training: bool) -> Results:
        batch_mean, batch_var = x.mean(0), x.var(0, correction=0)
        new_mean = (1 - share) * mean + share * batch_mean
        estimate = batch_var * len(x) / (len(x) - 1) if unbiased else batch_var
        new_var = (1 - share) * var + share * estimate
        of_batch = in_training if training else at_evaluation
        y = (x - (batch_mean if of_batch else mean)) / ((batch_var if of_batch else var) + 1e-5).sqrt()
        return (y, new_mean, new_var) if training or moved else (y, mean, var)

    return wrong


def given(x: list, mean: float, var: float, *, training: bool) -> Arguments:
    """Arguments with one channel."""
    return {"x": matrix(*x), "mean": vector(mean), "var": vector(var), "training": training}


def sample_values(generator: Random, size: int) -> Arguments:
    """Random values of at most two channels."""
    channels = generator.randint(1, 2)
    statistics = {"mean": integers(generator, channels), "var": integers(generator, channels, low=1, high=4)}
    return {"x": integers(generator, size + 1, channels), **statistics, "training": generator.random() < 0.5}


BATCH_NORM = Exercise(
    file="ex5_batch_norm",
    function="batch_norm",
    reference=batch_norm_of_torch,
    results=("the values", "the running mean", "the running variance"),
    cases=(
        Case(given([[1], [3]], 0, 1, training=True), "in training the batch has the mean 0 and the variance 1"),
        Case(given([[1], [3]], 2, 9, training=True), "in training the running statistics do not change the values"),
        Case(given([[3]], 1, 4, training=False), "one image at evaluation: (3 - 1) / 2"),
        Case(given([[3], [5]], 1, 4, training=False), "evaluation leaves the running statistics as they are"),
    ),
    sample=sample_values,
    hint="Which argument does the function not use? Compare with the last sentence of the task's first paragraph.",
    mistakes={
        "at evaluation the running statistics standardise, so images do not affect each other": wrong_norm(
            at_evaluation=True, moved=True
        ),
        "evaluation does not change the running statistics: test images would change later predictions": wrong_norm(
            moved=True
        ),
        "in training the batch's own statistics standardise": wrong_norm(in_training=False),
        "the running variance moves towards the unbiased variance, with N - 1": wrong_norm(unbiased=False),
        "the running statistics move by a tenth towards those of the batch": wrong_norm(share=0.9),
    },
)
