"""Images with captions; read in this order.

scenes     generated scenes of two objects, as pixels
grammar    the true captions of a scene, and whether a caption is true
captioned  the types: images with captions, and a set with its splits; an image file as a tensor
flickr8k   Flickr8k's files
loading    load a data set by name
"""
