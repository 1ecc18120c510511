"""Pairs of a source and a target sentence; read in this order.

pairs         the sets of pairs, from a tab-separated file or generated
dates         generated pairs: a date as it is written in English, and in ISO form
translations  Multi30k, or generated German sentences
german        generated pairs: German sentences of a small grammar and their translations
"""
