"""Semantic segmentation: the class of every pixel of an image; read in this order.

transposed        transposed convolution by hand, and its weights for bilinear interpolation
fcn               the fully convolutional network: scores of several maps, upsampled and added
unet              U-Net: a contracting and an expanding path with concatenated maps
losses            cross-entropy without void pixels, and the Dice loss
measures          confusion matrix, pixel accuracy, intersection over union
augment           flips, rotations, crops, zooms and elastic deformations of image and mask
evaluation        predicted masks of all images of a split, their measures and worst errors
segmentation      the program
baselines         membranes by a threshold: chosen on training images, or by Otsu's method
cross_validation  five-fold cross-validation of membranes, beside the baselines
visualise         masks and errors as pictures
"""
