"""Verdicts of measured exercises in a file: the table needs no training, and the right ones form a leaderboard."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from common.exercises.exercise import MeasuredExercise, Verdict
from common.files import read_json, write_json


@dataclass(frozen=True)
class Attempt:
    """A version of the reader's file and its verdict."""

    checksum: str
    """SHA-256 of the file."""
    date: str
    verdict: Verdict


def checksum_of(path: Path) -> str:
    """Compute the SHA-256 of a file; empty if there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def read_board(board: Path) -> list[Attempt]:
    """Read all attempts, the oldest first; raise ValueError, naming the file, if it is not a board."""
    if not board.is_file():
        return []
    try:
        return [Attempt(entry["checksum"], entry["date"], Verdict(**entry["verdict"])) for entry in read_json(board)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{board} is not a list of verdicts: delete it") from error


def verdict_of(board: Path, path: Path) -> Verdict:
    """Return the verdict of the reader's file; open if this version of the file was not measured."""
    known = {attempt.checksum: attempt.verdict for attempt in read_board(board)}
    return known.get(checksum_of(path), Verdict("open", "this version of the file is not measured yet"))


def add(board: Path, path: Path, verdict: Verdict) -> None:
    """Add the verdict of the reader's file; it replaces an earlier one of the same version."""
    checksum = checksum_of(path)
    attempts = [attempt for attempt in read_board(board) if attempt.checksum != checksum]
    attempts.append(Attempt(checksum, f"{datetime.now():%Y-%m-%d %H:%M}", verdict))
    write_json(board, [asdict(attempt) for attempt in attempts])


def ranking(exercise: MeasuredExercise, board: Path) -> list[Attempt]:
    """Return the right attempts, the best first."""
    right = [attempt for attempt in read_board(board) if attempt.verdict.status == "right"]
    return sorted(right, key=lambda attempt: exercise.order(attempt.verdict.scores))
