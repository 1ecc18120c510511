"""EASE (embarrassingly shallow autoencoder): a linear model that ranks films, fitted in closed form (Steck 2019).

X has one row per user and one column per film, with 1 for the films of the user. The user's other films predict a film
with weights B, whose diagonal is zero so that no film predicts itself:

    minimise |X - X B|^2 + penalty |B|^2    with    B_ii = 0

    P = (X'X + penalty I)^-1,    B = I - P diag(1 / P_11, ..., 1 / P_FF)

With fewer users than films, a (U, U) system is solved instead: X P = (X X' + penalty I)^-1 X. Of P itself, X B needs
only the diagonal, P_ii = (1 - x_i . (X P)_i) / penalty, with the columns x_i of X.

Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, equations 4 to 8.

Dimensions: U users, F films, B users of a batch.
"""

import torch
from torch import Tensor

from ch03_autoencoder_rbm.films.evaluation import interactions
from common.data.ratings.collection import Ratings, RatingSet


class EASE:
    """EASE, fitted by the constructor; does not predict stars."""

    def __init__(self, known: Ratings, data: RatingSet, penalty: float, *, liked_only: bool = True) -> None:
        self.known, x = known, interactions(known, data, liked_only=liked_only)
        if data.n_users < data.n_films:
            xp = torch.linalg.solve(x @ x.T + penalty * torch.eye(data.n_users), x)
        else:
            xp = torch.linalg.solve(x.T @ x + penalty * torch.eye(data.n_films), x.T).T
        diagonal = (1 - (x * xp).sum(0)) / penalty
        self.xb = x - xp / diagonal  # (U, F)

    def stars(self, users: Tensor, films: Tensor) -> None:  # noqa: ARG002
        """Return None: EASE does not predict stars."""
        return

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) their rows of X B"""
        return self.xb[users]
