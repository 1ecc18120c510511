"""Chapter 7: a deep Q-network that solves mazes, also ones it has never seen.

q_table       one number a state and action: Q-learning, and value iteration, which knows the rules
dqn           a network in the table's place: epsilon-greedy, replay, target network, each a switch; and the book's
actor_critic  a policy learned together with its value, on the same environments
generalise    one network for all mazes: it reads the picture and iterates, trained on thousands, judged on unseen ones
throughput    steps per second: one gymnasium environment and a table for thousands
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
