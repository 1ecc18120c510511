"""Seconds per epoch with sparse batches, dense masked batches and a loop over users, timed interleaved.

    python -m ch03_autoencoder_rbm.train sparse_throughput
    python -m ch03_autoencoder_rbm.train sparse_throughput --cases films --rounds 3

All three take the same step of contrastive divergence with the softmax RBM; a test checks that their gradients are
equal for the same random numbers. Only the layout of the ratings differs. In the training set of MovieLens latest-small
a user has rated about 120 of 9,724 films. A dense batch has zeros for all others; the loop runs Python code for each
user.

Dimensions: B cases, M ratings of a batch, V units, K levels, H hidden units.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from ch03_autoencoder_rbm.films.predictors import cases_of
from ch03_autoencoder_rbm.films.recommender import Config as Recommender
from ch03_autoencoder_rbm.films.recommender import make_optimizer
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Batch, Cases, zero_gradient
from common import distributed
from common.benchmark import interleaved, median_ratio
from common.config import RunOptions, require, require_positive
from common.data.ratings.collection import RatingSet, RatingSetName
from common.data.ratings.loading import load_ratings
from common.device import Timer
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: RatingSetName | Literal["auto"] = "auto"
    """Rating data set. auto: ml-latest-small if it is on disk or can be downloaded, otherwise the planted sample."""
    cases: Literal["users", "films"] = "users"
    """Training samples: users (units are films) or films (units are users)."""
    hidden_size: int = 100
    """Number of hidden units."""
    batch_size: int = 100
    """Batch size in cases."""
    rounds: int = 5
    """Rounds of measurement after a warm-up; one epoch of every layout is timed in each."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "batch_size", "rounds")


def make_model(config: Config, data: RatingSet) -> SoftmaxRBM:
    """Make a softmax RBM without conditional weights."""
    units = data.n_users if config.cases == "films" else data.n_films
    return SoftmaxRBM(units, len(data.levels), config.hidden_size, conditional=False)


@torch.no_grad()
def sparse_step(model: SoftmaxRBM, batch: Batch) -> None:
    """Store the CD-1 estimate of the negative gradient in `.grad`, computed from rated units only."""
    model.contrastive_divergence(batch, steps=1)


@torch.no_grad()
def dense_step(model: SoftmaxRBM, batch: Batch) -> None:
    """Compute the same from a dense (B, V, K) one-hot tensor, with a mask for missing ratings."""
    units, levels, hidden_size = model.weight.shape
    weight = model.weight.view(units * levels, hidden_size)
    observed = weight.new_zeros(batch.cases, units, levels)
    observed[batch.rows, batch.units, batch.values] = 1
    positive = (observed.flatten(1) @ weight + model.hidden_bias).sigmoid()
    logits = (positive.bernoulli() @ weight.T).view_as(observed) + model.visible_bias

    uniform = torch.zeros(batch.cases, units, 1, device=weight.device)
    uniform[batch.rows, batch.units] = torch.rand(len(batch.units), 1, device=weight.device)
    drawn = (logits.softmax(2).cumsum(2)[:, :, :-1] < uniform).sum(2, keepdim=True)
    mask = observed.sum(2, keepdim=True)  # 1 for rated units
    sampled = torch.zeros_like(observed).scatter_(2, drawn, 1) * mask
    negative = (sampled.flatten(1) @ weight + model.hidden_bias).sigmoid()

    scale = 1 / max(1, len(batch.units))
    difference = sampled.flatten(1).T @ negative - observed.flatten(1).T @ positive
    model.weight.grad = difference.view_as(model.weight) * scale
    model.visible_bias.grad = (sampled - observed).sum(0) * scale
    model.hidden_bias.grad = (negative - positive).sum(0) * scale


@torch.no_grad()
def looped_step(model: SoftmaxRBM, batch: Batch) -> None:
    """Compute the same in a loop over cases, each with an RBM of its rated units, as described in the paper."""
    counts = batch.rows.bincount(minlength=batch.cases).tolist()
    cases = list(zip(batch.units.split(counts), batch.values.split(counts), strict=True))
    positive = torch.stack(
        [(model.weight[units, levels].sum(0) + model.hidden_bias).sigmoid() for units, levels in cases]
    )
    states, uniform = positive.bernoulli(), torch.rand(len(batch.units), 1, device=positive.device).split(counts)

    scale = 1 / max(1, len(batch.units))
    weight, visible = zero_gradient(model.weight), zero_gradient(model.visible_bias)
    hidden = torch.zeros_like(model.hidden_bias)
    for (units, levels), before, state, u in zip(cases, positive, states, uniform, strict=True):
        logits = model.weight[units] @ state + model.visible_bias[units]
        drawn = (logits.softmax(1).cumsum(1)[:, :-1] < u).sum(1)
        after = (model.weight[units, drawn].sum(0) + model.hidden_bias).sigmoid()
        weight[units, levels] -= scale * before  # a case has one rating per unit, so no index occurs twice
        weight[units, drawn] += scale * after
        visible[units, levels] -= scale
        visible[units, drawn] += scale
        hidden += scale * (after - before)
    model.hidden_bias.grad = hidden


STEPS: dict[str, Callable[[SoftmaxRBM, Batch], None]] = {
    "sparse": sparse_step,
    "dense": dense_step,
    "loop": looped_step,
}


def make_epoch(
    step: Callable[[SoftmaxRBM, Batch], None], model: SoftmaxRBM, cases: Cases, config: Config, ratings: int
) -> Callable[[], float]:
    """Make a function that trains for one epoch with the given step and returns its seconds."""
    optimizer = make_optimizer(model, Recommender(), ratings)
    generator = torch.Generator().manual_seed(config.run.seed)

    def epoch() -> float:
        with Timer(model.weight.device) as timer:
            for batch in cases.shuffled(config.batch_size, generator):
                step(model, batch)
                optimizer.step()
        return timer.seconds

    return epoch


def train(config: Config, data: RatingSet | None = None) -> dict[str, float]:
    """Time epochs with each layout, interleaved; return median seconds and ratios to sparse batches."""
    data = data or load_ratings(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32") as run:
        require(distributed.world_size() == 1, "the comparison runs in one process", distributed.world_size())
        models = {name: make_model(config, data).to(run.device) for name in STEPS}
        cases = cases_of(models["sparse"], data.train, config.cases, data).to(run.device)
        epochs = {name: make_epoch(STEPS[name], models[name], cases, config, len(data.train)) for name in STEPS}
        seconds = interleaved(epochs, config.rounds, lambda epoch: epoch())
        median = {name: statistics.median(values) for name, values in seconds.items()}
        report(run, median)
        return run.finish(
            run={
                **{f"{name}_epoch_seconds": value for name, value in median.items()},
                **{f"{name}_ratio": median_ratio(seconds[name], seconds["sparse"]) for name in ("dense", "loop")},
            }
        )


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the seconds per epoch."""
    from common.drawing import plots

    names = ["sparse batches", "dense, masked", f"loop over {run.config.cases}"]
    title = f"one epoch of CD-1, {run.config.hidden_size} hidden units, batches of {run.config.batch_size}"
    run.figure("seconds", plots.bars(names, list(median.values()), title=title, label="seconds"))
