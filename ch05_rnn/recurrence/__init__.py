"""Recurrent cells and their gradients; read in this order.

cells       RNN, GRU and LSTM, by hand, in a loop and as torch's own
highway     recurrent highway networks: several nonlinear layers per time step
bptt        backpropagation through time by hand
gradients   the program: vanishing gradients, and the longest lag each cell learns
throughput  the program: speed of four LSTM implementations and two output layers
"""
