"""The newest finished run of a program: what it learned is there to be asked."""

from pathlib import Path


def newest_run(out: Path, program: str) -> Path:
    """Find the newest finished run of a program of this chapter.

    Raises FileNotFoundError where there is none.
    """
    home = out / "ch05_rnn" / program
    finished = [path.parent for path in home.glob("*/summary.json")]
    if not finished:
        raise FileNotFoundError(f"there is no finished run in {home}: python -m ch05_rnn.train {program} makes one")
    return max(finished, key=lambda path: (path / "summary.json").stat().st_mtime_ns)
