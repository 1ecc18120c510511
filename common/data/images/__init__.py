"""MNIST, CIFAR-10 and their embedded stand-ins; read in this order.

image_set   the types: a split and a set of images
loading     find, check and load a set by name
cifar       CIFAR-10's records as tensors
binary      the binary files of MNIST and CIFAR-10
shapes      ten classes of drawn shapes
per_sample  the same images one at a time, for a DataLoader
"""
