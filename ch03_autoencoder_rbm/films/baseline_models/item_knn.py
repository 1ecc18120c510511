"""Item-based nearest neighbours: rank films by similarity to the user's films (Deshpande & Karypis 2004).

    s_ij = n_ij / (sqrt(n_i n_j) + shrinkage)          cosine of the columns of X, shrunk towards zero

n_i users have film i, n_ij have both films. The shrinkage reduces similarities most if few users have the films. The
neighbours of a film are the K most similar films; its score is the sum of the similarities to the neighbours that the
user has.

Deshpande & Karypis (2004), Item-Based Top-N Recommendation Algorithms; shrinkage as in Ferrari Dacrema, Cremonesi &
Jannach (2019), Are We Really Making Much Progress?, section 3.

Dimensions: U users, F films, B users of a batch, K neighbours.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.evaluation import interactions
from common.data.ratings.collection import Ratings, RatingSet

CHUNK = 1_000
"""Number of films whose similarities to all films are computed at once, as a (CHUNK, F) matrix."""


class ItemKNN:
    """Item-based nearest neighbours with shrunk cosine similarities; does not predict stars."""

    def __init__(
        self, known: Ratings, data: RatingSet, neighbours: int, shrinkage: float, *, liked_only: bool = True
    ) -> None:
        self.known, self.x = known, interactions(known, data, liked_only=liked_only)
        norm = self.x.sum(0).sqrt()
        similarities, films = [], []
        for part in torch.arange(data.n_films).split(CHUNK):
            s = (self.x[:, part].T @ self.x) / (norm[part].unsqueeze(1) * norm + shrinkage).clamp(min=1e-9)
            s[torch.arange(len(part)), part] = 0  # a film is not its own neighbour
            best = s.topk(min(neighbours, data.n_films), dim=1)
            similarities.append(best.values)
            films.append(best.indices)
        self.similarity, self.neighbour = torch.cat(similarities), torch.cat(films)  # (F, K)

    def stars(self, users: Tensor, films: Tensor) -> None:  # noqa: ARG002
        """Return None: nearest neighbours do not predict stars."""
        return

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) sum of the similarities of each film to its neighbours among the user's films"""
        x = self.x[users].T.contiguous()
        return F.embedding_bag(self.neighbour, x, per_sample_weights=self.similarity, mode="sum").T
