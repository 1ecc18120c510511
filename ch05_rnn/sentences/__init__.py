"""Sentences: classified, rewritten, translated; read in this order.

sentiment        the program: a bidirectional LSTM beside a bag of words
seq2seq          the program: an encoder and a decoder with attention
encoder_decoder  the network of seq2seq
attention        dot-product and additive attention
padding          sentences of several lengths in one batch
"""
