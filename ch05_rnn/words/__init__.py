"""Word vectors; read in this order.

word2vec          the program: skip-gram or CBOW vectors, evaluated on analogies
contexts          windows of a text as training examples of skip-gram and CBOW
network           input and output vectors, negative sampling, and the gradient step written out
huffman           hierarchical softmax: words as leaves of a Huffman tree
glove             the program: vectors that fit the logarithms of co-occurrence counts
cooccurrence      co-occurrence counts, and vectors from them without gradient descent
fasttext          the program: skip-gram with vectors of character n-grams
subwords          words as bags of hashed character n-grams
vectors           trained vectors: nearest neighbours, analogies, principal components
evaluation        accuracy on analogy questions, rank correlation with human ratings
evaluate_vectors  the program: a counting baseline and pre-trained vectors, evaluated
word_throughput   the program: words per second, compared with gensim
"""
