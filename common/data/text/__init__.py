"""Texts, sentences and pairs; read in this order.

vocabulary  symbols and their numbers
corpora     continuous texts, in training, validation and test parts
lines       a text as lower-case words with line numbers
sentences   sentences with sentiment labels
pairs       source and target sentences
translations  sentence pairs: Multi30k, or generated German sentences
german      generated pairs: German sentences of a small grammar and their translations
dates       generated pairs: a date as it is written in English, and in ISO form
analogies   generated sentences with known relations between words
word_tests  pairs of words with human ratings, and analogy questions
vector_files  word vectors in the text formats of word2vec and GloVe, and GloVe 6B
stories     questions about short stories: generated ones, and the bAbI files
simulated_stories  the simulation that generates stories, answers and supporting facts
"""
