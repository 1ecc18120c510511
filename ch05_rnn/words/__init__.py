"""Word vectors; read in this order.

word2vec   the program: skip-gram vectors and the analogies they answer
skipgram   the model: negative sampling, with its gradient written out
corpus     a text as lines of words, in training, validation and test parts
vectors    trained vectors: nearest neighbours and analogies
analogies  accuracy on a set of analogies
"""
