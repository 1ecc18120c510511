"""Command line of chapter 7.

python -m ch07_dqn.train                         # the core programs
python -m ch07_dqn.train maze_dqn --seed 7       # one program
python -m ch07_dqn.train --benchmark             # time their training steps on every device
"""

from ch07_dqn.agents import actor_critic, dqn, learning_bands, peers, ppo, reinforce
from ch07_dqn.mazes import book, learning_curves, maze_actor_critic, maze_dqn, q_table, throughput
from ch07_dqn.planning import generalise
from common.cli import main

if __name__ == "__main__":
    main(
        *(q_table, maze_dqn, maze_actor_critic, generalise, reinforce, actor_critic, ppo, dqn),
        extra=[book, learning_curves, throughput, learning_bands, peers],
    )
