"""Texts, sentences and pairs; read in this order.

vocabulary  symbols and their numbers
corpora     continuous texts, in training, validation and test parts
sentences   sentences with sentiment labels
pairs       source and target sentences
dates       generated pairs: a date as it is written in English, and in ISO form
analogies   generated sentences with known relations between words
"""
