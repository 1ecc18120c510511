"""SVD++: a matrix factorisation with implicit feedback (Koren 2008).

    r_ui = mu + b_u + c_i + q_i . (p_u + |R_u|^-1/2 sum_{j in R_u} y_j)        R_u: films that u rated

The films that a user rated, regardless of the stars, are the implicit feedback. The parameters minimise

    sum_ui e_ui^2 + decay (b_u^2 + c_i^2 + |p_u|^2 + |q_i|^2 + |y_i|^2)         e_ui: prediction error

by stochastic gradient descent. Koren takes one step per rating, this module one step per user.

Koren (2008), Factorization Meets the Neighborhood: a Multifaceted Collaborative Filtering Model, section 4.

Dimensions: N ratings, U users, F films, B users of a batch, D factors, R rated films of a user.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.evaluation import like_probability, popularity
from ch03_autoencoder_rbm.films.sparse import Cases
from common.data.ratings.collection import Ratings, RatingSet
from common.progress import track

LEARNING_RATE = 0.02
"""Initial learning rate; decays linearly to zero."""

FULL_STEP = 50
"""Number of a user's ratings above which the learning rate of shared terms is reduced: their gradient is a sum over
the ratings, and training would diverge."""


class SVDpp:
    """SVD++, fitted by the constructor."""

    def __init__(
        self, known: Ratings, data: RatingSet, factors: int, decay: float, epochs: int, generator: torch.Generator
    ) -> None:
        self.known, self.count = known, popularity(known, data.n_films)
        self.step = float(data.levels[1] - data.levels[0])
        self.mean = known.stars.mean()
        self.user, self.film = torch.zeros(data.n_users), torch.zeros(data.n_films)  # b, c
        self.p, self.q, self.y = (
            0.1 * torch.randn(count, factors, generator=generator)
            for count in (data.n_users, data.n_films, data.n_films)
        )
        cases = Cases(known.users.long(), known.films, known.stars, data.n_users)
        rated = [(cases.take(torch.tensor([user])), user) for user in cases.counts.nonzero().flatten().tolist()]
        for epoch in track(range(epochs), "epochs of SVD++"):
            for step, index in enumerate(torch.randperm(len(rated), generator=generator).tolist()):
                rate = LEARNING_RATE * (1 - (epoch + step / len(rated)) / epochs)
                batch, user = rated[index]
                self.update(user, batch.units, batch.values, rate, decay)
        batch = cases.take(torch.arange(data.n_users))
        implicit = F.embedding_bag(batch.units, self.y, batch.starts, mode="sum")
        self.factor = self.p + implicit / cases.counts.clamp(min=1).sqrt().unsqueeze(1)  # (U, D)
        self.sd = float((known.stars - self.stars(known.users.long(), known.films.long())).std(correction=0))

    def update(self, user: int, films: Tensor, stars: Tensor, rate: float, decay: float) -> None:
        """Take one gradient step on all ratings of a user: (R,) films and (R,) stars."""
        count = len(films)
        Q, Y = self.q[films], self.y[films]
        factor = self.p[user] + Y.sum(0) / count**0.5
        e = stars - (self.mean + self.user[user] + self.film[films] + Q @ factor)
        summed = rate * min(1, FULL_STEP / count)  # learning rate of terms that all ratings of the user share
        self.film[films] += rate * (e - decay * self.film[films])
        self.q[films] = Q + rate * (e.unsqueeze(1) * factor - decay * Q)
        self.y[films] = Y + summed * (e @ Q) / count**0.5 - rate * decay * Y
        self.user[user] += summed * (e.sum() - decay * count * self.user[user])
        self.p[user] += summed * (e @ Q - decay * count * self.p[user])

    def stars(self, users: Tensor, films: Tensor) -> Tensor:
        """(N,) users, (N,) films -> (N,) expected stars"""
        return self.mean + self.user[users] + self.film[films] + (self.factor[users] * self.q[films]).sum(1)

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) number of ratings x p(stars >= 4)"""
        table = self.mean + self.user[users].unsqueeze(1) + self.film + self.factor[users] @ self.q.T
        return self.count * like_probability(table, self.sd, self.step)
