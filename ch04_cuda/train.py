"""Train or time the programs of chapter 4.

python -m ch04_cuda.train                        # the core programs
python -m ch04_cuda.train matmul                 # one program
python -m ch04_cuda.train --benchmark            # time the training steps on every device
"""

from ch04_cuda import (
    asynchrony,
    by_hand,
    compare,
    crossover,
    data_parallel,
    input_pipeline,
    matmul,
    operators,
    start_up,
)
from common.cli import main

if __name__ == "__main__":
    main(compare, matmul, input_pipeline, by_hand, extra=[crossover, asynchrony, operators, data_parallel, start_up])
