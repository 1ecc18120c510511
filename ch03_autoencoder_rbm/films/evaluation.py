"""How good a recommender is: errors of its stars, and what its ten suggestions hit. Held-out ratings only.

Every predictor says which ratings it was given (`known`), and `evaluate` refuses one that was given a rating which it
is to predict: that mistake has made a published recommender look many times better than it was.

Dimensions: N ratings, B users, F films.
"""

from typing import Protocol

import torch
from torch import Tensor

from common.data.ratings.collection import Ratings

TOP = 10
LIKED = 4.0
"""Stars from which on a film counts as liked."""

RANKED_USERS = 2_000
"""Rankings are measured on so many users at most, drawn once."""

CHUNK = 64
"""Users ranked at once: a table of CHUNK x films."""


class Predictor(Protocol):
    """What can be measured."""

    known: Ratings
    """The ratings that it was given, as training or as input."""

    def stars(self, users: Tensor, films: Tensor) -> Tensor | None:
        """(N,), (N,) -> (N,) expected stars; None where it has no idea of stars"""
        ...

    def scores(self, users: Tensor) -> Tensor:
        """(B,) -> (B, F) the higher, the sooner suggested"""
        ...


def evaluate(predictor: Predictor, held_out: Ratings, n_films: int, *, ranked: bool = True) -> dict[str, float]:
    """Measure a predictor on ratings that it has not seen, its ten suggestions too unless they are not asked for.

    Raises ValueError where it has seen some of them.
    """
    seen = overlap(predictor.known, held_out, n_films)
    if seen:
        raise ValueError(
            f"{seen:,} of the {len(held_out):,} ratings to predict are among those that the predictor was given: "
            "its figures would mean nothing"
        )
    return measure(predictor, held_out, n_films, ranked=ranked)


def overlap(known: Ratings, held_out: Ratings, n_films: int) -> int:
    """Count the held-out ratings whose user and film are among the known ones."""
    return int(torch.isin(_pairs(held_out, n_films), _pairs(known, n_films)).sum())


def _pairs(ratings: Ratings, n_films: int) -> Tensor:
    return ratings.users.long() * n_films + ratings.films


def measure(predictor: Predictor, held_out: Ratings, n_films: int, *, ranked: bool = True) -> dict[str, float]:
    """Errors and ranking, without asking what the predictor has seen: `evaluate` is the honest way in."""
    stars = predictor.stars(held_out.users.long(), held_out.films.long())
    errors = {} if stars is None else star_errors(stars, held_out.stars)
    return {**errors, **(ranking(predictor, held_out, n_films) if ranked else {})}


def star_errors(predicted: Tensor, stars: Tensor) -> dict[str, float]:
    """Root mean squared and mean absolute error in stars; predictions are cut to the scale."""
    error = predicted.cpu().clamp(0.5, 5.0) - stars
    return {"rmse": float(error.square().mean().sqrt()), "mae": float(error.abs().mean())}


def ranking(predictor: Predictor, held_out: Ratings, n_films: int) -> dict[str, float]:
    """Precision, recall and NDCG of ten suggestions, and the share of all films that anybody is suggested.

    Relevant are the held-out films that their user liked; suggested can be every film that is not known of the user.
    Averages over the users with a relevant film:

        precision@10 = hits / 10,    recall@10 = hits / relevant
        NDCG@10      = sum over hits of 1 / log2(1 + place), divided by its value were every relevant film on top
    """
    relevant = held_out[held_out.stars >= LIKED]
    users = torch.unique(relevant.users.long())
    if len(users) == 0:
        return {}
    if len(users) > RANKED_USERS:
        chosen = torch.randperm(len(users), generator=torch.Generator().manual_seed(0))[:RANKED_USERS]
        users = users[chosen.sort().values]
    top = min(TOP, n_films)
    hits, suggested = [], torch.zeros(n_films, dtype=torch.bool)
    wanted = _pairs(relevant, n_films)
    for part in users.split(CHUNK):
        scores = predictor.scores(part).float().cpu().clone()
        mask_known(scores, part, predictor.known)
        films = scores.topk(top, dim=1).indices
        suggested[films] = True
        hits.append(torch.isin(part.unsqueeze(1) * n_films + films, wanted))
    hit = torch.cat(hits).double()
    count = relevant.users.bincount(minlength=int(users.max()) + 1)[users]
    discount = 1 / (torch.arange(top, dtype=torch.float64) + 2).log2()
    ideal = discount.cumsum(0)[count.clamp(max=top) - 1]
    return {
        "precision_at_10": float(hit.sum(1).mean() / TOP),
        "recall_at_10": float((hit.sum(1) / count).mean()),
        "ndcg_at_10": float(((hit * discount).sum(1) / ideal).mean()),
        "coverage": float(suggested.float().mean()),
    }


def mask_known(scores: Tensor, users: Tensor, known: Ratings) -> None:
    """Rule out, in (B, F) scores of users in ascending order, the films that each of them is known to have rated."""
    mine = torch.isin(known.users, users)
    rows = torch.searchsorted(users, known.users[mine].long())
    scores[rows, known.films[mine].long()] = -torch.inf


def popularity(known: Ratings, n_films: int) -> Tensor:
    """(F,) how many known ratings each film has"""
    return known.films.bincount(minlength=n_films).float()


def chance_of_liking(mean: Tensor, sd: float, step: float) -> Tensor:
    """Chance that a rating is a like, were it normal around the predicted mean: 1 - Phi((border - mean) / sd)"""
    border = LIKED - step / 2  # half-way between the least liked level and the one below
    return torch.special.ndtr((mean - border) / sd)
