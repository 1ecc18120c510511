"""Pre-trained networks, and the task to which each of them is transferred.

    imagenet  EfficientNet-Lite0 with ImageNet weights; the task has all classes of the data
    half      a small network of the same kind, trained here on the first half of the classes; the task has the others

Dimensions: B batch, N images, K classes.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite, Stage, find_weights, pretrained
from common.config import require
from common.data.images.image_set import ImageSet, Split
from common.data.source import DataUnavailable

SMALL_STEM, SMALL_HEAD = 16, 256
SMALL_STAGES: tuple[Stage, ...] = ((3, 1, 1, 16, 1), (3, 2, 4, 32, 1), (3, 2, 4, 64, 1))
"""A network for 32x32 pixels: the stem halves them, and the last maps have 4x4 positions."""


def available_weights() -> str:
    """Return imagenet if the ImageNet weights are on this machine, else half."""
    try:
        find_weights()
    except DataUnavailable:
        return "half"
    return "imagenet"


def new_network(weights: str, classes: int, *, batch_statistics: bool = True) -> EfficientNetLite:
    """Build the network of a source with random weights."""
    if weights == "imagenet":
        return EfficientNetLite(classes, batch_statistics=batch_statistics)
    return EfficientNetLite(
        classes, stem=SMALL_STEM, stages=SMALL_STAGES, head=SMALL_HEAD, batch_statistics=batch_statistics
    )


def imagenet_network(classes: int) -> EfficientNetLite:
    """Build EfficientNet-Lite0 with ImageNet weights; its batch normalisation keeps the statistics of ImageNet."""
    return pretrained(classes, batch_statistics=False)


def halves(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Divide a data set by class: the first half of the classes, and the others with labels from 0.

    Raises ValueError if there are less than four classes.
    """
    names = data.class_names
    require(len(names) >= 4, "--weights half needs at least four classes in the data", len(names))
    middle = len(names) // 2

    def part(split: Split, first: int, end: int) -> Split:
        chosen = ((split.labels >= first) & (split.labels < end)).nonzero()[:, 0]
        return Split(split.pixels[chosen], split.labels[chosen] - first)

    def subset(first: int, end: int) -> ImageSet:
        splits = {name: part(getattr(data, name), first, end) for name in ("train", "valid", "test")}
        return replace(data, class_names=names[first:end], **splits)

    return subset(0, middle), subset(middle, len(names))


def train_step(
    model: EfficientNetLite,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    *,
    first: int = 0,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step on pixels or on outputs of the `first` layers; return the loss, still on the device."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        logits = model(x, first)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()
