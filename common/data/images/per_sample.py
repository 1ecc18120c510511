"""Images one at a time, in Python: what most training loops start from, and the throughput programs compare with."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from common.data.images.image_set import Split


class PerSample(Dataset):
    """Grey images one at a time through torchvision's transforms, exactly as its own MNIST data set gives them."""

    def __init__(self, split: Split, *transforms: Callable[[Any], Any]) -> None:
        from torchvision.transforms import Compose, ToTensor

        self.data, self.targets = split.pixels[:, 0], split.labels
        self.transform = Compose([ToTensor(), *transforms])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        picture, target = Image.fromarray(self.data[index].numpy()), int(self.targets[index])
        return self.transform(picture), target  # pyright: ignore[reportReturnType]  # Compose has no precise type
