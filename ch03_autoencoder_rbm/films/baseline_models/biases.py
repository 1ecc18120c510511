"""The simplest baselines: popularity, global mean, film means, and user and film biases.

Dimensions: N ratings, U users, F films, B users of a batch.
"""

import torch
from torch import Tensor

from ch03_autoencoder_rbm.films.evaluation import like_probability, popularity
from common.data.ratings.collection import Ratings, RatingSet

USER_PRIOR, FILM_PRIOR = 4.0, 3.0
"""Ridge penalties of the biases, as numbers of ratings; tuned on ml-latest-small's validation set."""

ALTERNATIONS = 10
"""Iterations of alternating least squares."""


class Popularity:
    """Popularity: recommends the films with the most ratings to every user; does not predict stars."""

    def __init__(self, known: Ratings, data: RatingSet) -> None:
        self.known, self.count = known, popularity(known, data.n_films)

    def stars(self, users: Tensor, films: Tensor) -> None:  # noqa: ARG002
        """Return None: popularity does not predict stars."""
        return

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) number of ratings of each film"""
        return self.count.expand(len(users), -1)


class Biases:
    """User and film biases: predicts mu + b_u + c_i, with the global mean mu, by alternating ridge regression.

        b_u = sum_i (r_ui - mu - c_i) / (n_u + user prior),    c_i = sum_u (r_ui - mu - b_u) / (n_i + film prior)

    With an infinite prior its biases are zero, which leaves the film means or the global mean.
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
        """(N,) users, (N,) films -> (N,) expected stars"""
        return self.mean + self.user[users] + self.film[films]

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) number of ratings x p(stars >= 4)"""
        table = self.mean + self.user[users].unsqueeze(1) + self.film
        return self.count * like_probability(table, self.sd, self.step)
