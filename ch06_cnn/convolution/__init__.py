"""One convolution by hand, and the book's network; read in this order.

layers      convolution, pooling, batch normalisation and dropout by hand
cnn         the program: the book's network on CIFAR-10
augment     flips and shifts of a batch by one gather
visualise   filters, feature maps and saliency
throughput  the program: cost of the input pipeline, and the share of the processor that is used
"""
