"""Check your solutions: `python -m ch06_cnn.exercises`, `python -m ch06_cnn.exercises 3 --hint`."""

from pathlib import Path

from ch06_cnn.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
