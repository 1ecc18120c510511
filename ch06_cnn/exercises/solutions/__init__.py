"""Solutions of the exercises: `python -m ch06_cnn.exercises 3 --solution`.

ex1_im2col             one flattened window per column
ex2_receptive_field    each layer adds k - 1 steps of the strides before it
ex3_iou                sides of the intersection that are not negative
ex4_suppression        only kept boxes suppress others
ex5_batch_norm         running statistics at evaluation
ex6_grad_cam           one weight per feature map, ReLU at the end
ex7_bilinear           four neighbours, of which only those inside count
ex8_small_network      convolutions with few channels, batch normalisation, pooling
"""
