"""Membranes by a threshold: pixels darker than a grey level are membranes.

The grey level and the width of a Gaussian filter are chosen on training images, or the grey level of each image by
Otsu's method without any mask.

Dimensions: N images, H, W height and width, L = 256 grey levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data.masks.masked import MaskedImages

LEVELS = 256
FILTERS = (0.0, 1.0, 2.0, 3.0)
"""Standard deviations of the Gaussian filters to choose from, in pixels; 0 is the image itself."""


def grey_levels(pixels: Tensor, deviation: float = 0.0) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, H, W) uint8 grey level, smoothed by a Gaussian filter"""
    grey = pixels.float().mean(1, keepdim=True)
    if deviation:
        reach = round(3 * deviation)
        axis = torch.arange(-reach, reach + 1)
        kernel = torch.exp(-((axis / deviation) ** 2) / 2)
        kernel = kernel / kernel.sum()
        for form, padding in (((1, 1, 1, -1), (reach, reach, 0, 0)), ((1, 1, -1, 1), (0, 0, reach, reach))):
            grey = F.conv2d(F.pad(grey, padding, mode="replicate"), kernel.view(form))
    return grey.squeeze(1).round().clamp(0, LEVELS - 1).to(torch.uint8)


def histogram(grey: Tensor) -> Tensor:
    """Grey levels of any shape -> (L,) float64 number of pixels of each level"""
    return grey.flatten().long().bincount(minlength=LEVELS).double()


@dataclass(frozen=True)
class Threshold:
    """A classifier of pixels: those with a grey level below `level` after the filter are membranes."""

    deviation: float
    level: int

    def segment(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, H, W) uint8 masks"""
        return (grey_levels(pixels, self.deviation) < self.level).to(torch.uint8)


def fit_threshold(train: MaskedImages) -> Threshold:
    """Choose the filter and the level with the largest IoU of the membranes of all training images together.

    With the histograms m of membranes and c of cells, a level t has the IoU
    sum_{g < t} m_g / (sum_g m_g + sum_{g < t} c_g).
    """
    best, chosen = -1.0, Threshold(0.0, 0)
    for deviation in FILTERS:
        grey = grey_levels(train.pixels, deviation)
        m, c = (histogram(grey[train.masks == label]) for label in (1, 0))
        ious = m.cumsum(0) / (m.sum() + c.cumsum(0)).clamp(min=1)  # of the levels 1 ... L
        level = int(ious.argmax())
        if float(ious[level]) > best:
            best, chosen = float(ious[level]), Threshold(deviation, level + 1)
    return chosen


def otsu_level(counts: Tensor) -> int:
    """(L,) histogram -> the level t for which the classes g < t and g >= t have the largest variance between them

    w_0 w_1 (mu_0 - mu_1)^2 with the shares w and the means mu of the two classes (Otsu 1979); this is also the t with
    the smallest variance within the classes.
    """
    levels = torch.arange(len(counts), dtype=counts.dtype)
    below, total = counts.cumsum(0), counts.sum()
    above, sums = total - below, (counts * levels).cumsum(0)
    means = sums / below.clamp(min=1), (sums[-1] - sums) / above.clamp(min=1)
    between = below * above * (means[0] - means[1]) ** 2
    return int(between.argmax()) + 1


def otsu(pixels: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, H, W) uint8 masks with Otsu's level of each image"""
    grey = grey_levels(pixels)
    levels = torch.tensor([otsu_level(histogram(image)) for image in grey]).view(-1, 1, 1)
    return (grey < levels).to(torch.uint8)
