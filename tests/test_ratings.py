"""Ratings: every published format, one-line errors, disjoint splits, and the planted sample."""

import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data import source
from common.data.ratings import movielens, planted
from common.data.ratings.collection import Ratings
from common.data.ratings.loading import load_ratings, split_ratings

SMALL = [(1, 10, 4.0, 1000), (1, 20, 3.5, 1001), (7, 10, 0.5, 1002), (9, 30, 5.0, 999)] + [
    (user, 40 + user, 3.0, 2000 + user) for user in range(100, 110)
]
WHOLE = [(user, film, float(round(stars + 0.1)), time) for user, film, stars, time in SMALL]


def write_set(name, rows, titles=None):
    folder = source.data_dir() / name
    folder.mkdir(parents=True)
    films = sorted({film for _, film, _, _ in rows})
    titles = titles or {film: f"Film {film} (1990)" for film in films}
    if name in ("ml-latest-small", "ml-25m"):
        lines = [f"{user},{film},{stars},{time}" for user, film, stars, time in rows]
        (folder / "ratings.csv").write_bytes("\r\n".join(["userId,movieId,rating,timestamp", *lines, ""]).encode())
        quoted = [f'{film},"{title}",Drama' for film, title in titles.items()]
        (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *quoted, ""]))
    elif name == "ml-1m":
        lines = [f"{user}::{film}::{stars:g}::{time}" for user, film, stars, time in rows]
        (folder / "ratings.dat").write_text("\n".join([*lines, ""]))
        lines = [f"{film}::{title}::Drama" for film, title in titles.items()]
        (folder / "movies.dat").write_bytes("\n".join([*lines, ""]).encode("latin-1"))
    elif name == "ml-100k":
        lines = [f"{user}\t{film}\t{stars:g}\t{time}" for user, film, stars, time in rows]
        (folder / "u.data").write_text("\n".join([*lines, ""]))
        lines = [f"{film}|{title}|01-Jan-1990||http://x|0|1" for film, title in titles.items()]
        (folder / "u.item").write_bytes("\n".join([*lines, ""]).encode("latin-1"))
    return folder


def triples(collection):
    r = collection.ratings
    return list(
        zip(
            collection.user_ids[r.users.long()].tolist(),
            collection.film_ids[r.films.long()].tolist(),
            r.stars.tolist(),
            r.times.tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize("name", ["ml-latest-small", "ml-25m", "ml-1m", "ml-100k"])
def test_written_ratings_are_read_back(name):
    rows = SMALL if name in ("ml-latest-small", "ml-25m") else WHOLE
    write_set(name, rows)
    read = movielens.collect(name)
    assert triples(read) == rows
    assert read.user_ids.tolist() == sorted({row[0] for row in rows})
    assert read.titles[:2] == ("Film 10 (1990)", "Film 20 (1990)")
    assert (read.ratings.users.dtype, read.ratings.films.dtype) == (torch.int32, torch.int32)
    assert read.ratings.half_stars.dtype == torch.uint8
    data = load_ratings(name)
    assert data.levels.tolist() == ([k / 2 for k in range(1, 11)] if rows is SMALL else [1, 2, 3, 4, 5])
    assert (data.n_users, data.n_films) == (len(read.user_ids), len(read.film_ids))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ml-latest-small", "American President, The (1995)"),
        ("ml-latest-small", 'He said ""Amélie"", twice (2001)'),
        ("ml-1m", "Star Wars: Episode IV - A New Hope (1977)"),
        ("ml-1m", "Misérables, Les (1995)"),
        ("ml-100k", "Cité des enfants perdus, La (1995)"),
    ],
)
def test_titles_with_commas_quotes_colons_and_accents(name, title):
    films = sorted({row[1] for row in WHOLE})
    write_set(name, WHOLE, {film: title if film == 10 else "Other" for film in films})
    assert movielens.collect(name).titles[0] == title.replace('""', '"')


@pytest.mark.parametrize("layout", ["combined_data_1.txt", "mv_0000001.txt", "training_set/mv_0000001.txt"])
def test_netflix_blocks(layout):
    folder = source.data_dir() / "netflix"
    path = folder / layout
    path.parent.mkdir(parents=True)
    path.write_bytes(b"3:\r\n1488844,3,2005-09-06\r\n822109,5,2005-05-13\r\n8:\r\n1488844,1,1970-01-02\r\n")
    (folder / "movie_titles.txt").write_bytes("3,1997,Character\n8,NULL,What, Já?\n9,2000,Unrated\n".encode("latin-1"))
    read = movielens.collect("netflix")
    first = (1488844, 3, 3.0, 1125964800)
    assert triples(read) == [first, (822109, 3, 5.0, 1115942400), (1488844, 8, 1.0, 86400)]
    assert read.titles == ("Character (1997)", "What, Já?")


def test_netflix_in_several_files():
    folder = source.data_dir() / "netflix"
    folder.mkdir(parents=True)
    for film in (1, 2):
        lines = [f"{user},{1 + user % 5},2004-01-0{1 + user % 9}" for user in range(1, 9)]
        (folder / f"mv_{film}.txt").write_text("\n".join([f"{film}:", *lines]))
    assert len(movielens.collect("netflix").ratings) == 16
    with (folder / "mv_2.txt").open("a") as file:
        file.write("\n1:\n5,3,2004-01-01\n")
    with pytest.raises(
        ValueError,
        match=r"mv_2\.txt, line 11: second rating of film 1 by user 5; the first is in line 6 of .*mv_1\.txt",
    ):
        movielens.collect("netflix")


BROKEN = [
    ("ml-latest-small", "ratings.csv", 3, "1,20,six,5", "'1,20,six,5' is not a rating"),
    ("ml-latest-small", "ratings.csv", 3, "1,20,3", "'1,20,3' is not a rating"),
    ("ml-latest-small", "ratings.csv", 3, "1,20,3,4,5", "'1,20,3,4,5' is not a rating"),
    ("ml-latest-small", "ratings.csv", 3, "", "'' is not a rating"),
    ("ml-latest-small", "ratings.csv", 3, "1,20,5.5,5", "rating 5.5 is not one of 0.5, 1 ... 5"),
    ("ml-latest-small", "ratings.csv", 3, "1,20,0,5", "rating 0 is not one of"),
    ("ml-latest-small", "ratings.csv", 3, "1,20,3.3,5", "rating 3.3 is not one of"),
    ("ml-latest-small", "ratings.csv", 3, "1,10,2,5", "second rating of film 10 by user 1; the first is in line 2"),
    (
        "ml-latest-small",
        "ratings.csv",
        1,
        "user,movie,rating,time",
        "is not the header userId,movieId,rating,timestamp",
    ),
    ("ml-1m", "ratings.dat", 2, "1::20::3.5::5", "rating 3.5 is not one of 1, 2 ... 5"),
    ("ml-1m", "ratings.dat", 2, "1::20::3", "is not a rating"),
    ("ml-1m", "ratings.dat", 2, "1:20:3:5", "is not a rating"),
    ("ml-1m", "ratings.dat", 2, "1::10::3::5", "second rating of film 10 by user 1; the first is in line 1"),
    ("ml-100k", "u.data", 2, "1\t20\t6\t5", "rating 6 is not one of 1, 2 ... 5"),
    ("ml-100k", "u.data", 2, "1 20 6 5", "is not a rating"),
]


@pytest.mark.parametrize(("name", "file", "number", "line", "message"), BROKEN)
def test_errors_name_file_and_line(name, file, number, line, message):
    folder = write_set(name, WHOLE)
    lines = (folder / file).read_text().splitlines()
    lines[number - 1] = line
    (folder / file).write_text("\n".join([*lines, ""]))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        movielens.collect(name)
    assert str(error.value).startswith(f"{folder / file}, line {number}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5,3,2004-01-01\n1:\n6,3,2004-01-01\n", "line 1: '5,3,2004-01-01' comes before any line `movie:`"),
        ("1:\n5,3,2004-01-01\n5;3\n", "line 3: '5;3' is not a rating"),
        ("1:\n5,3,2004-13-01\n", "line 2: '5,3,2004-13-01' is not a rating"),
        ("1:\n5,3,2004-01-01,7\n", "line 2: '5,3,2004-01-01,7' is not a rating"),
        ("1:\n5,6,2004-01-01\n", "line 2: rating 6 is not one of 1, 2 ... 5"),
        ("1:\n5,3,2004-01-01\n5,4,2004-01-02\n", "line 3: second rating of film 1 by user 5; the first is in line 2"),
        ("1:\n", "contains no ratings"),
    ],
)
def test_netflix_errors_name_the_line(text, message):
    folder = source.data_dir() / "netflix"
    folder.mkdir(parents=True)
    (folder / "combined_data_1.txt").write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        movielens.collect("netflix")
    assert "combined_data_1.txt" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no ratings|is not a text file"),
        (b"1:\n5,3,2004-01-01\n\xff\xfe,3,2004-01-01\n", "is not a text file"),
    ],
)
def test_a_binary_netflix_file_is_named(content, message):
    path = source.data_dir() / "netflix" / "mv_1.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        movielens.collect("netflix")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", ["", "userId,movieId,rating,timestamp\n"])
def test_an_empty_file_is_named(content):
    folder = write_set("ml-latest-small", SMALL)
    (folder / "ratings.csv").write_text(content)
    with pytest.raises(ValueError, match=r"ratings\.csv"):
        movielens.collect("ml-latest-small")


def test_a_broken_list_of_films_is_named():
    folder = write_set("ml-1m", WHOLE)
    (folder / "movies.dat").write_text("10::A\nnonsense\n")
    with pytest.raises(ValueError, match=r"movies\.dat, line 2: 'nonsense' is not a film"):
        movielens.collect("ml-1m")


one_rating = st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 10), st.integers(0, 2**31))


@settings(max_examples=40, deadline=None)
@given(st.lists(one_rating, min_size=1, max_size=60, unique_by=lambda row: row[:2]))
def test_any_ratings_round_trip_through_csv(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("set") / "ratings.csv"
    lines = [f"{user},{film},{half / 2},{time}" for user, film, half, time in rows]
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *lines, ""]))
    table = movielens.read_table(path)
    movielens.check_scale(table, half_stars=True)
    assert triples(movielens.assemble([table], {})) == [(u, f, half / 2, t) for u, f, half, t in rows]


# Where files come from.


def test_a_missing_set_error_names_folder_reason_and_embedded_set():
    for name in ("ml-latest-small", "ml-100k", "ml-1m", "ml-25m", "netflix"):
        with pytest.raises(source.DataUnavailable) as error:
            load_ratings(name)
        assert str(source.data_dir() / name) in str(error.value)
        assert "--data planted" in str(error.value)


def test_auto_loads_the_planted_sample_and_reports_why():
    card = load_ratings("auto").card
    assert (card.name, card.embedded) == ("planted", True)
    assert card.description.endswith(f"ml-latest-small is not in {source.data_dir()} and cannot be downloaded")
    assert load_ratings("planted").card.sha256 == card.sha256


def test_auto_does_not_replace_a_broken_set():
    folder = write_set("ml-latest-small", SMALL)
    (folder / "movies.csv").unlink()
    with pytest.raises(ValueError, match=r"lacks movies\.csv"):
        load_ratings("auto")


def test_an_archive_is_unpacked_by_file_name_only(tmp_path):
    folder = source.data_dir() / "ml-100k"
    whole = write_set("ml-100k", WHOLE)
    archive = source.data_dir() / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("u.data", "u.item"):
            file.writestr(f"ml-100k/{name}", (whole / name).read_bytes())
        file.writestr("../../escaped.txt", "no")
        file.writestr("elsewhere/u.data", "no")
        file.writestr("ml-100k/other.txt", "no")
    for path in whole.iterdir():
        path.unlink()
    assert triples(movielens.collect("ml-100k")) == WHOLE
    assert sorted(path.name for path in folder.iterdir()) == ["u.data", "u.item"]
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 cut short"])
def test_a_broken_archive_is_named(content):
    archive = source.data_dir() / "ml-100k.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"ml-100k\.zip is a broken archive .* delete it"):
        movielens.collect("ml-100k")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-100k/u.data", "")
    with pytest.raises(ValueError, match=r"does not contain ml-100k/u\.item"):
        movielens.collect("ml-100k")


# Splits.


def some_ratings(users=30, films=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    taken = (torch.rand(users, films, generator=generator) < 0.6).nonzero()
    half_stars = torch.randint(1, 11, (len(taken),), generator=generator).to(torch.uint8)
    times = torch.randint(0, 40, (len(taken),), generator=generator)
    return Ratings(taken[:, 0].int(), taken[:, 1].int(), half_stars, times)


@pytest.mark.parametrize("split", ["random", "leave-out", "time"])
def test_splits_are_disjoint_and_complete(split):
    ratings = some_ratings()
    parts = split_ratings(ratings, split, leave_out=3)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(ratings)))
    again, other = split_ratings(ratings, split, leave_out=3), split_ratings(ratings, split, leave_out=3, split_seed=1)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0], other[0])


def test_sizes_of_the_random_split():
    ratings = some_ratings()
    train, valid, test = split_ratings(ratings, "random")
    assert len(test) == round(0.2 * len(ratings))
    assert len(valid) == round(0.1 * (len(ratings) - len(test)))
    assert len(train) == len(ratings) - len(valid) - len(test)


def test_time_split_tests_on_the_newest_and_validates_on_the_next():
    ratings = some_ratings()
    train, valid, test = (ratings.times[part] for part in split_ratings(ratings, "time"))
    assert train.max() <= valid.min()
    assert valid.max() <= test.min()


def test_leave_out_holds_out_the_same_number_per_user():
    ratings = some_ratings()
    few = ratings[ratings.users == 0][:11]  # too few to hold out three and three, and keep as many
    ratings = ratings[ratings.users != 0] + few
    train, valid, test = (ratings.users[part] for part in split_ratings(ratings, "leave-out", leave_out=3))
    assert test.bincount(minlength=30).tolist() == valid.bincount(minlength=30).tolist() == [0] + [3] * 29
    assert int((train == 0).sum()) == 11
    with pytest.raises(ValueError, match="--leave-out 40 needs a user with 160 ratings, but the largest number is"):
        split_ratings(ratings, "leave-out", leave_out=40)


# The planted sample.


@pytest.fixture(scope="module")
def sample():
    return load_ratings("planted")


def test_the_planted_sample_is_repeatable(sample):
    again = load_ratings("planted")
    assert again.card == sample.card
    assert torch.equal(again.test.half_stars, sample.test.half_stars)
    assert len(set(sample.titles)) == sample.n_films


def test_probabilities_of_half_stars_by_hand():
    x = torch.tensor([-3.0, 2.1, 3.75, 9.0], dtype=torch.float64)
    p = planted.level_probabilities(x)
    torch.testing.assert_close(p.sum(1), torch.ones(4, dtype=torch.float64))
    assert float(p[0, 0]) > 0.999
    assert float(p[3, 9]) > 0.999
    normal = torch.distributions.Normal(2.1, planted.NOISE)
    expected = normal.cdf(torch.tensor(2.25)) - normal.cdf(torch.tensor(1.75))
    assert float(p[1, 3]) == pytest.approx(float(expected), abs=1e-6)
    assert float(p[2, 6]) == pytest.approx(float(p[2, 7])), "3.75 is as near to 3.5 as to 4"


def test_the_noise_floor_matches_the_drawn_ratings(sample):
    ratings, means = planted.draw(200, 100, 40, torch.Generator().manual_seed(1))
    error = ratings.stars - means
    assert abs(float(error.mean())) < 4 * float(error.std()) / len(error) ** 0.5, "the expected ratings are biased"
    assert float((means * error).mean()) == pytest.approx(0, abs=0.05)
    assert sample.noise_floor == pytest.approx(float(error.std()), rel=0.05)


def test_liked_films_are_rated_more_often():
    ratings, means = planted.draw(300, 200, 40, torch.Generator().manual_seed(1))
    everything = 3.5
    assert float(means.mean()) > everything + 0.1
    count = ratings.users.bincount()
    assert 30 < float(count.float().mean()) < 50
    assert int(count.min()) >= 8
    pairs = ratings.users.long() * 200 + ratings.films
    assert len(pairs.unique()) == len(pairs), "a user rated a film twice"


@pytest.mark.parametrize("limit", [1, 7])
def test_limit_shortens_every_split(limit):
    data = load_ratings("planted", limit=limit)
    assert len(data.train) == len(data.valid) == len(data.test) == limit


@pytest.mark.parametrize("split", ["random", "leave-out", "time"])
def test_the_card_names_the_split(split):
    said = {"random": "random split", "leave-out": "5 per user left out", "time": "split by time"}
    data = load_ratings("planted", split=split)
    assert said[split] in data.card.description
    newest = int(data.train.times.max()) <= int(data.test.times.min())
    assert newest is (split == "time")
    a_few_each = int(data.test.users.bincount().max()) == 5
    assert a_few_each is (split == "leave-out")


def test_published_movielens(real_data):
    if not (source.data_dir() / "ml-latest-small").is_dir():
        pytest.skip(f"ml-latest-small is not in {source.data_dir()}")
    data = load_ratings("ml-latest-small")
    assert (data.n_users, data.n_films) == (610, 9724)
    assert len(data.train) + len(data.valid) + len(data.test) == 100_836
    assert data.titles[0] == "Toy Story (1995)"
