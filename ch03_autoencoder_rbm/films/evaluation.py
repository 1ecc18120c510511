"""Evaluate recommenders on held-out ratings: error in stars, and ranking metrics of ten recommendations.

Every predictor declares its input ratings (`known`). `evaluate` raises an error if they contain a rating to predict. In
a published example, such a leak caused nearly all of the precision@10
(https://github.com/recommenders-team/recommenders/pull/2359).

Dimensions: N ratings, B users, F films.
"""

from typing import Protocol

import torch
from torch import Tensor

from common.config import require
from common.data.ratings.collection import Ratings, RatingSet

TOP = 10
"""Number of recommendations per user."""

LIKED = 4.0
"""Minimum number of stars of a liked film."""

RANKED_USERS = 2_000
"""Maximum number of users in the ranking metrics; a fixed random sample if there are more."""

CHUNK = 64
"""Number of users whose films are ranked at once, as a (CHUNK, F) matrix."""

LARGEST_TABLE = 500_000_000
"""Maximum number of users x films of the baselines that need a dense matrix (2 GB)."""


class Predictor(Protocol):
    """Interface of recommenders for evaluation."""

    known: Ratings
    """All input ratings of the predictor: those that it was fitted to, and those that it predicts from."""

    def stars(self, users: Tensor, films: Tensor) -> Tensor | None:
        """(N,) users, (N,) films -> (N,) expected stars; None if it cannot predict stars"""
        ...

    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) ranking scores; the films with the highest scores are recommended"""
        ...


def evaluate(predictor: Predictor, held_out: Ratings, n_films: int, *, ranked: bool = True) -> dict[str, float]:
    """Compute the errors of a predictor on held-out ratings and, if `ranked`, the metrics of its recommendations.

    Raises ValueError if the predictor's input contains held-out ratings.
    """
    leaked = overlap(predictor.known, held_out, n_films)
    if leaked:
        raise ValueError(
            f"{leaked:,} of the {len(held_out):,} ratings to predict are in the predictor's input: "
            "remove them from its input"
        )
    return measure(predictor, held_out, n_films, ranked=ranked)


def overlap(known: Ratings, held_out: Ratings, n_films: int) -> int:
    """Count the held-out ratings whose user and film also have a known rating."""
    return int(torch.isin(_pairs(held_out, n_films), _pairs(known, n_films)).sum())


def _pairs(ratings: Ratings, n_films: int) -> Tensor:
    return ratings.users.long() * n_films + ratings.films


def measure(predictor: Predictor, held_out: Ratings, n_films: int, *, ranked: bool = True) -> dict[str, float]:
    """Compute errors and ranking metrics without the check for leaked ratings; use `evaluate` instead."""
    stars = predictor.stars(held_out.users.long(), held_out.films.long())
    errors = {} if stars is None else star_errors(stars, held_out.stars)
    return {**errors, **(ranking(predictor, held_out, n_films) if ranked else {})}


def star_errors(predicted: Tensor, stars: Tensor) -> dict[str, float]:
    """Compute the root mean squared and mean absolute error in stars; predictions are clamped to 0.5 ... 5."""
    error = predicted.cpu().clamp(0.5, 5.0) - stars
    return {"rmse": float(error.square().mean().sqrt()), "mae": float(error.abs().mean())}


def ranking(predictor: Predictor, held_out: Ratings, n_films: int) -> dict[str, float]:
    """Compute precision, recall and NDCG of ten recommendations, and the coverage of the film catalogue.

    A film is relevant if its rating by the user is held out and has four stars or more. Candidates are all films
    without a known rating by the user. Coverage is the fraction of films recommended to at least one user. The other
    metrics are means over users with a relevant film:

        precision@10 = hits / 10,    recall@10 = hits / relevant
        NDCG@10      = sum over hits of 1 / log2(1 + rank), divided by its value for a perfect ranking
    """
    relevant = held_out[held_out.stars >= LIKED]
    users = torch.unique(relevant.users.long())
    if len(users) == 0:
        return {}
    if len(users) > RANKED_USERS:
        chosen = torch.randperm(len(users), generator=torch.Generator().manual_seed(0))[:RANKED_USERS]
        users = users[chosen.sort().values]
    top = min(TOP, n_films)
    hits, recommended = [], torch.zeros(n_films, dtype=torch.bool)
    wanted = _pairs(relevant, n_films)
    for part in users.split(CHUNK):
        scores = predictor.scores(part).float().cpu().clone()
        mask_known(scores, part, predictor.known)
        films = scores.topk(top, dim=1).indices
        recommended[films] = True
        hits.append(torch.isin(part.unsqueeze(1) * n_films + films, wanted))
    hit = torch.cat(hits).double()
    count = relevant.users.bincount(minlength=int(users.max()) + 1)[users]
    discount = 1 / (torch.arange(top, dtype=torch.float64) + 2).log2()
    ideal = discount.cumsum(0)[count.clamp(max=top) - 1]
    return {
        "precision_at_10": float(hit.sum(1).mean() / TOP),
        "recall_at_10": float((hit.sum(1) / count).mean()),
        "ndcg_at_10": float(((hit * discount).sum(1) / ideal).mean()),
        "coverage": float(recommended.float().mean()),
    }


def mask_known(scores: Tensor, users: Tensor, known: Ratings) -> None:
    """Set the (B, F) scores of films with a known rating by the user to -inf; users are in ascending order."""
    mine = torch.isin(known.users, users)
    rows = torch.searchsorted(users, known.users[mine].long())
    scores[rows, known.films[mine].long()] = -torch.inf


def popularity(known: Ratings, n_films: int) -> Tensor:
    """Count the known ratings of each film: (F,)."""
    return known.films.bincount(minlength=n_films).float()


def like_probability(mean: Tensor, sd: float, step: float) -> Tensor:
    """Compute p(stars >= 4) for normally distributed ratings with the given mean: 1 - Phi((threshold - mean) / sd)."""
    threshold = LIKED - step / 2  # halfway between the lowest liked level and the level below
    return torch.special.ndtr((mean - threshold) / sd)


def interactions(known: Ratings, data: RatingSet, *, liked_only: bool) -> Tensor:
    """Make a (U, F) matrix with 1 for films that the user liked (four stars or more), or rated if not `liked_only`.

    Raises ValueError if the matrix is too large.
    """
    size = data.n_users * data.n_films
    require(size <= LARGEST_TABLE, f"this baseline needs at most {LARGEST_TABLE:,} users x films in memory", size)
    if liked_only:
        known = known[known.stars >= LIKED]
    x = torch.zeros(data.n_users, data.n_films)
    x[known.users.long(), known.films.long()] = 1
    return x
