"""Images with boxes, for object detection; read in this order.

boxed    the types: images with boxes, and a set with its splits; an image file as a tensor
voc      read a folder in the layout of Pascal VOC
loading  load a data set by name
"""
