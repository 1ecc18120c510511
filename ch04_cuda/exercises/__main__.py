"""Check your solutions: `python -m ch04_cuda.exercises`, `python -m ch04_cuda.exercises 3 --hint`."""

from pathlib import Path

from ch04_cuda.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
