"""Checks of the exercises of chapter 6: reference, cases, hint, and typical mistakes with their explanations.

ex1_im2col             a convolution as one matrix product
ex2_receptive_field    output size and receptive field of several convolutions
ex3_iou                intersection over union of two boxes
ex4_suppression        find the bug: non-maximum suppression
ex5_batch_norm         find the bug: batch normalisation at evaluation
ex6_grad_cam           a heat map from feature maps and gradients
ex7_bilinear           the value of an image between its pixels
ex8_small_network      95 % on digits with 1,000 parameters, measured
"""

from ch06_cnn.exercises.checks.ex1_im2col import IM2COL
from ch06_cnn.exercises.checks.ex2_receptive_field import RECEPTIVE_FIELD
from ch06_cnn.exercises.checks.ex3_iou import IOU
from ch06_cnn.exercises.checks.ex4_suppression import SUPPRESSION
from ch06_cnn.exercises.checks.ex5_batch_norm import BATCH_NORM
from ch06_cnn.exercises.checks.ex6_grad_cam import GRAD_CAM
from ch06_cnn.exercises.checks.ex7_bilinear import BILINEAR
from ch06_cnn.exercises.checks.ex8_small_network import SMALL_NETWORK

EXERCISES = (
    *(IM2COL, RECEPTIVE_FIELD, IOU, SUPPRESSION, BATCH_NORM, GRAD_CAM, BILINEAR),
    SMALL_NETWORK,
)
"""Exercises of the chapter in order."""
