"""Command line of chapter 7.

python -m ch07_dqn.train                         # the core programs
python -m ch07_dqn.train dqn --seed 7            # one program
python -m ch07_dqn.train --benchmark             # time their training steps on every device
"""

from ch07_dqn import actor_critic, book, dqn, generalise, learning_curves, q_table, throughput
from common.cli import main

if __name__ == "__main__":
    main(q_table, dqn, actor_critic, generalise, extra=[book, learning_curves, throughput])
