"""Segment pictures with chapter 6's network: the class of every pixel.

Dimensions: H, W height and width, K classes.
"""

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.inference.picture_files import MAX_OWN_PIXELS, SizeLimit, resized

if TYPE_CHECKING:
    from PIL.Image import Image


def enlarged(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) classes -> (H, W) classes of the nearest pixels; torch's interpolation `nearest-exact`"""
    rows, columns = (
        ((np.arange(count) + 0.5) * old / count).astype(int)
        for count, old in zip((height, width), labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def palette_png(labels: np.ndarray, colours: list[tuple[int, int, int]]) -> bytes:
    """(H, W) uint8 classes -> a PNG file whose values are the classes, and whose palette has their colours

    Class 0, the background, is transparent.
    """
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette([value for colour in colours for value in colour])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


class Segmenter:
    """Find the class of each pixel of a picture."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.classes: list[str] = model.serving.classes
        self.colours: list[tuple[int, int, int]] = model.serving.colours
        self.stride: int = model.serving.stride
        self.size: tuple[int, int] | None = model.serving.size

    @property
    def limit(self) -> SizeLimit:
        """Maximum size of a picture."""
        return SizeLimit(MAX_OWN_PIXELS, self.stride) if self.size is None else SizeLimit()

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) bytes, H and W multiples of the network's stride -> (K, H, W)"""
        return self.model(pixels=pixels[np.newaxis])["logits"][0]

    def labels(self, picture: "Image") -> np.ndarray:
        """Picture -> (H, W) uint8 class of each pixel

        The picture keeps its size and is extended to multiples of the network's stride by copies of its last pixels; if
        the network was trained on resized pictures, it is resized, and its mask enlarged.
        """
        height, width = picture.height, picture.width
        if self.size is not None:
            labels = self.logits(resized(picture, *self.size)).argmax(0)
            return enlarged(labels, height, width).astype(np.uint8)
        margins = [(0, -side % self.stride) for side in (height, width)]
        extended = np.pad(np.asarray(picture), [*margins, (0, 0)], mode="edge")
        return self.logits(extended).argmax(0)[:height, :width].astype(np.uint8)

    def segment(self, picture: "Image") -> dict[str, Any]:
        """Segment a picture: the mask as a palette PNG in base64, and the share of the pixels of each class."""
        labels = self.labels(picture)
        counts = np.bincount(labels.ravel(), minlength=len(self.classes))
        return {
            "model": "segmentation",
            "classes": self.classes,
            "colours": [f"#{bytes(colour).hex()}" for colour in self.colours],
            "shares": (counts / labels.size).tolist(),
            "width": picture.width,
            "height": picture.height,
            "mask": base64.b64encode(palette_png(labels, self.colours)).decode(),
        }
