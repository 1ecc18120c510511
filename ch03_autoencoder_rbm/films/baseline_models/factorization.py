"""Matrix factorisation of the residuals of the biases, by alternating least squares (Zhou et al. 2008).

Dimensions: N ratings, U users, F films, B users of a batch, D factors.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.baseline_models.biases import ALTERNATIONS, Biases
from ch03_autoencoder_rbm.films.evaluation import like_probability
from common.data.ratings.collection import Ratings, RatingSet


class Factorization:
    """Matrix factorisation: predicts biases + p_u . q_i, with p and q fitted alternately to the residuals e_ui.

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
        """(N,) users, (N,) films -> (N,) expected stars"""
        return self.biases.stars(users, films) + (self.p[users] * self.q[films]).sum(1)

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) number of ratings x p(stars >= 4)"""
        table = self.biases.mean + self.biases.user[users].unsqueeze(1) + self.biases.film + self.p[users] @ self.q.T
        return self.biases.count * like_probability(table, self.sd, self.biases.step)


def least_squares(rows: Tensor, columns: Tensor, factors: Tensor, target: Tensor, count: int, decay: float) -> Tensor:
    """(N,) rows, (N,) columns, (columns, D) factors, (N,) targets -> (count, D) ridge regression weights of each row"""
    size = factors.shape[1]
    order = rows.argsort(stable=True)
    columns, ratings = columns[order], rows.bincount(minlength=count)
    starts = ratings.cumsum(0) - ratings
    outer = (factors.unsqueeze(2) * factors.unsqueeze(1)).flatten(1)  # (columns, D^2): q q' of every column
    normal = F.embedding_bag(columns, outer, starts, mode="sum").view(count, size, size)
    right = F.embedding_bag(columns, factors, starts, per_sample_weights=target[order], mode="sum")
    normal.diagonal(dim1=1, dim2=2).add_(decay * ratings.clamp(min=1).to(factors).unsqueeze(1))
    return torch.linalg.solve(normal, right)
