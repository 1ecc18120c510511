"""Texts, sentences and pairs; read in this order.

vocabulary  symbols and their numbers
corpora     continuous texts, in training, validation and test parts
sentences   sentences with sentiment labels
pairs       source and target sentences
dates       generated pairs: a date as it is written in English, and in ISO form
analogies   generated sentences with known relations between words
stories     questions about short stories: generated ones, and the bAbI files
simulated_stories  the simulation that generates stories, answers and supporting facts
"""
