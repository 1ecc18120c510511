"""Suggest films with what the recommender has learned, and say which of the person's own films drove each suggestion.

    python -m ch03_autoencoder_rbm.recommend --user 42 --top 10
    python -m ch03_autoencoder_rbm.recommend --like "Toy Story (1995)" "Matrix, The (1999)" --dislike "Titanic (1997)"

A person is a list of films and stars, from the data or from the command line. To explain a suggestion each of those
films is taken away in turn, and the suggestion made anew: what it loses is what the film contributed.

Dimensions: R rated films of the person, F films, H hidden units.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ch03_autoencoder_rbm.films import recommender
from ch03_autoencoder_rbm.films.baselines import USER_PRIOR, Biases
from ch03_autoencoder_rbm.films.binary_rbm import BinaryRBM
from ch03_autoencoder_rbm.films.evaluation import LIKED, chance_of_liking, popularity
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.films.predictors import Machine, cases_of, hidden_states, level_numbers
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Batch
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.ratings.collection import Ratings, RatingSet
from common.data.ratings.titles import Titles
from common.folder import newest_run
from common.progress import console, say

GOOD, BAD = 5.0, 1.0
"""Stars that --like and --dislike stand for."""

DOOR = "python -m ch03_autoencoder_rbm.recommend"


@dataclass(frozen=True)
class Options:
    """For whom, and how many."""

    user: int | None = None
    """A user of the data set, by the data set's own number."""
    like: tuple[str, ...] = ()
    """Titles that a new person likes (or, with --user, that user besides)."""
    dislike: tuple[str, ...] = ()
    """Titles that the person does not like."""
    top: int = 10
    """How many films to suggest."""
    reasons: int = 2
    """How many driving films to name beside each suggestion."""
    folder: Path | None = None
    """Run folder of the recommender; by default the newest finished one."""
    out: Path = Path("runs")
    """Where runs are looked for."""

    def __post_init__(self) -> None:
        require_positive(self, "top")
        require(0 <= (self.user or 0) < 2**63, "--user must be between 0 and 2^63 - 1", self.user)
        require(self.reasons >= 0, "--reasons must not be negative", self.reasons)


@dataclass(frozen=True)
class Person:
    """What somebody has said about films."""

    films: Tensor
    """(R,) int64"""
    stars: Tensor
    """(R,) float32"""


@dataclass(frozen=True)
class Suggestion:
    """A film, how much the person will like it, and why."""

    film: int
    stars: float | None
    """Expected stars; None for the book's machine, which has no idea of them."""
    because: tuple[tuple[int, float], ...]
    """Films of the person, each with what the suggestion loses without it: stars, or log-odds where there are none."""


class Folded:
    """A Gaussian machine with films as cases, and a new visible unit for a person: Bayesian linear regression.

    The unit's weights w and bias explain the person's residuals e_f by the films' hidden states h_f; the trained units
    say what to expect of them, mean m and variance t^2 a weight:

        e_f = w . h_f + noise of variance 1,    w ~ N(m, t^2)    =>    w = m + (H'H + I/t^2)^-1 H'(e - H m)
    """

    def __init__(self, model: GaussianRBM, known: Ratings, data: RatingSet) -> None:
        self.biases, self.step = Biases(known, data), float(data.levels[1] - data.levels[0])
        hidden = hidden_states(model, cases_of(model, known, "films", data, self.biases)).cpu().double()
        self.hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)  # (F, H + 1): the last is the unit's bias
        present = known.users.unique().long()
        units = torch.cat([model.weight, model.visible_bias.unsqueeze(1)], 1).detach().cpu().double()[present]
        self.mean = units.mean(0)
        self.precision = 1 / units.var(0, correction=0).clamp(min=1e-4)

    def stars(self, person: Person) -> Tensor:
        """(F,) expected stars"""
        return self.versions(person, torch.ones(1, len(person.films), dtype=torch.float64))[0]

    def liking(self, person: Person) -> Tensor:
        """(F,) chance of liking"""
        return chance_of_liking(self.stars(person), self.biases.sd, self.step)

    def without_each(self, person: Person) -> Tensor:
        """(R, F) expected stars when each film of the person is taken away"""
        kept = 1 - torch.eye(len(person.films), dtype=torch.float64)
        return torch.cat([self.versions(person, part) for part in kept.split(64)])

    def versions(self, person: Person, kept: Tensor) -> Tensor:
        """(V, R) zeros and ones that say which films each version of the person keeps -> (V, F) expected stars"""
        h = self.hidden[person.films]  # (R, H + 1)
        x = person.stars.double() - self.biases.mean - self.biases.film[person.films]
        generosity = (kept @ x) / (kept.sum(1) + USER_PRIOR)  # the ridge estimate of the person's own bias
        e = (x - generosity.unsqueeze(1)) / self.biases.sd - h @ self.mean  # (V, R)
        normal = torch.einsum("vr,ri,rj->vij", kept, h, h) + self.precision.diag()
        weight = self.mean + torch.linalg.solve(normal, (kept * e) @ h)  # (V, H + 1)
        usual = self.biases.mean + self.biases.film + generosity.unsqueeze(1)
        return (usual + self.biases.sd * weight @ self.hidden.T).float()


class Seen:
    """A machine with users as cases: the person's films go in, the hidden units answer for every film."""

    def __init__(self, model: Machine, known: Ratings, data: RatingSet) -> None:
        self.model, self.data = model, data
        self.biases, self.step = Biases(known, data), float(data.levels[1] - data.levels[0])

    def stars(self, person: Person) -> Tensor:
        """(F,) expected stars, or log-odds of the book's machine"""
        return self.versions(person, torch.ones(1, len(person.films), dtype=torch.bool))[0]

    def liking(self, person: Person) -> Tensor:
        """(F,) chance of liking, by a softmax machine's own word; the book's machine has none"""
        if isinstance(self.model, SoftmaxRBM):
            everything = torch.ones(1, len(person.films), dtype=torch.bool)
            return self.chances(self.model, person, everything)[0, :, self.data.levels >= LIKED].sum(1)
        return chance_of_liking(self.stars(person), self.biases.sd, self.step)

    def without_each(self, person: Person) -> Tensor:
        """(R, F) the same when each film of the person is taken away"""
        kept = ~torch.eye(len(person.films), dtype=torch.bool)
        return torch.cat([self.versions(person, part) for part in kept.split(64)])

    @torch.inference_mode()
    def versions(self, person: Person, kept: Tensor) -> Tensor:
        """(V, R) which films each version of the person keeps -> (V, F)"""
        model, films = self.model, torch.arange(self.data.n_films)
        if isinstance(model, BinaryRBM):
            return model.logits(model.hidden(_batch(kept & (person.stars >= LIKED), person.films, person.stars)))
        if isinstance(model, SoftmaxRBM):
            return self.chances(model, person, kept) @ self.data.levels
        x = person.stars - self.biases.mean - self.biases.film[person.films]
        generosity = (kept.float() @ x) / (kept.sum(1) + USER_PRIOR)
        residuals = (x - generosity.unsqueeze(1)) / self.biases.sd  # (V, R)
        hidden = model.hidden(_batch(kept, person.films, residuals))
        usual = self.biases.mean + self.biases.film[films] + generosity.unsqueeze(1)
        return usual + self.biases.sd * (hidden @ model.weight.T + model.visible_bias)

    @torch.inference_mode()
    def chances(self, model: SoftmaxRBM, person: Person, kept: Tensor) -> Tensor:
        """(V, R) which films each version of the person keeps -> (V, F, K) how probable each level is"""
        level = level_numbers((2 * person.stars).long(), self.data)
        hidden = model.hidden(_batch(kept, person.films, level))
        logits = torch.einsum("fkh,vh->vfk", model.weight, hidden) + model.visible_bias
        return logits.softmax(2)


def _batch(kept: Tensor, films: Tensor, values: Tensor) -> Batch:
    """(V, R) kept, (R,) films, (R,) or (V, R) values -> a batch whose cases are the versions of the person"""
    rows, places = kept.nonzero(as_tuple=True)
    counts = kept.sum(1)
    return Batch(films[places], values.expand(kept.shape)[rows, places], counts.cumsum(0) - counts, rows)


def suggest(
    model: Machine, config: recommender.Config, data: RatingSet, person: Person, options: Options
) -> list[Suggestion]:
    """Suggest films that the person has not rated, best first."""
    known = data.train + data.valid + data.test  # no evaluation here: every rating may help
    if config.by == "users":
        machine: Folded | Seen = Seen(model, known, data)
    elif isinstance(model, GaussianRBM):
        machine = Folded(model, known, data)
    else:
        raise ValueError(
            "a softmax machine with films as cases has no place for a new person: train the default, "
            "or add --cases users"
        )
    value = machine.stars(person)
    scores = value.clone()
    if not isinstance(model, BinaryRBM):
        scores = popularity(known, data.n_films) * machine.liking(person)
    scores[person.films] = -torch.inf
    best = scores.topk(min(options.top, data.n_films - len(person.films))).indices
    loss = value[best] - machine.without_each(person)[:, best]  # (R, top)
    found = []
    for place, film in enumerate(best.tolist()):
        order = loss[:, place].argsort(descending=True)[: options.reasons]
        drove = tuple((int(person.films[r]), float(loss[r, place])) for r in order if loss[r, place] > 0)
        found.append(
            Suggestion(film, None if isinstance(model, BinaryRBM) else float(value[film].clamp(0.5, 5)), drove)
        )
    return found


def find_person(options: Options, data: RatingSet) -> Person:
    """Turn a user's number and titles into films and stars.

    Raises ValueError for an unknown user or one without ratings, an unknown title (with those that it may mean), or
    nobody at all.
    """
    films: dict[int, float] = {}
    if options.user is not None:
        place = int(torch.searchsorted(data.user_ids, options.user))
        if place >= data.n_users or data.user_ids[place] != options.user:
            low, high = int(data.user_ids[0]), int(data.user_ids[-1])
            raise ValueError(f"there is no user {options.user} in {data.card.name}: its users are {low} to {high}")
        known = data.train + data.valid + data.test
        mine = known[known.users == place]
        films |= dict(zip(mine.films.tolist(), mine.stars.tolist(), strict=True))
    wishes = {find_film(title, data): GOOD for title in options.like}
    for film in (find_film(title, data) for title in options.dislike):
        if film in wishes:
            raise ValueError(f"{data.titles[film]!r} is both liked and disliked: say one of them")
        wishes[film] = BAD
    films |= wishes
    if options.user is not None and not films:
        raise ValueError(
            f"user {options.user} has no rating among those that this run was given: "
            "give --like, or train without --limit"
        )
    if not films:
        raise ValueError(f'for whom? try {DOOR} --user 42, or --like "{data.titles[0]}"')
    return Person(torch.tensor([*films]), torch.tensor([*films.values()]))


def find_film(title: str, data: RatingSet) -> int:
    """Find a film by its title, whatever the case, with or without its year, `The X` for `X, The`; of several films
    with one title the one most rated.

    Raises ValueError with the nearest titles where there is none.
    """
    count = popularity(data.train + data.valid + data.test, data.n_films)
    return Titles(data.titles, count.tolist()).find(title, data.card.name)


def recommend(options: Options) -> list[Suggestion]:
    """Load a run, find the person, print the suggestions and return them."""
    folder = options.folder or newest_run(options.out, recommender)
    model, config, data = recommender.restore(folder)
    say("data", f"{data.card.name}: {data.n_users:,} users, {data.n_films:,} films")
    say("machine", f"{config.visible} RBM, {config.by} as cases, from {folder}")
    person = find_person(options, data)
    favourites = person.stars.argsort(descending=True, stable=True)[:5].tolist()
    named = ", ".join(f"{data.titles[person.films[r]]} {person.stars[r]:g}" for r in favourites)
    more = f", and {len(person.films) - 5:,} more" if len(person.films) > 5 else ""
    say("person", f"{named}{more}")
    found = suggest(model, config, data, person, options)
    print_table(found, data)
    return found


def print_table(found: list[Suggestion], data: RatingSet) -> None:
    """Print the suggestions, each with the films that drove it."""
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
        table.add_row(str(number), data.titles[suggestion.film], stars, because or "what most people like")
    console().print(table)


def main(words: list[str] | None = None) -> None:
    """Read the command line."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        recommend(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
