"""Texts, sentences, words and stories; read in this order.

vocabulary         symbols and their numbers
corpora            continuous texts, in training, validation and test parts
lines              a text as lower-case words with line numbers
sentences          sentences with sentiment labels
analogies          generated sentences with known relations between words
word_tests         pairs of words with human ratings, and analogy questions
vector_files       word vectors in the text formats of word2vec and GloVe, and GloVe 6B
stories            questions about short stories: generated ones, and the bAbI files
simulated_stories  the simulation that generates stories, answers and supporting facts
"""
