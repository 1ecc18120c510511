"""Tabular data; read in this order.

tables      the program: mean, ridge regression, MLP and boosted trees on house sales, diabetes data or a CSV file
encoding    rows as vectors: standardised numbers, indicators of missing values, one-hot categories
models      the four models, each with its encoding
validation  k-fold cross-validation and permutation importance
"""
