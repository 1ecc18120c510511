"""Check of exercise 1: convolution as a matrix product: im2col."""

from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers
from common.exercises.exercise import Arguments, Case, Exercise


def columns_of_torch(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Expected columns by PyTorch's function."""
    return F.unfold(x[None], kernel, stride=stride)[0]


def counted(channels: int, height: int, width: int, kernel: int, stride: int = 1) -> Arguments:
    """Arguments with an image whose elements are 1, 2, 3, ..."""
    count = channels * height * width
    x = torch.arange(1, count + 1, dtype=torch.float64).reshape(channels, height, width)
    return {"x": x, "kernel": kernel, "stride": stride}


def sample_image(generator: Random, size: int) -> Arguments:
    """Random image that is at least as large as the kernel."""
    kernel, stride = generator.randint(1, min(size, 3)), generator.randint(1, 3)
    height, width = (kernel + generator.randint(0, size) for _ in range(2))
    return {"x": integers(generator, generator.randint(1, 2), height, width), "kernel": kernel, "stride": stride}


def channels_last(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Typical mistake: the channels of a pixel follow each other."""
    return columns_of_torch(x, kernel, stride).unflatten(0, (len(x), -1)).transpose(0, 1).flatten(0, 1)


def from_top_to_bottom(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Typical mistake: the windows of the first column come first."""
    return columns_of_torch(x.mT, kernel, stride).unflatten(0, (-1, kernel, kernel)).transpose(1, 2).flatten(0, 2)


IM2COL = Exercise(
    file="ex1_im2col",
    function="im2col",
    reference=columns_of_torch,
    cases=(
        Case(counted(1, 1, 1, kernel=1), "one pixel, one window"),
        Case(counted(1, 1, 2, kernel=1), "two windows are two columns"),
        Case(counted(1, 2, 2, kernel=1), "the windows go from left to right, then from top to bottom"),
        Case(counted(1, 2, 2, kernel=2), "one window: its elements go row by row"),
        Case(counted(2, 1, 1, kernel=1), "two channels are two rows"),
        Case(counted(2, 2, 2, kernel=2), "first all elements of channel 0, then those of channel 1"),
        Case(counted(1, 2, 3, kernel=2), "windows overlap"),
        Case(counted(1, 1, 3, kernel=1, stride=2), "with stride 2 every second window is left out"),
        Case(counted(1, 2, 3, kernel=2, stride=2), "a window that reaches beyond the border is left out"),
    ),
    sample=sample_image,
    sample_note="any number of channels, any kernel size and stride",
    hint=(
        "Write two loops over the upper left corners: range(0, H - K + 1, stride) and the same for the width. A window "
        "is a slice of x; `flatten` makes a vector of it."
    ),
    mistakes={
        "each window is a column of the matrix, not a row": lambda x, kernel, stride: (
            columns_of_torch(x, kernel, stride).mT
        ),
        "the channel comes first: w is flattened in the order k, i, j": channels_last,
        "the windows go from left to right first, then from top to bottom": from_top_to_bottom,
        "the stride is the distance between the windows": lambda x, kernel, stride: (  # noqa: ARG005
            columns_of_torch(x, kernel, 1)
        ),
        "the kernel is not flipped: row (i, j) has the elements at r + i and c + j": lambda x, kernel, stride: (
            columns_of_torch(x, kernel, stride).unflatten(0, (len(x), -1)).flip(1).flatten(0, 1)
        ),
    },
)
