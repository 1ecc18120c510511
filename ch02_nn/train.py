"""Command line of chapter 2.

python -m ch02_nn.train                       # the core programs, in the order of the chapter
python -m ch02_nn.train simple --steps 20000  # one program
python -m ch02_nn.train --benchmark           # time the training steps on every device
"""

from ch02_nn import (
    activations,
    classifier,
    compare_optimizers,
    descent,
    fitting,
    fizzbuzz,
    initialisation,
    regression,
    simple,
)
from ch02_nn.tables import tables
from common.cli import main

if __name__ == "__main__":
    main(
        descent,
        simple,
        regression,
        activations,
        initialisation,
        classifier,
        fitting,
        fizzbuzz,
        extra=[compare_optimizers, tables],
    )
