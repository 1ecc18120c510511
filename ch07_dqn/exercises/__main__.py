"""Check your solutions: `python -m ch07_dqn.exercises`, `python -m ch07_dqn.exercises 3 --hint`."""

from pathlib import Path

from ch07_dqn.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
