"""The newest finished run of a program: what it learned is there to be asked."""

from pathlib import Path


def newest_run(out: Path, program: str) -> Path:
    """Find the newest finished run of a program of this chapter.

    Raises FileNotFoundError where there is none.
    """
    home = out / "ch05_rnn" / program
    finished = [path.parent for path in home.glob("*/summary.json") if (path.parent / "model.safetensors").exists()]
    if not finished:
        raise FileNotFoundError(
            f"there is no finished run in {home}: train one with python -m ch05_rnn.train {program}"
        )
    return max(finished, key=lambda path: (path / "summary.json").stat().st_mtime_ns)
