"""Check your solutions: `python -m ch09_pipeline.exercises`, `python -m ch09_pipeline.exercises 3 --hint`."""

from pathlib import Path

from ch09_pipeline.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
