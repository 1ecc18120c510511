"""Check your solutions: `python -m ch05_rnn.exercises`, `python -m ch05_rnn.exercises 3 --hint`."""

from pathlib import Path

from ch05_rnn.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
