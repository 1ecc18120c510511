"""Sentences: classification and translation; read in this order.

sentiment        the program: a bidirectional LSTM or TextCNN, compared with bags of words and n-grams
classifiers      the bidirectional LSTM and the bag of words
textcnn          convolutions over word vectors and the maximum over time
ngram_regression  baseline: logistic regression on n-grams
explanation      contributions of words and n-grams to a prediction
seq2seq          the program: encoder-decoder with attention
encoder_decoder  the network of seq2seq
attention        dot-product and additive attention
beam             beam search, for translations and captions
bleu             score of translations by their n-grams
padding          sentences of different lengths in one batch
"""
