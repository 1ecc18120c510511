"""MNIST, CIFAR-10, their embedded replacements, and folders of pictures; read in this order.

image_set    types: a split and a set of images
loading      find, check and load a set by name
cifar        CIFAR-10's records as tensors
binary       the binary files of MNIST and CIFAR-10
shapes       generated images of ten shapes
transformed  digits that are rotated, scaled, moved, among distractors, or in a row
picture      image files of any size and mode
folder       a folder of pictures with one folder per class
per_sample   per-sample data set, for a DataLoader
"""
