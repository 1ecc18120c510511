"""Chapter 7: reinforcement learning in mazes, and agents for any gymnasium environment.

q_table            tabular Q-learning, and value iteration with a given model of the environment
maze_dqn           deep Q-network: epsilon-greedy, replay buffer, target network, double, dueling, n-step returns
book               the book's deep Q-network as written, and with its errors corrected
maze_actor_critic  advantage actor-critic: a policy and a value function, on the same environments
learning_curves    deep agents over several mazes, by environment steps
generalise         one network for all mazes: fitted value iteration on thousands of mazes, tested on unseen ones
reinforce          policy gradient with whole episodes on any environment, with and without a baseline
actor_critic       advantage actor-critic (A2C) on any environment
ppo                proximal policy optimisation on any environment; every implementation detail is a switch
dqn                deep Q-network on any environment
learning_bands     these agents over several seeds: mean and spread of the return by environment steps
peers              PPO and DQN compared with Stable-Baselines3
throughput         environment steps per second of one gymnasium environment, and of thousands in one table
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
