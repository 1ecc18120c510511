"""Command line of chapter 1.

python -m ch01_graphs.train                     # all programs, in the order of the book
python -m ch01_graphs.train regression --compile # one program
python -m ch01_graphs.train --benchmark         # time the training step on every device
"""

from ch01_graphs import expressions, numerics, regression
from common.cli import main

if __name__ == "__main__":
    main(expressions, numerics, regression)
