"""Command line of chapter 2.

python -m ch02_nn.train                       # the core programs, from one weight to a classifier
python -m ch02_nn.train simple --steps 20000  # one program
python -m ch02_nn.train --benchmark           # time their training steps on every device
"""

from ch02_nn import activations, classifier, descent, fitting, fizzbuzz, initial, race, regression, simple
from ch02_nn.tables import tables
from common.cli import main

if __name__ == "__main__":
    main(descent, simple, regression, activations, initial, classifier, fitting, fizzbuzz, extra=[race, tables])
