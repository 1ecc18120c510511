"""Exercises of chapter 6 that check themselves: `python -m ch06_cnn.exercises`.

ex1_im2col             a convolution as one matrix product
ex2_receptive_field    output size and receptive field of several convolutions
ex3_iou                intersection over union of two boxes
ex4_suppression        find the bug: non-maximum suppression
ex5_batch_norm         find the bug: batch normalisation at evaluation
ex6_grad_cam           a heat map from feature maps and gradients
ex7_bilinear           the value of an image between its pixels
ex8_small_network      95 % on digits with 1,000 parameters, measured
checks                 a file per exercise: reference, cases, hint, typical mistakes
solutions              a file per exercise: the solution with an explanation
__main__               the command
"""
