"""Data sets as tensors in memory, from disk, download or the machine itself; read in this order.

source     where data lie, downloads with checksums, and the card of a set
archives   zip, tar and gzip files, read within limits
published  the counts and checksums of known sets
batches    shuffled batches out of tensors in memory
images     MNIST, CIFAR-10, digits and shapes
captions   generated scenes with captions, and Flickr8k
ratings    MovieLens, Netflix and planted ratings
text       corpora, sentences, pairs and vocabularies
mazes      mazes and the environment in them
series     series of numbers in time
"""
