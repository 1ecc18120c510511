"""Film recommender: a restricted Boltzmann machine (RBM) on ratings, compared with baselines.

    python -m ch03_autoencoder_rbm.train recommender
    python -m ch03_autoencoder_rbm.train recommender --visible softmax                 # one softmax unit per rating
    python -m ch03_autoencoder_rbm.train recommender --visible softmax --cases users   # as published: users as cases
    python -m ch03_autoencoder_rbm.train recommender --visible binary                  # the book's RBM: liked or not
    python -m ch03_autoencoder_rbm.train recommender --trap          # also measure a leak of the test ratings

By default a case (training sample) is a film, and its visible units are the users who rated it. In the training set of
MovieLens latest-small a user has about 120 ratings on average, a film about 7. User units therefore have more data than
film units would have.

Dimensions: B cases, M ratings of a batch, N ratings, U users, F films, K levels, H hidden units.
"""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ch03_autoencoder_rbm.films import baselines, evaluation
from ch03_autoencoder_rbm.films.binary_rbm import BinaryRBM
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.films.predictors import RatingRBM, cases_of, hidden_states, make_model, make_predictor
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Batch, Cases
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.ratings.collection import RatingSet, RatingSetName
from common.data.ratings.loading import SplitName, load_ratings
from common.files import read_json
from common.progress import print_table
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS_PER_EPOCH, RATINGS_PER_STEP = 32, 500
"""Default batch size: 32 steps per epoch, but at least 500 ratings per step."""

COMPARED_BASELINES: tuple[baselines.PredictorName, ...] = (
    *("global-mean", "film-mean", "bias", "factorization", "popularity"),
)
"""Baselines in the table of a run, which are fitted within seconds; the program `baselines` has all of them."""

COMPARED = ("rmse", "mae", "precision_at_10", "recall_at_10", "ndcg_at_10", "coverage")
"""Metrics in the table of a run."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the recommender."""

    data: RatingSetName | Literal["auto"] = "auto"
    """Rating data set. auto: ml-latest-small if it is on disk or can be downloaded, otherwise the planted sample."""
    split: SplitName = "random"
    """Test split. random: a fifth of the ratings; leave-out: some ratings of each user; time: the newest fifth."""
    leave_out: int = 5
    """Number of test ratings, and of validation ratings, per user with --split leave-out."""
    split_seed: int = 0
    """Random seed of the split. Use the same value for all runs to compare."""
    visible: Literal["gaussian", "softmax", "binary"] = "gaussian"
    """Visible units. gaussian: residuals of the biases; softmax: rating levels; binary: liked or not (the book)."""
    cases: Literal["films", "users"] = default_by("visible", gaussian="films", softmax="films", binary="users")
    """Training samples: films (units are users) or users (units are films); by default films, users if binary."""
    conditional: bool = True
    """Conditional RBM: the set of rated units is an input too. --no-conditional disables it; binary never uses it."""
    hidden_size: int = 100
    """Number of hidden units."""
    epochs: int = default_by("visible", gaussian=60, softmax=60, binary=30)
    """Number of epochs; by default 60, 30 with --visible binary."""
    batch_size: int | None = None
    """Batch size in cases; by default 32 steps per epoch, but at least 500 ratings per step."""
    learning_rate: float = default_by("visible", gaussian=1.5, softmax=1.5, binary=0.05)
    """Maximum learning rate; by default 1.5, 0.05 with --visible binary; warms up and anneals in one cycle. Reduced in
    proportion if a step has fewer than 500 ratings on average."""
    momentum: float = 0.9
    """Momentum coefficient."""
    decay: float = 5.0
    """Weight decay: precision of the Gaussian prior on the weights, relative to the log-likelihood of all ratings."""
    cd_steps: tuple[int, ...] = (1,)
    """Gibbs steps of contrastive divergence, the k of CD-k. Several values divide the training into equal parts:
    `1 2 3` uses CD-1 in the first third, CD-2 in the second, CD-3 in the last."""
    trap: bool = False
    """Also evaluate with the test ratings leaked into the input; these metrics are named leaked_*."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "leave_out", "hidden_size", "epochs", "batch_size", "learning_rate", "cd_steps")
        require(len(self.cd_steps) > 0, "--cd-steps needs at least one number", "none")
        require(0 <= self.split_seed < 2**63, "--split-seed must be between 0 and 2^63 - 1", self.split_seed)
        require(0 <= self.momentum < 1, "--momentum must be at least 0 and below 1", self.momentum)
        require(0 <= self.decay < float("inf"), "--decay must not be negative", self.decay)
        binary_films = self.visible == "binary" and self.cases == "films"
        require(not binary_films, "--visible binary needs --cases users", "films")
        fp32 = self.run.precision != "bf16"
        require(fp32, "the recommender's --precision must be fp32: bfloat16 rounds counts above 256", "bf16")


def make_optimizer(model: nn.Module, config: Config, count: int) -> torch.optim.Optimizer:
    """Make the SGD optimizer with momentum; the weight decay is divided by `count`, the number of terms of the loss."""
    decaying = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in model.named_parameters() if not name.endswith("weight")]
    groups = [{"params": decaying, "weight_decay": config.decay / count}, {"params": biases}]
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, fused=True)


def train_step(model: RatingRBM, optimizer: torch.optim.Optimizer, batch: Batch, k: int) -> Tensor:
    """Take one step of contrastive divergence with k Gibbs steps; return the reconstruction loss."""
    loss = model.contrastive_divergence(batch, k)  # overwrites .grad
    optimizer.step()
    return loss


def validation_loss(valid: dict[str, float], visible: str, epoch: int) -> float:
    """Return the loss that selects the kept epoch: RMSE, -NDCG@10 for binary units, -epoch without validation data."""
    if visible == "binary":
        return -valid.get("ndcg_at_10", float(epoch))
    return valid.get("rmse", -float(epoch))


def default_batch_size(cases: Cases) -> int:
    """Compute the default batch size: 32 steps per epoch, but at least 500 ratings per step on average."""
    present, ratings = int((cases.counts > 0).sum()), len(cases.units)
    return math.ceil(max(present / STEPS_PER_EPOCH, present * RATINGS_PER_STEP / ratings))


def train(config: Config, data: RatingSet | None = None) -> dict[str, float]:
    """Train the RBM and return its test metrics."""
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
        cases = cases_of(model, data.train, config.cases, data).to(run.device)
        require(
            len(cases.units) > 0, "--limit leaves no training data: no rating has four stars or more", len(data.train)
        )
        batch_size = config.batch_size or default_batch_size(cases)
        steps = cases.batches(batch_size)
        learning_rate = config.learning_rate * min(1.0, len(cases.units) / steps / RATINGS_PER_STEP)
        optimizer = make_optimizer(model, config, len(cases) if config.visible == "binary" else len(data.train))
        best = BestWeights(model)
        for epoch in run.epochs(config.epochs, steps, model=model, optimizer=optimizer, best=best):
            for step, batch in enumerate(cases.shuffled(batch_size, run.generator), start=(epoch - 1) * steps):
                set_learning_rate(optimizer, one_cycle(step, config.epochs * steps, learning_rate))
                k = config.cd_steps[step * len(config.cd_steps) // (config.epochs * steps)]
                run.step(train_step(model, optimizer, batch, k), ratings=len(batch.units))
            predictor = make_predictor(model, data.train, config.cases, data)
            # Ranking takes longer than the epoch, so models that predict stars are validated only by their RMSE.
            valid = evaluation.evaluate(predictor, data.valid, data.n_films, ranked=config.visible == "binary")
            run.log(valid=valid)
            best.update(validation_loss(valid, config.visible, epoch), epoch)
        best.restore()
        run.save(model)
        return compare(run, data, model, best)


class Leaked:
    """Predictor that hides part of its input from `evaluation.overlap`, for the leak that --trap measures."""

    def __init__(self, predictor: evaluation.Predictor, admitted: Any) -> None:
        self.known, self.stars, self.scores = admitted, predictor.stars, predictor.scores


def compare(run: Run, data: RatingSet, model: RatingRBM, best: BestWeights) -> dict[str, float]:
    """Evaluate the RBM and the baselines on the test set; their input is the training and validation ratings."""
    config, known = run.config, data.train + data.valid
    test = evaluation.evaluate(make_predictor(model, known, config.cases, data), data.test, data.n_films)
    rows: dict[str, dict[str, float]] = {}
    for name in COMPARED_BASELINES:
        settings = baselines.choose(name, data, baselines.Config(run=config.run))
        predictor = baselines.fit(name, known, data, settings, config.run.seed)
        rows[name] = evaluation.evaluate(predictor, data.test, data.n_films)
    baseline_metrics = {"bias_rmse": rows["bias"]["rmse"]}
    if "ndcg_at_10" in rows["popularity"]:
        baseline_metrics["popularity_ndcg_at_10"] = rows["popularity"]["ndcg_at_10"]
    rows[f"{config.visible.capitalize()} RBM, {config.cases} as cases"] = dict(test)
    leaked: dict[str, float] = {}
    if config.trap:
        predictor = make_predictor(model, known + data.test, config.cases, data)
        leaked = evaluation.measure(Leaked(predictor, known), data.test, data.n_films)
        rows["the same, test ratings as input"] = leaked
    if data.noise_floor is not None:
        test["noise_floor"] = data.noise_floor
        rows["noise floor"] = {"rmse": data.noise_floor}
    table = [(title, *(f"{row[name]:.4f}" if name in row else "-" for name in COMPARED)) for title, row in rows.items()]
    headings = ["predictor", *(name.replace("_at_", "@") for name in COMPARED)]
    print_table(headings, table, title="test ratings")
    report(run, rows, data, model)
    kept = {"kept_epoch": best.epoch, **baseline_metrics}
    return run.finish(test=test, **({"leaked": leaked} if leaked else {}), run=kept)


def write_comparison(path: Path, rows: dict[str, dict[str, float]]) -> None:
    """Write the metrics of all predictors as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["predictor", *COMPARED])
        writer.writerows([title, *(row.get(name, "") for name in COMPARED)] for title, row in rows.items())


def report(run: Run, rows: dict[str, dict[str, float]], data: RatingSet, model: RatingRBM) -> None:
    """Write the metrics of all predictors; draw the ratings, RMSE and NDCG@10, similar films, and learning curves."""
    from common.drawing import plots

    config, known = run.config, data.train + data.valid
    counts = [int((known.stars == level).sum()) for level in data.levels]
    title = f"stars of {len(known):,} training and validation ratings"
    figure = plots.bars([f"{level:g}" for level in data.levels.tolist()], counts, title=title, label="ratings")
    run.figure("ratings", figure)
    if config.cases == "films":
        run.figure("films", draw_similar_films(model, data))
    with run.writing("comparison.csv") as path:
        write_comparison(path, rows)
    for measure, label in (("rmse", "stars"), ("ndcg_at_10", "NDCG@10")):
        shown = {title: row[measure] for title, row in rows.items() if measure in row}
        if shown:
            title = "RMSE of the test ratings" if measure == "rmse" else "NDCG@10 of the test ratings"
            run.figure(measure.partition("_")[0], plots.bars([*shown], [*shown.values()], title=title, label=label))
    measure = "valid_ndcg_at_10" if config.visible == "binary" else "valid_rmse"
    if all(measure in row for row in run.history):
        panels = {"reconstruction loss": ["train_loss"], "validation": [measure]}
        run.figure("curves", plots.curves(run.history, panels))


def draw_similar_films(model: RatingRBM, data: RatingSet, count: int = 20) -> "Figure":
    """Draw the correlation of the hidden states of the films with the most ratings, ordered by similarity."""
    from common.drawing import plots

    known = data.train + data.valid
    films = evaluation.popularity(known, data.n_films).topk(min(count, data.n_films)).indices
    hidden = hidden_states(model, cases_of(model, known, "films", data)).cpu()[films]
    similarity = torch.atleast_2d(torch.corrcoef(hidden - hidden.mean(0))).nan_to_num()
    order = by_similarity(similarity)
    titles = [shorten(data.titles[films[index]], 32, placeholder=" ...") for index in order]
    names = [f"{title}  {number}" for number, title in enumerate(titles, start=1)]
    numbers = [str(number) if number == 1 or number % 5 == 0 else "" for number in range(1, len(order) + 1)]
    shown = similarity[order][:, order].clamp(min=0)
    return plots.shades(shown, names, numbers, rows="", columns="film", title="correlation of hidden states")


def by_similarity(similarity: Tensor) -> list[int]:
    """(C, C) similarities -> an order of the C films: after each film, the most similar one of the remaining films"""
    left = list(range(1, len(similarity)))
    order = [0]
    while left:
        nearest = max(left, key=lambda film: float(similarity[order[-1], film]))
        left.remove(nearest)
        order.append(nearest)
    return order


def restore(folder: Path) -> tuple[RatingRBM, Config, RatingSet]:
    """Load the RBM of a run folder and the ratings that it was trained on.

    Raises ValueError if the ratings on disk have changed since.
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
        raise ValueError(f"{folder}: trained on different data than the {data.card.name} on disk; train again")
    model = make_model(config, data)
    load_weights(model, folder)
    return model.eval(), config, data


def workload(config: Config, device: torch.device) -> Workload:
    """Make the training step on 2,400 random ratings of 300 cases and 600 units for the device benchmark."""
    generator = torch.Generator().manual_seed(0)
    count, cases, units = 2_400, 300, 600
    rows = torch.randint(cases, (count,), generator=generator).sort().values
    starts = rows.bincount(minlength=cases).cumsum(0).sub(rows.bincount(minlength=cases))
    chosen = torch.randint(units, (count,), generator=generator)
    values = torch.randn(count, generator=generator)
    if config.visible == "binary":
        model: RatingRBM = BinaryRBM(units, config.hidden_size)
    elif config.visible == "gaussian":
        model = GaussianRBM(units, config.hidden_size, conditional=config.conditional)
    else:
        model = SoftmaxRBM(units, 10, config.hidden_size, conditional=config.conditional)
        values = torch.randint(10, (count,), generator=generator)
    model = model.to(device)
    optimizer = make_optimizer(model, config, cases if config.visible == "binary" else count)
    batch = Batch(chosen.to(device), values.to(device), starts.to(device), rows.to(device))
    return Workload(lambda: train_step(model, optimizer, batch, config.cd_steps[0]), items=count, unit="ratings")
