"""Tabular data; read in this order.

tables      the program: the mean, ridge regression, an MLP and boosted trees on house sales, diabetes or a CSV file
encoding    rows as vectors: standardised numbers, indicators of missing values, one-hot categories
models      the four models, each with its encoding, and the grids of their settings
validation  k-fold cross-validation and permutation importance
"""
