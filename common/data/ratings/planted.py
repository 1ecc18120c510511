"""Generate film ratings from known user and film factors, so that the lowest possible error is known.

A rating is a sum of a mean, user and film biases, an interaction of factors and noise, rounded to half stars:

    x_ui = 3.5 + b_u + c_i + p_u . q_i,    r_ui = the half star nearest to x_ui + e,  e ~ N(0, 0.7^2)

Given x_ui, the probabilities of the half stars are known, hence their mean and variance. No prediction has a smaller
expected squared error than the mean of these variances. Users rate films that they like more often. The sample is
written and read in MovieLens's format.

Dimensions: U users, F films, D factors, K = 10 half stars.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from common.data.ratings.collection import Collection, Ratings

SEED = 20_261_120
USERS, FILMS, MEAN_RATED = 600, 800, 150
TASTE = 3
NOISE = 0.7
CHUNK = 500
"""Users drawn at once; memory holds a table of these users x films."""

START, SPAN = 946_684_800, 630_000_000
"""Start of 2000, and length of the rating period (about twenty years), in seconds."""

FIRST = (
    *("Amber", "Borrowed", "Broken", "Clockwork", "Crimson", "Distant", "Electric", "Forgotten", "Frozen", "Gentle"),
    *("Golden", "Hidden", "Hollow", "Last", "Midnight", "Paper", "Patient", "Salt", "Silent", "Wandering"),
)
SECOND = (
    *("Archive", "Bridge", "Cartographer", "Compass", "Ferry", "Garden", "Harbour", "Lantern", "Lighthouse", "Orchard"),
    *("Parade", "Quarry", "Signal", "Summer", "Voyage"),
)
KIND = ("The {}", "Return to the {}", "Beyond the {}", "Children of the {}")


def collect() -> Collection:
    """Draw the sample, the same on every machine, and read it like a MovieLens file."""
    from common.data.ratings.movielens import Table, assemble, check_scale, read_table

    ratings, expected = draw(USERS, FILMS, MEAN_RATED, torch.Generator().manual_seed(SEED))
    rows = zip(
        ratings.users.tolist(), ratings.films.tolist(), ratings.stars.tolist(), ratings.times.tolist(), strict=True
    )
    lines = [f"{user + 1},{film + 1},{stars},{time}" for user, film, stars, time in rows]
    text = "\n".join(["userId,movieId,rating,timestamp", *lines, ""])
    table: Table = read_table(Path("planted/ratings.csv"), text.encode())
    check_scale(table, half_stars=True)
    read = assemble([table], {number + 1: title for number, title in enumerate(titles(FILMS))})
    return Collection(read.ratings, read.user_ids, read.film_ids, read.titles, expected)


class Films(NamedTuple):
    """Film biases c (F,), factors q (F, D), and fame (F,), which makes a film rated more often."""

    c: Tensor
    q: Tensor
    fame: Tensor


def draw_films(films: int, generator: torch.Generator) -> Films:
    """Draw the films' biases, factors and fame."""
    return Films(
        c=0.35 * _normal(generator, films), q=_normal(generator, films, TASTE), fame=1.0 * _normal(generator, films)
    )


def draw(users: int, films: int, mean_rated: int, generator: torch.Generator) -> tuple[Ratings, Tensor]:
    """Draw ratings, about `mean_rated` per user; return them and the (N,) expectation of each."""
    return draw_users(users, draw_films(films, generator), mean_rated, generator)


def draw_users(users: int, given: Films, mean_rated: int, generator: torch.Generator) -> tuple[Ratings, Tensor]:
    """Draw users and their ratings of the given films; return them and the (N,) expectation of each."""
    (c, q, fame), films = given, len(given.c)
    parts, means = [], []
    for first in range(0, users, CHUNK):
        count = min(CHUNK, users - first)
        b, p = 0.35 * _normal(generator, count, 1), 0.5 / math.sqrt(TASTE) * _normal(generator, count, TASTE)
        x = 3.5 + b + c + p @ q.T  # (count, F)
        # The n films with the largest score + Gumbel noise are a sample without replacement, weighted by exp(score).
        gumbel = -torch.rand(count, films, generator=generator).clamp_(min=1e-20).log_().neg_().log_()
        order = (fame + (x - 3.5) + gumbel).argsort(1, descending=True)
        rated = (mean_rated * torch.empty(count).log_normal_(-0.125, 0.5, generator=generator)).clamp(8, films // 2)
        chosen = torch.arange(films) < rated.long().unsqueeze(1)
        user, place = chosen.nonzero(as_tuple=True)
        film = order[user, place]
        probability = level_probabilities(x[user, film])
        uniform = torch.rand(len(user), 1, generator=generator)
        half_stars = 1 + (probability.cumsum(1)[:, :-1] < uniform).sum(1)
        times = START + (SPAN * torch.rand(len(user), generator=generator, dtype=torch.float64)).long()
        parts.append(Ratings((first + user).int(), film.int(), half_stars.to(torch.uint8), times))
        means.append(probability @ (torch.arange(1, 11) / 2))
    whole = Ratings(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    return whole, torch.cat(means)


def level_probabilities(x: Tensor) -> Tensor:
    """(N,) -> (N, K) probability that x plus noise rounds to each half star; values beyond an end round to it"""
    borders = torch.arange(1, 10) / 2 + 0.25
    below = torch.special.ndtr((borders - x.unsqueeze(1)) / NOISE)  # P(x + e < border)
    ends = x.new_zeros(len(x), 1), x.new_ones(len(x), 1)
    return torch.cat([below, ends[1]], 1) - torch.cat([ends[0], below], 1)


def titles(count: int) -> list[str]:
    """Generate a number of different titles, each with a year."""
    assert count <= len(FIRST) * len(SECOND) * len(KIND)
    words = [(first, second, kind) for kind in KIND for second in SECOND for first in FIRST]
    return [kind.format(f"{a} {b}") + f" ({1950 + 37 * n % 70})" for n, (a, b, kind) in enumerate(words[:count])]


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)
