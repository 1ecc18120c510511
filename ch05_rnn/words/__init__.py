"""Word vectors; read in this order.

word2vec   the program: skip-gram vectors, evaluated on analogies
skipgram   the model: skip-gram with negative sampling, its gradient written out
corpus     a text as tokens with line numbers, in training, validation and test parts
vectors    trained vectors: nearest neighbours, analogies, principal components, text format
analogies  accuracy on a set of analogy questions
"""
