"""Convolution as a matrix product: im2col (15 minutes)

A convolution with stride s computes at every position (r, c)

    y_o(r, c) = sum over k, i, j of w_o(k, i, j) x_k(r s + i, c s + j).

If each column of a matrix X has the elements of one window, this is one matrix product Y = W X. Row o of W has the
elements of w_o in the order k, i, j: first channel 0, row by row. Return X: its rows are in the same order, its columns
are the windows from left to right, then from top to bottom. A window must be completely inside the image.

Check: python -m ch06_cnn.exercises 1
"""

from torch import Tensor


def im2col(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(C, H, W) image, kernel size K, stride -> (C K K, L) elements of L windows, without `unfold`"""
    raise NotImplementedError
