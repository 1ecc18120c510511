"""One network that solves mazes which it has not seen, in reading order.

planner      the value iteration network, and a convolutional network of fixed depth
transitions  the simulator's transitions of all states and actions of a batch of mazes
local_model  a model of the transitions, learned from random walks
generalise   fitted value iteration on thousands of mazes, and the test on unseen and larger ones
"""
