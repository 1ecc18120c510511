"""Hold one class of an image set out of training: its images are the anomalies of the validation and test sets.

Dimensions: N images.
"""

from collections.abc import Sequence

from torch import Tensor

from common.config import require
from common.data.images.image_set import ImageSet, Split


def without(split: Split, label: int) -> Split:
    """Return the images of all other classes."""
    return split[split.labels != label]


def anomalous(split: Split, label: int) -> Tensor:
    """Return (N,) bool: which images are of the class."""
    return split.labels == label


def require_classes(data: ImageSet, classes: Sequence[int]) -> None:
    """Raise ValueError if a class does not exist, or if a split cannot be used when it is held out.

    Training needs at least two images of other classes; validation and test sets need images of the class and of
    others.
    """
    for label in classes:
        known = 0 <= label < len(data.class_names)
        require(known, f"--classes must be between 0 and {len(data.class_names) - 1}", label)
        require(len(without(data.train, label)) >= 2, "--limit must leave 2 training images of other classes", label)
        for name, split in (("validation", data.valid), ("test", data.test)):
            count = int(anomalous(split, label).sum())
            rule = f"--limit must leave {name} images of class {data.class_names[label]} and of others"
            require(0 < count < len(split), rule, f"{count} of {len(split)}")
