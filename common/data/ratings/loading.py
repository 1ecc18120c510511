"""Load film ratings: MovieLens, the Netflix Prize's text files, and a planted sample with a known noise floor.

Ratings are a list of triples, so memory is proportional to their number; no users x films table is built.
`movielens.py` reads the published formats, `planted.py` generates the sample.

Dimensions: N ratings, U users, F films, K levels of rating.
"""

from typing import Literal

import torch
from torch import Tensor

from common.config import require
from common.data import published
from common.data.ratings.collection import WHOLE_STARS, Collection, Ratings, RatingSet, RatingSetName
from common.data.source import DataCard, DataUnavailable, data_dir, sha256_of

SplitName = Literal["random", "leave-out", "time"]

TEST_SHARE = 0.2
VALID_SHARE = 0.1
"""Share of the ratings outside the test split that is held out for validation."""


def load_ratings(
    name: RatingSetName | Literal["auto"],
    *,
    split: SplitName = "random",
    leave_out: int = 5,
    split_seed: int = 0,
    limit: int | None = None,
) -> RatingSet:
    """Load a data set by name; `auto` loads ml-latest-small, or the planted sample if that is not available.

    Raises DataUnavailable if a named set is not on disk and cannot be downloaded, ValueError, naming file and line, if
    a file on disk is not valid.
    """
    note = ""
    if name == "auto":
        name = "ml-latest-small"
        try:
            collection, source = _collect(name)
        except DataUnavailable:
            note = f"; {name} is not in {data_dir()} and cannot be downloaded"
            name = "planted"
            collection, source = _collect(name)
    else:
        collection, source = _collect(name)
    return divide(
        collection,
        name,
        source + note,
        split=split,
        leave_out=leave_out,
        split_seed=split_seed,
        limit=limit,
    )


def _collect(name: RatingSetName) -> tuple[Collection, str]:
    if name == "planted":
        from common.data.ratings import planted

        return planted.collect(), "embedded, drawn here"
    from common.data.ratings import movielens

    return movielens.collect(name), f"from {data_dir() / name}"


def divide(
    collection: Collection,
    name: str,
    source: str,
    *,
    split: SplitName,
    leave_out: int,
    split_seed: int,
    limit: int | None = None,
) -> RatingSet:
    """Split a collection into training, validation and test ratings, the same on every machine."""
    ratings = collection.ratings
    require(len(ratings) >= 10, f"{source} must hold at least 10 ratings", len(ratings))
    parts = split_ratings(ratings, split, leave_out=leave_out, split_seed=split_seed)
    sha256 = sha256_of(ratings.users, ratings.films, ratings.half_stars, ratings.times, *parts)
    train, valid, test = (part[:limit] for part in parts)
    floor = None
    if collection.expected_stars is not None:
        floor = float((collection.expected_stars[test] - ratings[test].stars).square().mean().sqrt())
    users, films = len(collection.user_ids), len(collection.film_ids)
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test"
    how = {"random": "random split", "leave-out": f"{leave_out} per user left out", "time": "split by time"}[split]
    description = f"{sizes} ({how}), {users:,} users, {films:,} films, {source}"
    step = 2 if name in WHOLE_STARS else 1
    if name in published.RELEASES:
        contents = {"ratings": sha256_of(ratings.users, ratings.films, ratings.half_stars, ratings.times)}
        card = published.card(name, sha256, description, {"ratings": len(ratings), "users": users}, contents)
    else:
        card = DataCard(name, name == "planted", sha256, description)
    return RatingSet(
        card=card,
        user_ids=collection.user_ids,
        film_ids=collection.film_ids,
        titles=collection.titles,
        levels=torch.arange(step, 11, step) / 2,
        train=ratings[train],
        valid=ratings[valid],
        test=ratings[test],
        noise_floor=floor,
    )


def split_ratings(
    ratings: Ratings, split: SplitName, *, leave_out: int = 5, split_seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the indices of the training, validation and test ratings.

    random      a fifth of all ratings is the test split, a tenth of the others the validation split
    leave-out   n ratings for testing and n for validation of each user with at least 4 n ratings
    time        the newest fifth is the test split, the newest tenth of the others the validation split
    """
    generator = torch.Generator().manual_seed(split_seed)
    shuffled = torch.randperm(len(ratings), generator=generator)
    if split == "leave-out":
        return _leave_out(ratings.users, shuffled, leave_out)
    newest_first = ratings.times[shuffled].argsort(descending=True, stable=True)  # ties keep the shuffled order
    order = shuffled if split == "random" else shuffled[newest_first]
    tested = round(TEST_SHARE * len(order))
    validated = round(VALID_SHARE * (len(order) - tested))
    test, valid, train = order.split([tested, validated, len(order) - tested - validated])
    return train, valid, test


def _leave_out(users: Tensor, shuffled: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hold out the first ratings of each user in a shuffled order: `count` for testing, then `count` for validation."""
    require(count >= 1, "--leave-out must be at least 1", count)
    by_user = shuffled[users[shuffled].argsort(stable=True)]
    rated = users.bincount()
    place = (
        torch.arange(len(users)) - (rated.cumsum(0) - rated)[users[by_user].long()]
    )  # index among the user's ratings
    enough = (rated >= 4 * count)[users[by_user].long()]
    test, valid = enough & (place < count), enough & (place >= count) & (place < 2 * count)
    if not test.any():
        raise ValueError(
            f"--leave-out {count} needs a user with {4 * count} ratings, but the largest number is {rated.max()}"
        )
    return by_user[~test & ~valid], by_user[valid], by_user[test]
