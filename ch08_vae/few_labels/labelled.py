"""Few labelled images: a balanced random sample of the training set, and the other images without their labels.

Dimensions: N training images, M labelled images, K classes (10).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ch08_vae.preprocessing import CLASSES
from common.config import require
from common.data.images.image_set import ImageSet, Split


@dataclass(frozen=True)
class FewLabels:
    """Training images of which few have labels."""

    labelled: Split
    """M images with labels, sorted by class; the numbers of images of two classes differ by at most one"""
    unlabelled: Tensor
    """(N - M, 1, 28, 28) uint8 pixels of the other training images"""

    def to(self, device: torch.device) -> "FewLabels":
        """Copy all images and labels to a device."""
        labelled = Split(self.labelled.pixels.to(device), self.labelled.labels.to(device))
        return FewLabels(labelled, self.unlabelled.to(device))


def sample_rows(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(N,) labels -> (M,) rows of as many images of each class, sampled uniformly; the first classes get the remainder

    Raises ValueError if a class has too few images.
    """
    order = torch.randperm(len(labels), generator=generator)
    rows = []
    for label in range(CLASSES):
        needed = count // CLASSES + (label < count % CLASSES)
        found = order[labels[order] == label][:needed]
        rule = f"--labels {count} needs {needed} training images of class {label}"
        require(len(found) == needed, rule, f"{len(found)} of {len(labels):,} images")
        rows.append(found)
    return torch.cat(rows)


def few_labels(data: ImageSet, count: int, seed: int) -> FewLabels:
    """Divide the training set into a balanced sample of labelled images and the other, unlabelled images.

    The sample depends on the random seed only, so both programs use the same labelled images.

    Raises ValueError if a class has too few images or no image remains.
    """
    size = len(data.train)
    require(count < size, f"--labels must be below the number of training images, {size:,}", count)
    rows = sample_rows(data.train.labels, count, torch.Generator().manual_seed(seed))
    others = torch.ones(size, dtype=torch.bool)
    others[rows] = False
    return FewLabels(data.train[rows], data.train.pixels[others])


def labelled_batch(labelled: Split, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample a batch of labelled images without replacement: (B, 1, 28, 28) pixels and (B,) labels."""
    rows = torch.randperm(len(labelled), generator=generator)[:size].to(labelled.labels.device)
    return labelled.pixels[rows], labelled.labels[rows]
