"""Per-sample data set: the usual input of a training loop, and a baseline of the throughput programs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from common.data.images.image_set import Split


class PerSample(Dataset):
    """Apply torchvision transforms to the images of a split one at a time, like torchvision's own data sets.

    `transform` receives a PIL image, in grey or in colour.
    """

    def __init__(self, split: Split, transform: Callable[[Any], Any]) -> None:
        self.data, self.targets = split.pixels.permute(0, 2, 3, 1).squeeze(-1).contiguous(), split.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index].numpy())), int(self.targets[index])
