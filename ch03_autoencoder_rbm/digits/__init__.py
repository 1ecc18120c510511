"""Networks for handwritten digits, in reading order.

feedforward  classifier 784-300-100-10
book         the book's loss for the classifier, and why it can miss a class
autoencoder  784-128-64-128-784: compresses an image to a code of 64 numbers; optionally a denoising autoencoder
"""
