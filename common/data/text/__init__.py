"""Texts, sentences and pairs; read in this order.

vocabulary  symbols and their numbers
corpora     continuous texts, in training, validation and test parts
sentences   sentences with a sentiment
pairs       source and target sentences
dates       invented pairs: a date as people write it, and in ISO form
analogies   invented sentences in which words have planted relations
stories     questions about short stories: generated ones, and the bAbI files
simulated_stories  the simulation that generates stories, answers and supporting facts
"""
