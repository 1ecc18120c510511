"""Check your solutions: `python -m ch02_nn.exercises`, `python -m ch02_nn.exercises 3 --hint`."""

from pathlib import Path

from ch02_nn.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
