"""Texts, sentences and stories; read in this order.

vocabulary         symbols and their numbers
corpora            continuous texts, in training, validation and test parts
sentences          sentences with sentiment labels
stories            questions about short stories: generated ones, and the bAbI files
simulated_stories  the simulation that generates stories, answers and supporting facts
"""
