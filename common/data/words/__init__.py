"""Texts, test sets and files for word vectors; read in this order.

analogies     generated sentences with known relations between words
lines         a text as lower-case words with line numbers
word_tests    pairs of words with human ratings, and analogy questions
vector_files  word vectors in the text formats of word2vec and GloVe, and GloVe 6B
"""
