"""Agents that learn to find the exit of one maze, in reading order.

q_table            tabular Q-learning, and value iteration with a given model of the environment
network            the Q-network, plain or dueling, and the network of the actor-critic
replay             the replay buffer: uniform or prioritised, with n-step returns
maze_dqn           deep Q-network: epsilon-greedy, replay buffer, target network, double, dueling, n-step returns
maze_actor_critic  advantage actor-critic: a policy and a value function, on the same environments
one_maze           metrics of a greedy policy in one maze
pictures           figures: values, greedy path, animation, learning curves
learning_curves    the program that compares deep agents over several mazes, by environment steps
book               the book's deep Q-network as written, and with its errors corrected
throughput         environment steps per second of one gymnasium environment, and of thousands in one table
"""
