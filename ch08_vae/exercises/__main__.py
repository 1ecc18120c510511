"""Check your solutions: `python -m ch08_vae.exercises`, `python -m ch08_vae.exercises 3 --hint`."""

from pathlib import Path

from ch08_vae.exercises.checks import EXERCISES
from common.exercises.command import main

if __name__ == "__main__":
    main(EXERCISES, Path(__file__).parent)
