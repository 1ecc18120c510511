"""One network that solves mazes which it has not seen, in reading order.

planner     the value iteration network, and a convolutional network of fixed depth
generalise  fitted value iteration on thousands of mazes, and the test on unseen and larger ones
"""
