"""CSV files with a header: the cells as text, by column, with the line of each row for messages.

UTF-8, with or without a byte order mark. Quoted cells may contain commas, doubled quotes and line breaks (RFC 4180).
Spaces around a cell are removed, and empty lines are skipped.
"""

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cells:
    """The cells of a CSV file."""

    path: Path
    lines: tuple[int, ...]
    """Line of the file where each row begins"""
    columns: dict[str, tuple[str, ...]]
    """Name of a column, and its cell in each row"""

    def column(self, name: str) -> tuple[str, ...]:
        """Return the cells of a column; raises ValueError, proposing a name, if the file does not have it."""
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1)
            proposal = f"; did you mean {near[0]!r}?" if near else f": it has {listed(list(self.columns))}"
            raise ValueError(f"{self.path} has no column {name!r}{proposal}")
        return self.columns[name]

    def error(self, row: int, name: str, problem: str) -> ValueError:
        """Make the error for a cell: file, line, column and content, followed by the problem."""
        content = self.columns[name][row]
        shown = content if len(content) <= 40 else content[:40] + "..."
        return ValueError(f"{self.path} line {self.lines[row]}: column {name!r} is {shown!r}, {problem}")


def read_cells(path: Path, flag: str = "--csv") -> Cells:
    """Read a CSV file with a header.

    Raises FileNotFoundError, naming the flag, where there is no such file; ValueError, naming the line, where it is not
    a table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {flag} takes a file of comma-separated values with a header")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    return parse_cells(text, path)


def parse_cells(text: str, path: Path) -> Cells:
    """Split the text of a CSV file into cells; the path is for messages."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    begin = 1
    try:
        for row in reader:
            if row:
                rows.append((begin, [cell.strip() for cell in row]))
            begin = reader.line_num + 1  # a quoted cell may contain line breaks
    except csv.Error as error:
        raise ValueError(f"{path} line {begin} is not a line of comma-separated values: {error}") from error
    if not rows:
        raise ValueError(f"{path} is empty: its first line names the columns")
    (line, header), *rows = rows
    for number, name in enumerate(header):
        if not name:
            raise ValueError(f"{path} line {line}: column {number + 1} has no name")
        if name in header[:number]:
            raise ValueError(f"{path} line {line} names the column {name!r} twice")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{path} line {line} has {len(row)} cells, but the header names {len(header)} columns")
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    columns = zip(*(row for _, row in rows), strict=True)
    return Cells(path, tuple(line for line, _ in rows), dict(zip(header, columns, strict=True)))


def format_cells(columns: Mapping[str, Sequence[str]]) -> str:
    """Write columns of cells as the text of a CSV file, with quotes where they are needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def listed(names: Sequence[str], most: int = 12) -> str:
    """List names for a message; of many, the first."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
