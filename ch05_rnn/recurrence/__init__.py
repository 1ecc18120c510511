"""Recurrent cells and their gradients; read in this order.

cells       RNN, GRU and LSTM, by hand, in a loop and as torch's own
bptt        backpropagation through time, written out
gradients   the program: how far back each cell can learn
throughput  the program: an LSTM written in four ways, and an output layer in two
"""
