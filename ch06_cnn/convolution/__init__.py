"""One convolution by hand, and the book's network; read in this order.

layers      convolution, pooling, batch normalisation and dropout by hand
cnn         the program: the book's network on CIFAR-10
augment     flips, shifts and erased squares for a batch, by one gather
visualise   filters, feature maps and Grad-CAM
throughput  the program: throughput of augmentation and of training, and the share of the processor's peak rate
"""
