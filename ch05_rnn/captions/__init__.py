"""Image captions; read in this order.

captioning  the program: captions of generated scenes or of Flickr8k
network     convolutional encoder, and LSTM decoder with attention over the grid of features
evaluation  share of true captions, BLEU-4, and the captions of the nearest training images as a baseline
visualise   attention drawn over the image, word by word
"""
