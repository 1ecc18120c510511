"""Chapter 5: recurrent networks - text and series, read from front to back with a memory.

language_model  predicts the next character or word of a text, and writes on: RNN, GRU or LSTM
gradients       why plain recurrent networks forget: gradients through time, and how far back each cell can learn
throughput      tokens a second: an LSTM written in four ways, and an output layer of 10,000 words in two
word2vec        learns what words mean from the company they keep, and answers analogies
sentiment       judges sentences by a bidirectional LSTM, beside a bag of words
seq2seq         writes dates anew, or translates: encoder and decoder, with attention or without
forecast        says what comes next in a series whose best forecast is known, beside linear rivals
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
