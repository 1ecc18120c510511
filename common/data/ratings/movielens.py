"""Read published film ratings with polars: five sets in four formats, from MovieLens and the Netflix Prize.

    ml-latest-small, ml-25m   ratings.csv `userId,movieId,rating,timestamp`; movies.csv with quoted titles
    ml-1m                     ratings.dat `user::movie::rating::time`; movies.dat, latin-1
    ml-100k                   u.data, separated by tabs; u.item, by |, latin-1
    netflix                   combined_data_*.txt, mv_*.txt or training_set/mv_*.txt: a line `movie:`, then lines
                              `user,rating,date`; movie_titles.txt or movie_titles.csv, latin-1

Every rating keeps its line number until it is checked, so that errors can name file and line.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.data import archives
from common.data.ratings.collection import WHOLE_STARS, Collection, Ratings, RatingSetName
from common.data.source import DataUnavailable, data_dir, fetch

if TYPE_CHECKING:
    import polars as pl

HOME = "https://files.grouplens.org/datasets/movielens"

FILES = {
    "ml-latest-small": ("ratings.csv", "movies.csv"),
    "ml-25m": ("ratings.csv", "movies.csv"),
    "ml-1m": ("ratings.dat", "movies.dat"),
    "ml-100k": ("u.data", "u.item"),
}

CHECKSUMS = {
    "ml-latest-small": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
}
"""md5 of the archives as GroupLens publishes them; sha256 for the one that has no fixed release."""

LINE = {
    "ratings.csv": re.compile(r"\d+,\d+,\d+(\.\d+)?,\d+"),
    "ratings.dat": re.compile(r"\d+::\d+::\d+(\.\d+)?::\d+"),
    "u.data": re.compile(r"\d+\t\d+\t\d+(\.\d+)?\t\d+"),
}
"""Format of a line in each file."""


@dataclass(frozen=True)
class Table:
    """The ratings of one file."""

    path: Path
    frame: "pl.DataFrame"
    """user, film (int64), stars (float32), time (int64), line (uint32)"""


def collect(name: RatingSetName) -> Collection:
    """Read all ratings of a data set in DATA_DIR; download it if it is missing.

    Raises DataUnavailable if it is not available; ValueError, naming file and line, for a line that is not a rating, a
    rating outside the scale, and a second rating of the same film by the same user.
    """
    folder = data_dir() / name
    if name == "netflix":
        tables, names = [read_netflix(path) for path in _netflix_files(folder)], _netflix_titles(folder)
    else:
        missing = [file for file in FILES[name] if not (folder / file).exists()]
        if missing:
            _obtain(name, folder, missing)
        ratings, films = (folder / file for file in FILES[name])
        tables, names = [read_table(ratings)], read_titles(films)
    for table in tables:
        check_scale(table, half_stars=name not in WHOLE_STARS)
    return assemble(tables, names)


# One reader per format.


def read_table(path: Path, data: bytes | None = None) -> Table:
    """Read ratings.csv, ratings.dat or u.data, from `data` if given, else from disk."""
    import polars as pl

    kind = path.name
    separator, header = {"ratings.csv": (",", True), "ratings.dat": (":", False), "u.data": ("\t", False)}[kind]
    columns = (0, 2, 4, 6) if kind == "ratings.dat" else (0, 1, 2, 3)  # `::` leaves an empty column between two
    types = [pl.Int64, pl.Int64, pl.Float32, pl.Int64]
    names = [f"column_{number + 1}" for number in range(max(columns) + 1)]
    schema = dict.fromkeys(names, pl.String)
    schema |= {names[column]: kind for column, kind in zip(columns, types, strict=True)}
    try:
        frame = pl.read_csv(
            path if data is None else data,
            separator=separator,
            has_header=False,
            skip_rows=int(header),
            schema=schema,
            quote_char=None,
        )
    except pl.exceptions.PolarsError as error:
        raise _first_bad_line(path, data, LINE[kind], header) or ValueError(f"{path}: {error}") from error
    frame = frame.select(
        pl.col(names[column]).alias(word)
        for column, word in zip(columns, ("user", "film", "stars", "time"), strict=True)
    )
    if frame.is_empty():
        raise ValueError(f"{path} contains no ratings")
    if any(frame.null_count().row(0)) or (
        kind == "ratings.csv" and _header(path, data) != "userId,movieId,rating,timestamp"
    ):
        raise _first_bad_line(path, data, LINE[kind], header) or ValueError(f"{path} has a missing value")
    return Table(path, frame.with_row_index("line", offset=1 + header))


def read_netflix(path: Path) -> Table:
    """Read a text file of `movie:` blocks."""
    import polars as pl

    try:
        lines = pl.read_csv(path, separator="\x01", has_header=False, schema={"text": pl.String}, quote_char=None)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} is not a text file of ratings ({error})") from error
    lines = lines.with_row_index("line", offset=1).with_columns(pl.col("text").str.strip_chars_end("\r"))
    is_block = pl.col("text").str.ends_with(":")
    block = pl.when(is_block).then(pl.col("text").str.strip_suffix(":").cast(pl.Int64, strict=False))
    rows = lines.with_columns(film=block.forward_fill()).filter(~is_block)
    part = pl.col("text").str.splitn(",", 3).struct
    frame = rows.select(
        part.field("field_0").cast(pl.Int64, strict=False).alias("user"),
        "film",
        part.field("field_1").cast(pl.Float32, strict=False).alias("stars"),
        part.field("field_2").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64).mul(86_400).alias("time"),
        "line",
    )
    if frame.is_empty():
        raise ValueError(f"{path} contains no ratings")
    broken = frame.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()
    if len(broken):
        text, line, film = rows["text"][broken[0]], rows["line"][broken[0]], rows["film"][broken[0]]
        why = "comes before any line `movie:`" if film is None else "is not a rating"
        raise ValueError(f"{path}, line {line}: {text[:60]!r} {why}")
    return Table(path, frame)


def _header(path: Path, data: bytes | None) -> str:
    if data is not None:
        return data.partition(b"\n")[0].decode().rstrip("\r")
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")


def _first_bad_line(path: Path, data: bytes | None, pattern: re.Pattern[str], header: bool) -> ValueError | None:
    """Find the first line that is not a rating; slow, used only after the fast reader has failed."""
    lines = (path.read_bytes() if data is None else data).decode("latin-1").splitlines()
    if header and lines and lines[0] != "userId,movieId,rating,timestamp":
        return ValueError(f"{path}, line 1: {lines[0][:60]!r} is not the header userId,movieId,rating,timestamp")
    for number, line in enumerate(lines[header:], start=1 + header):
        if not pattern.fullmatch(line):
            return ValueError(
                f"{path}, line {number}: {line[:60]!r} is not a rating: delete the file and download it again"
            )
    return None


def read_titles(path: Path) -> dict[int, str]:
    """Read the titles of movies.csv (quoted), movies.dat (`::`) or u.item (`|`)."""
    import polars as pl

    if path.suffix == ".csv":
        try:
            frame = pl.read_csv(path, schema={"movieId": pl.Int64, "title": pl.String, "genres": pl.String})
            return dict(frame.select("movieId", "title").iter_rows())
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{path} is not a list of films ({error})") from error
    separator = "|" if path.name == "u.item" else "::"
    return _split_titles(path, separator, column=1)


def _netflix_titles(folder: Path) -> dict[int, str]:
    """Read `movie,year,title`; the title may contain commas."""
    for path in (folder / "movie_titles.txt", folder / "movie_titles.csv"):
        if path.exists():
            return _split_titles(path, ",", column=2)
    return {}


def _split_titles(path: Path, separator: str, column: int) -> dict[int, str]:
    titles = {}
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        fields = line.split(separator, column if separator == "," else -1)
        if len(fields) <= column or not fields[0].isdecimal():
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is not a film: delete the file and download it again"
            )
        year = f" ({fields[1]})" if separator == "," and fields[1].isdecimal() else ""
        titles[int(fields[0])] = fields[column] + year
    return titles


# From tables to tensors.


def check_scale(table: Table, *, half_stars: bool) -> None:
    """Raise ValueError, naming file and line, for the first rating outside the scale."""
    import polars as pl

    step, low = (0.5, 0.5) if half_stars else (1.0, 1.0)
    inside = pl.col("stars").is_between(low, 5.0) & ((pl.col("stars") / step) % 1 == 0)
    wrong = table.frame.filter(~inside)
    if not wrong.is_empty():
        stars, line = wrong["stars"][0], wrong["line"][0]
        raise ValueError(f"{table.path}, line {line}: rating {stars:g} is not one of {low:g}, {low + step:g} ... 5")


def assemble(tables: list[Table], names: dict[int, str]) -> Collection:
    """Number users and films from 0 and convert the tables to tensors.

    Raises ValueError, naming both lines, if a user has rated a film twice.
    """
    import polars as pl

    whole = pl.concat([table.frame.select("user", "film", "stars", "time") for table in tables])
    user_ids, users = torch.unique(whole["user"].to_torch(), return_inverse=True)
    film_ids, films = torch.unique(whole["film"].to_torch(), return_inverse=True)
    _check_pairs(users * len(film_ids) + films, tables)
    half_stars = (whole["stars"] * 2).cast(pl.UInt8).to_torch()
    ratings = Ratings(users.int(), films.int(), half_stars, whole["time"].to_torch())
    titles = tuple(names.get(number, f"film {number}") for number in film_ids.tolist())
    return Collection(ratings, user_ids, film_ids, titles)


def _check_pairs(pairs: Tensor, tables: list[Table]) -> None:
    sorted_pairs, order = pairs.sort(stable=True)
    again = (sorted_pairs[1:] == sorted_pairs[:-1]).nonzero().flatten() + 1
    if len(again):
        second = int(order[again].min())
        first = int((pairs == pairs[second]).nonzero()[0])
        places = [*itertools.accumulate([len(table.frame) for table in tables], initial=0)]

        def where(row: int) -> tuple[Path, int, dict]:
            number = max(n for n in range(len(tables)) if places[n] <= row)
            record = tables[number].frame.row(row - places[number], named=True)
            return tables[number].path, record["line"], record

        path, line, record = where(second)
        other, earlier, _ = where(first)
        raise ValueError(
            f"{path}, line {line}: second rating of film {record['film']} by user {record['user']}; "
            f"the first is in line {earlier}{f' of {other}' * (other != path)}"
        )


# Where the files come from.


def _netflix_files(folder: Path) -> list[Path]:
    for pattern in ("combined_data_*.txt", "mv_*.txt", "training_set/mv_*.txt"):
        if paths := sorted(folder.glob(pattern)):
            return paths
    raise DataUnavailable(
        f"netflix is not in {folder} and is no longer published: put combined_data_*.txt or mv_*.txt there, "
        "set DATA_DIR, or use the embedded set with --data planted"
    )


def _obtain(name: str, folder: Path, missing: list[str]) -> None:
    """Download a data set's archive and extract the missing files."""
    archive = data_dir() / f"{name}.zip"
    if not archive.exists():
        try:
            fetch([f"{HOME}/{name}.zip"], archive, CHECKSUMS[name])
        except DataUnavailable as error:
            if len(missing) < len(FILES[name]):  # incomplete, not absent: do not replace it
                raise ValueError(f"{folder} lacks {', '.join(missing)}: {error}") from error
            raise DataUnavailable(
                f"{name} is not in {folder} and cannot be downloaded ({error}): "
                "put its files there, set DATA_DIR, or use the embedded set with --data planted"
            ) from error
    archives.unpack(archive, folder, missing)
