"""Chapter 5: recurrent networks - text and series, read from front to back with a memory.

language_model  predicts the next character or word of a text, and writes on: RNN, GRU or LSTM
gradients       why plain recurrent networks forget: gradients through time, and how far back each cell can learn
throughput      tokens a second: cells written in four ways, and an output layer of 10,000 words in three
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
