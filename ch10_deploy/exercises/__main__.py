"""Check your solutions: `python -m ch10_deploy.exercises`, `python -m ch10_deploy.exercises 3 --hint`."""

from pathlib import Path

from ch10_deploy.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
