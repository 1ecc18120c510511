"""Check your solutions: `python -m ch01_graphs.exercises`, `python -m ch01_graphs.exercises 3 --hint`."""

from pathlib import Path

from ch01_graphs.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
