"""Data sets as tensors in memory: read from disk, downloaded or generated; read in this order.

source          data folder, downloads with checksums, and data cards
archives        zip, tar and gzip files, read within size limits
published       counts and checksums of published sets
batches         shuffled batches from tensors in memory
images          MNIST, CIFAR-10, digits and shapes
anomalies       a class held out of training, and baselines that detect it
scenes          generated scenes with boxes and masks
boxes           images with boxes: generated scenes, and folders in the layout of Pascal VOC
masks           images with masks: generated scenes, membranes, and folders in the layout of Pascal VOC
captions        generated scenes with captions, and Flickr8k
ratings         MovieLens, Netflix and generated ratings
text            corpora, sentences, stories and vocabularies
words           texts, test sets and files for word vectors
sentence_pairs  pairs of source and target sentences
mazes           mazes and their environments
series          time series
datasets        every split as a torch.utils.data.Dataset
"""
