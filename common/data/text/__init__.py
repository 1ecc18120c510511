"""Texts, sentences and pairs; read in this order.

vocabulary  symbols and their numbers
corpora     continuous texts, in training, validation and test parts
sentences   sentences with sentiment labels
pairs       source and target sentences
translations  sentence pairs: Multi30k, or generated German sentences
german      generated pairs: German sentences of a small grammar and their translations
dates       generated pairs: a date as it is written in English, and in ISO form
stories     questions about short stories: generated ones, and the bAbI files
simulated_stories  the simulation that generates stories, answers and supporting facts
"""
