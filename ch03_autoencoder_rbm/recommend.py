"""Recommend films with a trained recommender; explain each recommendation by the person's own ratings.

    python -m ch03_autoencoder_rbm.recommend --user 42 --top 10
    python -m ch03_autoencoder_rbm.recommend --like "Toy Story (1995)" "Matrix, The (1999)" --dislike "Titanic (1997)"

A person is a list of rated films, from the data set or from the command line. The contribution of a rated film to a
recommendation is the difference between the predictions with and without it.

Dimensions: R rated films of the person, S subsets of them, F films, K levels, H hidden units.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ch03_autoencoder_rbm.films import recommender
from ch03_autoencoder_rbm.films.baseline_models.biases import USER_PRIOR, Biases
from ch03_autoencoder_rbm.films.binary_rbm import BinaryRBM
from ch03_autoencoder_rbm.films.evaluation import LIKED, like_probability, popularity
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.films.predictors import RatingRBM, cases_of, hidden_states, level_numbers
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Batch
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.ratings.collection import Ratings, RatingSet
from common.data.ratings.titles import Titles
from common.progress import console, say
from common.run_folders.folder import newest_run

GOOD, BAD = 5.0, 1.0
"""Stars of films given with --like and --dislike."""

COMMAND = "python -m ch03_autoencoder_rbm.recommend"


@dataclass(frozen=True)
class Options:
    """Flags of the program."""

    user: int | None = None
    """User ID in the data set."""
    like: tuple[str, ...] = ()
    """Titles of films that the person likes; with --user, in addition to that user's ratings."""
    dislike: tuple[str, ...] = ()
    """Titles of films that the person dislikes."""
    top: int = 10
    """Number of recommended films."""
    reasons: int = 2
    """Maximum number of rated films that explain each recommendation."""
    folder: Path | None = None
    """Run folder of the recommender; by default the newest finished run."""
    out: Path = Path("runs")
    """Folder of the runs."""

    def __post_init__(self) -> None:
        require_positive(self, "top")
        require(0 <= (self.user or 0) < 2**63, "--user must be between 0 and 2^63 - 1", self.user)
        require(self.reasons >= 0, "--reasons must not be negative", self.reasons)


@dataclass(frozen=True)
class Person:
    """Ratings of one person."""

    films: Tensor
    """(R,) int64 film indices"""
    stars: Tensor
    """(R,) float32 stars"""


@dataclass(frozen=True)
class Suggestion:
    """Recommended film, its expected stars, and the rated films that explain it."""

    film: int
    stars: float | None
    """Expected stars; None for the book's binary RBM, which cannot predict them."""
    because: tuple[tuple[int, float], ...]
    """Rated films and their contributions, in stars or, for the binary RBM, in log-odds."""


class FoldIn:
    """Gaussian RBM with films as cases: adds the person as a visible unit (fold-in by Bayesian linear regression).

    The weights w of the new unit, including its bias, predict the person's residuals e_f from the hidden states h_f of
    the films. The prior of w has the mean m and the variance t^2 of the weights of the trained units:

        e_f = w . h_f + noise of variance 1,    w ~ N(m, t^2)    =>    w = m + (H'H + I/t^2)^-1 H'(e - H m)
    """

    def __init__(self, model: GaussianRBM, known: Ratings, data: RatingSet) -> None:
        self.biases, self.step = Biases(known, data), float(data.levels[1] - data.levels[0])
        hidden = hidden_states(model, cases_of(model, known, "films", data, self.biases)).cpu().double()
        ones = hidden.new_ones(len(hidden), 1)  # for the bias
        self.hidden = torch.cat([hidden, ones], 1)  # (F, H + 1)
        present = known.users.unique().long()
        units = torch.cat([model.weight, model.visible_bias.unsqueeze(1)], 1).detach().cpu().double()[present]
        self.mean = units.mean(0)
        self.precision = 1 / units.var(0, correction=0).clamp(min=1e-4)

    def stars(self, person: Person) -> Tensor:
        """(F,) expected stars"""
        return self.versions(person, torch.ones(1, len(person.films), dtype=torch.float64))[0]

    def liking(self, person: Person) -> Tensor:
        """(F,) p(stars >= 4)"""
        return like_probability(self.stars(person), self.biases.sd, self.step)

    def without_each(self, person: Person) -> Tensor:
        """(R, F) expected stars without each of the person's films in turn"""
        kept = 1 - torch.eye(len(person.films), dtype=torch.float64)
        return torch.cat([self.versions(person, part) for part in kept.split(64)])

    def versions(self, person: Person, kept: Tensor) -> Tensor:
        """(S, R) subsets of the person's films, 1 for films in the subset -> (S, F) expected stars"""
        h = self.hidden[person.films]  # (R, H + 1)
        x = person.stars.double() - self.biases.mean - self.biases.film[person.films]
        user_bias = (kept @ x) / (kept.sum(1) + USER_PRIOR)  # ridge estimate, as in Biases
        e = (x - user_bias.unsqueeze(1)) / self.biases.sd - h @ self.mean  # (S, R)
        normal = torch.einsum("vr,ri,rj->vij", kept, h, h) + self.precision.diag()
        weight = self.mean + torch.linalg.solve(normal, (kept * e) @ h)  # (S, H + 1)
        baseline = self.biases.mean + self.biases.film + user_bias.unsqueeze(1)
        return (baseline + self.biases.sd * weight @ self.hidden.T).float()


class UserCases:
    """RBM with users as cases: the person is a new case, whose hidden units predict all films."""

    def __init__(self, model: RatingRBM, known: Ratings, data: RatingSet) -> None:
        self.model, self.data = model, data
        self.biases, self.step = Biases(known, data), float(data.levels[1] - data.levels[0])

    def stars(self, person: Person) -> Tensor:
        """(F,) expected stars, or log-odds for the binary RBM"""
        return self.versions(person, torch.ones(1, len(person.films), dtype=torch.bool))[0]

    def liking(self, person: Person) -> Tensor:
        """(F,) p(stars >= 4) of a softmax or Gaussian RBM"""
        if isinstance(self.model, SoftmaxRBM):
            every_film = torch.ones(1, len(person.films), dtype=torch.bool)
            return self.level_probabilities(self.model, person, every_film)[0, :, self.data.levels >= LIKED].sum(1)
        return like_probability(self.stars(person), self.biases.sd, self.step)

    def without_each(self, person: Person) -> Tensor:
        """(R, F) expected stars or log-odds without each of the person's films in turn"""
        kept = ~torch.eye(len(person.films), dtype=torch.bool)
        return torch.cat([self.versions(person, part) for part in kept.split(64)])

    @torch.inference_mode()
    def versions(self, person: Person, kept: Tensor) -> Tensor:
        """(S, R) subsets of the person's films -> (S, F) expected stars or log-odds"""
        model, films = self.model, torch.arange(self.data.n_films)
        if isinstance(model, BinaryRBM):
            return model.logits(model.hidden(_batch(kept & (person.stars >= LIKED), person.films, person.stars)))
        if isinstance(model, SoftmaxRBM):
            return self.level_probabilities(model, person, kept) @ self.data.levels
        x = person.stars - self.biases.mean - self.biases.film[person.films]
        user_bias = (kept.float() @ x) / (kept.sum(1) + USER_PRIOR)
        residuals = (x - user_bias.unsqueeze(1)) / self.biases.sd  # (S, R)
        hidden = model.hidden(_batch(kept, person.films, residuals))
        baseline = self.biases.mean + self.biases.film[films] + user_bias.unsqueeze(1)
        return baseline + self.biases.sd * (hidden @ model.weight.T + model.visible_bias)

    @torch.inference_mode()
    def level_probabilities(self, model: SoftmaxRBM, person: Person, kept: Tensor) -> Tensor:
        """(S, R) subsets of the person's films -> (S, F, K) probability of each level"""
        level = level_numbers((2 * person.stars).long(), self.data)
        hidden = model.hidden(_batch(kept, person.films, level))
        logits = torch.einsum("fkh,sh->sfk", model.weight, hidden) + model.visible_bias
        return logits.softmax(2)


def _batch(kept: Tensor, films: Tensor, values: Tensor) -> Batch:
    """(S, R) subsets, (R,) films, (R,) or (S, R) values -> a batch with one case for each subset"""
    rows, columns = kept.nonzero(as_tuple=True)
    counts = kept.sum(1)
    return Batch(films[columns], values.expand(kept.shape)[rows, columns], counts.cumsum(0) - counts, rows)


def suggest(
    model: RatingRBM, config: recommender.Config, data: RatingSet, person: Person, options: Options
) -> list[Suggestion]:
    """Recommend films that the person has not rated, best first.

    Raises ValueError for a softmax RBM with films as cases, which cannot represent a new person.
    """
    known = data.train + data.valid + data.test  # no evaluation here, so all ratings are used
    if config.cases == "users":
        predictor: FoldIn | UserCases = UserCases(model, known, data)
    elif isinstance(model, GaussianRBM):
        predictor = FoldIn(model, known, data)
    else:
        raise ValueError(
            "a softmax RBM with films as cases cannot recommend to a new person: train with --visible gaussian "
            "or --cases users"
        )
    value = predictor.stars(person)
    scores = value.clone()
    if not isinstance(model, BinaryRBM):
        scores = popularity(known, data.n_films) * predictor.liking(person)
    scores[person.films] = -torch.inf
    best = scores.topk(min(options.top, data.n_films - len(person.films))).indices
    contribution = value[best] - predictor.without_each(person)[:, best]  # (R, top)
    found = []
    for rank, film in enumerate(best.tolist()):
        order = contribution[:, rank].argsort(descending=True)[: options.reasons]
        because = tuple(
            (int(person.films[r]), float(contribution[r, rank])) for r in order if contribution[r, rank] > 0
        )
        found.append(
            Suggestion(film, None if isinstance(model, BinaryRBM) else float(value[film].clamp(0.5, 5)), because)
        )
    return found


def find_person(options: Options, data: RatingSet) -> Person:
    """Collect the ratings of the person given by the options.

    Raises ValueError for an unknown user, a user without ratings, an unknown title (with similar titles), a title that
    is both liked and disliked, or if neither a user nor a title is given.
    """
    films: dict[int, float] = {}
    if options.user is not None:
        index = int(torch.searchsorted(data.user_ids, options.user))
        if index >= data.n_users or data.user_ids[index] != options.user:
            low, high = int(data.user_ids[0]), int(data.user_ids[-1])
            raise ValueError(f"--user {options.user}: not in {data.card.name} (user IDs {low} to {high})")
        known = data.train + data.valid + data.test
        own = known[known.users == index]
        films |= dict(zip(own.films.tolist(), own.stars.tolist(), strict=True))
    given = {find_film(title, data): GOOD for title in options.like}
    for film in (find_film(title, data) for title in options.dislike):
        if film in given:
            raise ValueError(f"{data.titles[film]!r} is in both --like and --dislike: remove one")
        given[film] = BAD
    films |= given
    if options.user is not None and not films:
        raise ValueError(
            f"--user {options.user}: no ratings in the data of this run; add --like, or train without --limit"
        )
    if not films:
        raise ValueError(f'no person given: use {COMMAND} --user 42, or --like "{data.titles[0]}"')
    return Person(torch.tensor([*films]), torch.tensor([*films.values()]))


def find_film(title: str, data: RatingSet) -> int:
    """Return the index of a film by its title; of several with the same title, that with the most ratings.

    Case is ignored, the year is optional, and `The X` also finds `X, The`. Raises ValueError, with similar titles, if
    the title is unknown.
    """
    count = popularity(data.train + data.valid + data.test, data.n_films)
    return Titles(data.titles, count.tolist()).find(title, data.card.name)


def recommend(options: Options) -> list[Suggestion]:
    """Load a run; print and return the recommendations for the person."""
    folder = options.folder or newest_run(options.out, recommender)
    model, config, data = recommender.restore(folder)
    say("data", f"{data.card.name}: {data.n_users:,} users, {data.n_films:,} films")
    say("model", f"{config.visible} RBM, {config.cases} as cases, from {folder}")
    person = find_person(options, data)
    favourites = person.stars.argsort(descending=True, stable=True)[:5].tolist()
    named = ", ".join(f"{data.titles[person.films[r]]} {person.stars[r]:g}" for r in favourites)
    more = f", and {len(person.films) - 5:,} more" if len(person.films) > 5 else ""
    say("person", f"{named}{more}")
    found = suggest(model, config, data, person, options)
    print_table(found, data)
    return found


def print_table(found: list[Suggestion], data: RatingSet) -> None:
    """Print the recommendations, each with the rated films that explain it."""
    from rich import box
    from rich.table import Table

    table: Any = Table(box=box.SIMPLE)
    table.add_column("", justify="right")
    table.add_column("film")
    table.add_column("stars", justify="right")
    table.add_column("because of")
    for number, suggestion in enumerate(found, start=1):
        stars = "-" if suggestion.stars is None else f"{suggestion.stars:.2f}"
        because = ", ".join(f"{data.titles[film]} {change:+.2f}" for film, change in suggestion.because)
        table.add_row(str(number), data.titles[suggestion.film], stars, because or "popularity")
    console().print(table)


def main(words: list[str] | None = None) -> None:
    """Run the program from the command line."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        recommend(parse(Options, arguments, prog=COMMAND, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
