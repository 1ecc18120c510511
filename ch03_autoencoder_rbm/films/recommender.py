"""The film recommender: a restricted Boltzmann machine over ratings, beside what it must beat.

    python -m ch03_autoencoder_rbm.train recommender
    python -m ch03_autoencoder_rbm.train recommender --visible softmax                 # a level of stars a unit
    python -m ch03_autoencoder_rbm.train recommender --visible softmax --cases users   # as published: a case a user
    python -m ch03_autoencoder_rbm.train recommender --visible binary                  # the book's: liked, or not
    python -m ch03_autoencoder_rbm.train recommender --trap          # what a leak of the test ratings seems to give

By default a case is a film, and its visible units are the users who rated it: on MovieLens latest-small a user has a
hundred ratings to learn from, a film seven.

Dimensions: B cases, M ratings of a batch, N ratings, U users, F films, K levels, H hidden units.
"""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ch03_autoencoder_rbm.films import baselines
from ch03_autoencoder_rbm.films import evaluation as measures
from ch03_autoencoder_rbm.films.binary_rbm import BinaryRBM
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.films.predictors import Machine, cases_of, make_model, make_predictor
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Batch, Cases
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.ratings.collection import RatingSet, RatingSetName
from common.data.ratings.loading import SplitName, load_ratings
from common.files import read_json
from common.progress import print_table
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

UPDATES, LEAST_RATINGS = 32, 500
"""Where the batch size is not given: steps an epoch, and the ratings that a step needs for a mean worth following."""

COMPARED = ("rmse", "mae", "precision_at_10", "recall_at_10", "ndcg_at_10", "coverage")


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the recommender."""

    data: RatingSetName | Literal["auto"] = "auto"
    """Which ratings; auto takes ml-latest-small where it is on disk or can be downloaded, else the planted sample."""
    split: SplitName = "random"
    """random (a fifth to test), leave-out (some of each user), or time (the newest fifth)."""
    leave_out: int = 5
    """With --split leave-out: ratings of each user to test, and as many to validate."""
    split_seed: int = 0
    """Seed of the split; runs that are compared share it."""
    visible: Literal["gaussian", "softmax", "binary"] = "gaussian"
    """gaussian (residuals of the biases), softmax (a level each), or the book's binary (liked; all else is not)."""
    cases: Literal["films", "users"] | None = None
    """What a case is: films, whose visible units are users, or users, whose units are films; binary takes users."""
    conditional: bool = True
    """Whether who rated what, apart from how, bears on the hidden units (never with --visible binary)."""
    hidden_size: int = 100
    """Hidden units."""
    epochs: int | None = None
    """Passes over the training split; by default 60 (30 with --visible binary)."""
    batch_size: int | None = None
    """Cases a step; by default as many as make 32 steps an epoch, and 500 ratings a step."""
    learning_rate: float | None = None
    """Peak step size, by default 1.5 (0.05 with --visible binary); less where a step holds fewer than 500 ratings."""
    momentum: float = 0.9
    """Share of the last step that the next one keeps."""
    decay: float = 5.0
    """Precision of the Gaussian prior on the weights, against the log-likelihood of all ratings."""
    cd_steps: tuple[int, ...] = (1,)
    """Steps of Gibbs sampling: `1 2 3` takes 1 in the first third of the training, 2 in the second, then 3."""
    trap: bool = False
    """Measure, too, what feeding the test ratings as input seems to give; the figures are called leaked."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "leave_out", "hidden_size", "epochs", "batch_size", "learning_rate", "cd_steps")
        require(len(self.cd_steps) > 0, "--cd-steps needs at least one number", "none")
        require(0 <= self.split_seed < 2**63, "--split-seed must be between 0 and 2^63 - 1", self.split_seed)
        require(0 <= self.momentum < 1, "--momentum must be at least 0 and below 1", self.momentum)
        require(0 <= self.decay < float("inf"), "--decay must not be negative", self.decay)
        by_films = self.visible == "binary" and self.cases == "films"
        require(not by_films, "--visible binary takes --cases users", "films")
        fp32 = self.run.precision != "bf16"
        require(fp32, "the recommender's --precision must be fp32: counts do not fit in 8 bits", "bf16")

    @property
    def by(self) -> Literal["films", "users"]:
        """What a case is."""
        return self.cases or ("users" if self.visible == "binary" else "films")

    @property
    def peak(self) -> float:
        """The peak step size."""
        return self.learning_rate or (0.05 if self.visible == "binary" else 1.5)


def make_optimizer(model: nn.Module, config: Config, count: int) -> torch.optim.Optimizer:
    """Gradient steps with momentum; the weights' prior is shared out over what the gradient is a mean over."""
    decaying = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in model.named_parameters() if not name.endswith("weight")]
    groups = [{"params": decaying, "weight_decay": config.decay / count}, {"params": biases}]
    return torch.optim.SGD(groups, config.peak, momentum=config.momentum, fused=True)


def train_step(model: Machine, optimizer: torch.optim.Optimizer, batch: Batch, steps: int) -> Tensor:
    """Take one step of contrastive divergence, whose gradients replace those of the step before; return its loss."""
    loss = model.contrastive_divergence(batch, steps)
    optimizer.step()
    return loss


class Best:
    """The weights after the epoch that did best on the validation split; part of the checkpoint."""

    def __init__(self, measure: str) -> None:
        self.measure, self.sign = measure, 1 if measure == "rmse" else -1  # an error should be small, NDCG large
        self.epoch, self.value = 0, float("inf")
        self.weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, valid: dict[str, float], model: nn.Module) -> None:
        """Keep the weights, if the epoch is the best so far (or if there is nothing to tell by)."""
        value = self.sign * valid.get(self.measure, 0.0)
        if value < self.value or self.measure not in valid:
            self.epoch, self.value = epoch, value
            self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Give what is kept."""
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an interrupted run kept."""
        self.epoch, self.value, self.weights = state["epoch"], state["value"], state["weights"]


def usual_batch_size(cases: Cases) -> int:
    """As many cases as make 32 steps an epoch, more where these would hold too few ratings."""
    present, ratings = int((cases.counts > 0).sum()), len(cases.units)
    return math.ceil(max(present / UPDATES, present * LEAST_RATINGS / ratings))


class Blind:
    """The trap: a predictor that has been fed ratings which it does not own up to."""

    def __init__(self, seer: measures.Predictor, admitted: Any) -> None:
        self.known, self.stars, self.scores = admitted, seer.stars, seer.scores


def conclude(run: Run, data: RatingSet, model: Machine, best: Best) -> dict[str, float]:
    """Measure the machine and its rivals on the test split, all of them given training and validation ratings."""
    config, known = run.config, data.train + data.valid
    test = measures.evaluate(make_predictor(model, known, config.by, data), data.test, data.n_films)
    usual = baselines.Config(run=config.run)
    fitted = {name: baselines.fit(name, known, data, usual) for name in get_args(baselines.PredictorName)}
    rivals = {name: measures.evaluate(rival, data.test, data.n_films) for name, rival in fitted.items()}
    rows = {**rivals, f"{config.visible} RBM, {config.by} as cases": dict(test)}
    leaked: dict[str, float] = {}
    if config.trap:
        seer = make_predictor(model, known + data.test, config.by, data)
        leaked = measures.measure(Blind(seer, known), data.test, data.n_films)
        rows["the same, fed the test ratings"] = leaked
    if data.noise_floor is not None:
        test["noise_floor"] = data.noise_floor
        rows["who knows everybody's taste"] = {"rmse": data.noise_floor}
    table = [(title, *(f"{row[name]:.4f}" if name in row else "-" for name in COMPARED)) for title, row in rows.items()]
    headings = ["predictor", *(name.replace("_at_", "@") for name in COMPARED)]
    print_table(headings, table, title="held-out test ratings")
    report(run, rows, config)
    to_beat = {"bias_rmse": rivals["bias"]["rmse"]}
    if "ndcg_at_10" in rivals["popularity"]:
        to_beat["popularity_ndcg_at_10"] = rivals["popularity"]["ndcg_at_10"]
    return run.finish(test=test, **({"leaked": leaked} if leaked else {}), run={"kept_epoch": best.epoch, **to_beat})


def train(config: Config, data: RatingSet | None = None) -> dict[str, float]:
    """Fit the machine and return its test measures."""
    data = data or load_ratings(
        config.data,
        split=config.split,
        leave_out=config.leave_out,
        split_seed=config.split_seed,
        limit=config.run.limit,
    )
    with Run.open(__name__, config, data.card, arithmetic="fp32") as run:
        require(distributed.world_size() == 1, "the recommender trains in one process", distributed.world_size())
        model = make_model(config, data).to(run.device)
        cases = cases_of(model, data.train, config.by, data).to(run.device)
        require(len(cases.units) > 0, "--limit leaves nothing to learn from: nobody gave four stars", len(data.train))
        batch_size = config.batch_size or usual_batch_size(cases)
        epochs = config.epochs or (30 if config.visible == "binary" else 60)
        steps = cases.batches(batch_size)
        peak = config.peak * min(1.0, len(cases.units) / steps / LEAST_RATINGS)
        optimizer = make_optimizer(model, config, len(cases) if config.visible == "binary" else len(data.train))
        best = Best("ndcg_at_10" if config.visible == "binary" else "rmse")
        for epoch in run.epochs(epochs, steps, model=model, optimizer=optimizer, best=best):
            for step, batch in enumerate(cases.shuffled(batch_size, run.generator), start=(epoch - 1) * steps):
                set_learning_rate(optimizer, one_cycle(step, epochs * steps, peak))
                k = config.cd_steps[step * len(config.cd_steps) // (epochs * steps)]
                run.step(train_step(model, optimizer, batch, k), ratings=len(batch.units))
            predictor = make_predictor(model, data.train, config.by, data)
            # Ranking takes longer than the epoch, so a machine that knows stars is watched by its error alone.
            valid = measures.evaluate(predictor, data.valid, data.n_films, ranked=config.visible == "binary")
            run.log(valid=valid)
            best.offer(epoch, valid, model)
        model.load_state_dict(best.weights)
        run.save(model)
        return conclude(run, data, model, best)


def write_comparison(path: Path, rows: dict[str, dict[str, float]]) -> None:
    """Write the same table for other programs to read."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["predictor", *COMPARED])
        writer.writerows([title, *(row.get(name, "") for name in COMPARED)] for title, row in rows.items())


def report(run: Run, rows: dict[str, dict[str, float]], config: Config) -> None:
    """Draw what people look at: the errors side by side, the rankings, and the curves."""
    from common.drawing import plots

    with run.writing("comparison.csv") as path:
        write_comparison(path, rows)
    for measure, label in (("rmse", "stars"), ("ndcg_at_10", "NDCG@10")):
        shown = {title: row[measure] for title, row in rows.items() if measure in row}
        if shown:
            title = "root mean squared error, test" if measure == "rmse" else "ten suggestions, test"
            run.figure(measure.partition("_")[0], plots.bars([*shown], [*shown.values()], title=title, label=label))
    measure = "valid_ndcg_at_10" if config.visible == "binary" else "valid_rmse"
    if all(measure in row for row in run.history):
        panels = {"reconstruction": ["train_loss"], "validation": [measure]}
        run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[Machine, Config, RatingSet]:
    """Rebuild the machine that a run saved, and load the ratings that it was trained on.

    Raises ValueError where these are not the same any more.
    """
    config = read_config(folder, Config)
    trained_on = read_json(folder / "config.json")["data"]
    data = load_ratings(
        config.data,
        split=config.split,
        leave_out=config.leave_out,
        split_seed=config.split_seed,
        limit=config.run.limit,
    )
    if data.card.sha256 != trained_on["sha256"]:
        raise ValueError(f"{folder} was trained on other data than the {data.card.name} that is here: train anew")
    model = make_model(config, data)
    load_weights(model, folder)
    return model.eval(), config, data


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of random ratings, for the device benchmark: 2,400 by 300 cases of 600 units."""
    generator = torch.Generator().manual_seed(0)
    count, cases, units = 2_400, 300, 600
    rows = torch.randint(cases, (count,), generator=generator).sort().values
    starts = rows.bincount(minlength=cases).cumsum(0).sub(rows.bincount(minlength=cases))
    chosen = torch.randint(units, (count,), generator=generator)
    values = torch.randn(count, generator=generator)
    if config.visible == "binary":
        model: Machine = BinaryRBM(units, config.hidden_size)
    elif config.visible == "gaussian":
        model = GaussianRBM(units, config.hidden_size, conditional=config.conditional)
    else:
        model = SoftmaxRBM(units, 10, config.hidden_size, conditional=config.conditional)
        values = torch.randint(10, (count,), generator=generator)
    model = model.to(device)
    optimizer = make_optimizer(model, config, cases if config.visible == "binary" else count)
    batch = Batch(chosen.to(device), values.to(device), starts.to(device), rows.to(device))
    return Workload(lambda: train_step(model, optimizer, batch, config.cd_steps[0]), items=count, unit="ratings")
