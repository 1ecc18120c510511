"""Types of rating data: ratings, a complete data set, and a data set in three splits.

Dimensions: N ratings, U users, F films, K levels of rating.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.data.source import DataCard

RatingSetName = Literal["ml-latest-small", "ml-100k", "ml-1m", "ml-25m", "netflix", "planted"]

WHOLE_STARS = ("ml-100k", "ml-1m", "netflix")
"""Sets whose ratings are 1, 2 ... 5; the others have half stars, 0.5 to 5."""


@dataclass(frozen=True)
class Ratings:
    """Ratings: user, film, half stars and time of each."""

    users: Tensor
    """(N,) int32, 0 <= user < U"""
    films: Tensor
    """(N,) int32, 0 <= film < F"""
    half_stars: Tensor
    """(N,) uint8, 1 ... 10"""
    times: Tensor
    """(N,) int64, seconds since 1970"""

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: slice | Tensor) -> "Ratings":
        return Ratings(self.users[index], self.films[index], self.half_stars[index], self.times[index])

    @property
    def stars(self) -> Tensor:
        """(N,) float32, 0.5 ... 5"""
        return self.half_stars.float() / 2

    def __add__(self, other: "Ratings") -> "Ratings":
        return Ratings(
            torch.cat([self.users, other.users]),
            torch.cat([self.films, other.films]),
            torch.cat([self.half_stars, other.half_stars]),
            torch.cat([self.times, other.times]),
        )


@dataclass(frozen=True)
class Collection:
    """All ratings of a data set, in the order of its files, with the ids of users and films and the titles."""

    ratings: Ratings
    user_ids: Tensor
    """(U,) id of each user in the data set, ascending"""
    film_ids: Tensor
    """(F,) id of each rated film in the data set, ascending"""
    titles: tuple[str, ...]
    expected_stars: Tensor | None = None
    """(N,) expectation of each rating, for planted data"""


@dataclass(frozen=True)
class RatingSet:
    """A data set in three splits. Choose models on `valid`; use `test` once, at the end."""

    card: DataCard
    user_ids: Tensor
    film_ids: Tensor
    titles: tuple[str, ...]
    levels: Tensor
    """(K,) possible ratings in stars, ascending"""
    train: Ratings
    valid: Ratings
    test: Ratings
    noise_floor: float | None = None
    """RMSE on `test` of the expected ratings; None if they are unknown."""

    @property
    def n_users(self) -> int:
        """U"""
        return len(self.user_ids)

    @property
    def n_films(self) -> int:
        """F"""
        return len(self.film_ids)
