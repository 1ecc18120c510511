"""Check your solutions: `python -m ch03_autoencoder_rbm.exercises`; a number checks one, `3 --hint` prints a hint."""

from pathlib import Path

from ch03_autoencoder_rbm.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
