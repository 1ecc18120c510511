"""Give pictures a style with chapter 6's feed-forward network.

Dimensions: H, W height and width.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.inference.picture_files import MAX_OWN_PIXELS, SizeLimit

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST = 8
"""Minimum height and width of the network's input; smaller pictures are extended."""


class Stylist:
    """Give pictures a style."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.stride: int = model.serving.stride

    @property
    def limit(self) -> SizeLimit:
        """Maximum size of a picture."""
        return SizeLimit(MAX_OWN_PIXELS, max(self.stride, LEAST))

    def pixels(self, picture: "Image") -> np.ndarray:
        """Picture -> (H, W, 3) uint8 in the network's style

        It is extended to multiples of the network's stride by copies of its last pixels, which are removed afterwards.
        """
        height, width = picture.height, picture.width
        margins = [(0, max(-side % self.stride, LEAST - side)) for side in (height, width)]
        extended = np.pad(np.asarray(picture), [*margins, (0, 0)], mode="edge")
        found = self.model(pixels=extended[np.newaxis])["stylised"][0]
        return np.rint(found[:height, :width]).astype(np.uint8)

    def stylise(self, picture: "Image") -> bytes:
        """Return the picture in the network's style as a PNG file."""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(self.pixels(picture)).save(file, "PNG", compress_level=3)
        return file.getvalue()
