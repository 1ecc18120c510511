"""Images with masks, for semantic segmentation; read in this order.

masked     the types: images with masks, and a set with its splits; checks of image files before they are decoded
voc        read a folder in the layout of Pascal VOC
membranes  read the slices of the ISBI challenge of 2012, and divide them into folds
cells      generated slices of cells with dark membranes
loading    load a data set by name
"""
