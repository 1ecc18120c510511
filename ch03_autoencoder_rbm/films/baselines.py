"""Baselines for the recommender: means, user and film biases, matrix factorisation, popularity.

    python -m ch03_autoencoder_rbm.train baselines --predictor bias
    python -m ch03_autoencoder_rbm.train baselines --predictor factorization

Dimensions: N ratings, U users, F films, B users of a batch, D factors.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ch03_autoencoder_rbm.films.evaluation import chance_of_liking, evaluate, popularity
from common.config import RunOptions, require, require_positive
from common.data.ratings.collection import Ratings, RatingSet, RatingSetName
from common.data.ratings.loading import SplitName, load_ratings
from common.run import Run

USER_PRIOR, FILM_PRIOR = 4.0, 3.0
"""Ridge penalties of the biases, as numbers of ratings; chosen on ml-latest-small's validation split."""

ALTERNATIONS = 10

PredictorName = Literal["global-mean", "film-mean", "bias", "factorization", "popularity"]


@dataclass(frozen=True)
class Config:
    """Settings of a baseline."""

    data: RatingSetName | Literal["auto"] = "auto"
    """Rating data set. auto: ml-latest-small if it is on disk or can be downloaded, otherwise the planted sample."""
    split: SplitName = "random"
    """Test split. random: a fifth of the ratings; leave-out: some ratings of each user; time: the newest fifth."""
    leave_out: int = 5
    """Test ratings per user with --split leave-out, and as many for validation."""
    split_seed: int = 0
    """Random seed of the split; the same for all runs that are compared."""
    predictor: PredictorName = "bias"
    """Baseline: global-mean, film-mean, bias (user and film biases), factorization (biases plus matrix factorisation
    of the residuals), or popularity (number of ratings)."""
    factors: int = 10
    """Number of factors with --predictor factorization."""
    decay: float = 0.2
    """Ridge penalty of the factors per rating."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "leave_out", "factors", "decay")
        require(0 <= self.split_seed < 2**63, "--split-seed must be between 0 and 2^63 - 1", self.split_seed)


class Popularity:
    """Recommends the films with the most ratings to every user; does not predict stars."""

    def __init__(self, known: Ratings, data: RatingSet) -> None:
        self.known, self.count = known, popularity(known, data.n_films)

    def stars(self, users: Tensor, films: Tensor) -> None:  # noqa: ARG002
        """Return None: popularity does not predict stars."""
        return

    def scores(self, users: Tensor) -> Tensor:
        """(B,) -> (B, F)"""
        return self.count.expand(len(users), -1)


class Biases:
    """Predicts mu + b_u + c_i: global mean, user bias and film bias, fitted by alternating ridge regression.

        b_u = sum_i (r_ui - mu - c_i) / (n_u + user prior),    c_i = sum_u (r_ui - mu - b_u) / (n_i + film prior)

    An infinite prior keeps its biases at zero, which gives the film means or the global mean.
    """

    def __init__(
        self, known: Ratings, data: RatingSet, user_prior: float = USER_PRIOR, film_prior: float = FILM_PRIOR
    ) -> None:
        self.known, self.count = known, popularity(known, data.n_films)
        users, films, stars = known.users.long(), known.films.long(), known.stars
        self.mean = stars.mean()
        self.user, self.film = torch.zeros(data.n_users), torch.zeros(data.n_films)
        user_count = users.bincount(minlength=data.n_users) + user_prior
        film_count = (self.count + film_prior).clamp(min=1e-9)
        for _ in range(ALTERNATIONS):
            residual = stars - self.mean - self.user[users]
            self.film = torch.zeros_like(self.film).index_add_(0, films, residual) / film_count
            residual = stars - self.mean - self.film[films]
            self.user = torch.zeros_like(self.user).index_add_(0, users, residual) / user_count
        self.step = float(data.levels[1] - data.levels[0])
        self.sd = float((stars - self.stars(users, films)).std(correction=0).clamp(min=1e-3))

    def stars(self, users: Tensor, films: Tensor) -> Tensor:
        """(N,), (N,) -> (N,)"""
        return self.mean + self.user[users] + self.film[films]

    def scores(self, users: Tensor) -> Tensor:
        """(B,) -> (B, F) number of ratings x p(stars >= 4)"""
        table = self.mean + self.user[users].unsqueeze(1) + self.film
        return self.count * chance_of_liking(table, self.sd, self.step)


class Factorization:
    """Predicts biases + p_u . q_i, the factors fitted to the residuals by alternating least squares (Zhou et al. 2008).

    p_u = (sum_i q_i q_i' + decay n_u I)^-1 sum_i q_i e_ui,    and q_i in the same way
    """

    def __init__(self, known: Ratings, data: RatingSet, factors: int, decay: float, generator: torch.Generator) -> None:
        self.known, self.biases = known, Biases(known, data)
        users, films = known.users.long(), known.films.long()
        residual = known.stars - self.biases.stars(users, films)
        self.q = 0.1 * torch.randn(data.n_films, factors, generator=generator)
        for _ in range(ALTERNATIONS):
            self.p = least_squares(users, films, self.q, residual, data.n_users, decay)
            self.q = least_squares(films, users, self.p, residual, data.n_films, decay)
        self.sd = float((known.stars - self.stars(users, films)).std(correction=0).clamp(min=1e-3))

    def stars(self, users: Tensor, films: Tensor) -> Tensor:
        """(N,), (N,) -> (N,)"""
        return self.biases.stars(users, films) + (self.p[users] * self.q[films]).sum(1)

    def scores(self, users: Tensor) -> Tensor:
        """(B,) -> (B, F) number of ratings x p(stars >= 4)"""
        table = self.biases.mean + self.biases.user[users].unsqueeze(1) + self.biases.film + self.p[users] @ self.q.T
        return self.biases.count * chance_of_liking(table, self.sd, self.biases.step)


def least_squares(rows: Tensor, columns: Tensor, factors: Tensor, target: Tensor, count: int, decay: float) -> Tensor:
    """(N,) rows, (N,) columns, (columns, D) factors, (N,) targets -> (count, D) ridge regression of each row"""
    size = factors.shape[1]
    normal, right = factors.new_zeros(count, size, size), factors.new_zeros(count, size)
    for row, column, value in zip(rows.split(65_536), columns.split(65_536), target.split(65_536), strict=True):
        x = factors[column]
        normal.index_add_(0, row, x.unsqueeze(2) * x.unsqueeze(1))
        right.index_add_(0, row, x * value.unsqueeze(1))
    ridge = factors.new_tensor(decay) * rows.bincount(minlength=count).clamp(min=1)
    normal.diagonal(dim1=1, dim2=2).add_(ridge.unsqueeze(1))
    return torch.linalg.solve(normal, right)


def fit(name: PredictorName, known: Ratings, data: RatingSet, config: Config) -> Popularity | Biases | Factorization:
    """Fit a baseline to the known ratings."""
    if name == "popularity":
        return Popularity(known, data)
    if name == "factorization":
        generator = torch.Generator().manual_seed(config.run.seed)
        return Factorization(known, data, config.factors, config.decay, generator)
    inf = float("inf")
    priors = {"global-mean": (inf, inf), "film-mean": (inf, 0.0), "bias": (USER_PRIOR, FILM_PRIOR)}
    return Biases(known, data, *priors[name])


def train(config: Config, data: RatingSet | None = None) -> dict[str, float]:
    """Fit one baseline and return its validation and test metrics."""
    data = data or load_ratings(
        config.data,
        split=config.split,
        leave_out=config.leave_out,
        split_seed=config.split_seed,
        limit=config.run.limit,
    )
    with Run.open(__name__, config, data.card, arithmetic="fp32") as run:
        require(run.device.type == "cpu", "baselines run on a CPU, so --device must be cpu", run.device)
        valid = evaluate(fit(config.predictor, data.train, data, config), data.valid, data.n_films)
        predictor = fit(config.predictor, data.train + data.valid, data, config)
        return run.finish(valid=valid, test=evaluate(predictor, data.test, data.n_films))
