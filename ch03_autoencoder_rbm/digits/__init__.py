"""Handwritten digits with and without labels, in reading order.

feedforward  the classifier: 784-300-100-10
book         the book's loss for it, and what is wrong with it
autoencoder  784-128-64-128-784: compresses an image to 64 numbers, optionally removes noise
"""
