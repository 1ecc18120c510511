"""Sentences: classification and translation; read in this order.

sentiment        the program: a bidirectional LSTM compared with a bag of words
seq2seq          the program: encoder-decoder with attention
encoder_decoder  the network of seq2seq
attention        dot-product and additive attention
beam             beam search, for translations and captions
bleu             score of translations by their n-grams
padding          sentences of different lengths in one batch
"""
