"""Baselines of the recommender, with settings tuned on the validation set of each data set.

    python -m ch03_autoencoder_rbm.train baselines --predictor bias
    python -m ch03_autoencoder_rbm.train baselines --predictor factorization
    python -m ch03_autoencoder_rbm.train baselines --predictor factorization --factors 3 --decay 0.05   # no tuning
    python -m ch03_autoencoder_rbm.train baselines --predictor ease

A baseline is fitted to the training ratings with every combination of its settings. With the best combination it is
fitted to the training and validation ratings and evaluated on the test ratings.
"""

import math
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import torch

from ch03_autoencoder_rbm.films.baseline_models.biases import FILM_PRIOR, USER_PRIOR, Biases, Popularity
from ch03_autoencoder_rbm.films.baseline_models.ease import EASE
from ch03_autoencoder_rbm.films.baseline_models.factorization import Factorization
from ch03_autoencoder_rbm.films.baseline_models.item_knn import ItemKNN
from ch03_autoencoder_rbm.films.baseline_models.svdpp import SVDpp
from ch03_autoencoder_rbm.films.evaluation import Predictor, evaluate
from common.config import RunOptions, require, require_positive
from common.data.ratings.collection import Ratings, RatingSet, RatingSetName
from common.data.ratings.loading import SplitName, load_ratings
from common.progress import track
from common.run import Run

PredictorName = Literal["global-mean", "film-mean", "bias", "factorization", "svd++", "popularity", "item-knn", "ease"]

SETTINGS: dict[str, tuple[str, ...]] = {
    "factorization": ("factors", "decay"),
    "svd++": ("factors", "decay", "epochs"),
    "item-knn": ("neighbours", "shrinkage", "liked_only"),
    "ease": ("penalty", "liked_only"),
}
"""Settings of each baseline that are tuned on the validation set."""


@dataclass(frozen=True)
class Config:
    """Settings of a baseline. Of several values, the best on the validation set is used."""

    data: RatingSetName | Literal["auto"] = "auto"
    """Rating data set. auto: ml-latest-small if it is on disk or can be downloaded, otherwise the planted sample."""
    split: SplitName = "random"
    """Test split. random: a fifth of the ratings; leave-out: some ratings of each user; time: the newest fifth."""
    leave_out: int = 5
    """Number of test ratings, and of validation ratings, per user with --split leave-out."""
    split_seed: int = 0
    """Random seed of the split. Use the same value for all runs to compare."""
    predictor: PredictorName = "bias"
    """Baseline. For stars: global-mean, film-mean, bias (user and film biases), factorization (biases plus matrix
    factorisation of the residuals), svd++ (factorisation with implicit feedback). For rankings: popularity (number of
    ratings), item-knn (nearest neighbours of films), ease (a linear model)."""
    factors: tuple[int, ...] = (3, 10, 20)
    """Number of factors of factorization and svd++."""
    decay: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Ridge penalty per rating, of factorization and svd++."""
    epochs: tuple[int, ...] = (10, 20)
    """Epochs of svd++."""
    neighbours: tuple[int, ...] = (50, 100, 200)
    """Number of nearest neighbours of a film, of item-knn."""
    shrinkage: tuple[float, ...] = (0.0, 10.0, 50.0)
    """Shrinkage: a number added to the denominator of the similarity of two films, of item-knn."""
    penalty: tuple[float, ...] = (50.0, 100.0, 200.0, 500.0, 1_000.0)
    """Ridge penalty of ease."""
    liked_only: tuple[bool, ...] = (True, False)
    """Input of item-knn and ease: the films with four stars or more (True), or all rated films (False)."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "leave_out", "factors", "decay", "epochs", "neighbours", "penalty")
        require(min(self.shrinkage, default=0) >= 0, "--shrinkage must not be negative", self.shrinkage)
        for name in ("factors", "decay", "epochs", "neighbours", "shrinkage", "penalty", "liked_only"):
            require(len(getattr(self, name)) > 0, f"--{name.replace('_', '-')} needs at least one value", "none")
        require(0 <= self.split_seed < 2**63, "--split-seed must be between 0 and 2^63 - 1", self.split_seed)


def fit(name: PredictorName, known: Ratings, data: RatingSet, settings: dict[str, Any], seed: int = 0) -> Predictor:
    """Fit a baseline to the known ratings; `settings` has a value for each name in SETTINGS[name]."""
    if name in ("factorization", "svd++"):
        model = Factorization if name == "factorization" else SVDpp
        return model(known, data, **settings, generator=torch.Generator().manual_seed(seed))
    if name == "item-knn":
        return ItemKNN(known, data, **settings)
    if name == "ease":
        return EASE(known, data, **settings)
    if name == "popularity":
        return Popularity(known, data)
    inf = float("inf")
    priors = {"global-mean": (inf, inf), "film-mean": (inf, 0.0), "bias": (USER_PRIOR, FILM_PRIOR)}
    return Biases(known, data, *priors[name])


def choose(name: PredictorName, data: RatingSet, config: Config) -> dict[str, Any]:
    """Tune a baseline: lowest validation RMSE, or highest validation NDCG@10 if it does not predict stars."""
    names = SETTINGS.get(name, ())
    grid = [dict(zip(names, values, strict=True)) for values in product(*(getattr(config, each) for each in names))]
    ranked = name in ("item-knn", "ease")

    def error(settings: dict[str, Any]) -> float:
        valid = evaluate(
            fit(name, data.train, data, settings, config.run.seed), data.valid, data.n_films, ranked=ranked
        )
        value = -valid.get("ndcg_at_10", 0.0) if ranked else valid["rmse"]
        return math.inf if math.isnan(value) else value  # a diverged fit is never chosen

    return min(track(grid, f"settings of {name}"), key=error) if len(grid) > 1 else grid[0]


def train(config: Config, data: RatingSet | None = None) -> dict[str, float]:
    """Tune and fit a baseline; return its validation and test metrics."""
    data = data or load_ratings(
        config.data,
        split=config.split,
        leave_out=config.leave_out,
        split_seed=config.split_seed,
        limit=config.run.limit,
    )
    with Run.open(__name__, config, data.card, arithmetic="fp32") as run:
        require(run.device.type == "cpu", "baselines run on a CPU, so --device must be cpu", run.device)
        name, seed = config.predictor, config.run.seed
        settings = choose(name, data, config)
        valid = evaluate(fit(name, data.train, data, settings, seed), data.valid, data.n_films)
        predictor = fit(name, data.train + data.valid, data, settings, seed)
        return run.finish(valid=valid, test=evaluate(predictor, data.test, data.n_films), run=settings)
