"""Digits without and with labels; read in this order.

feedforward  784-300-100-10, trained with cross-entropy or with the book's loss
autoencoder  784-128-64-128-784: squeezes a digit into 64 numbers and removes noise
"""
