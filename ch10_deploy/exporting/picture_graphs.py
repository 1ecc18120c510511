"""Define the exported graphs of chapter 6's networks that take whole pictures, with pictures to try.

Dimensions: B batch, H, W height and width, A anchors or cells, O outputs for each of them, K classes.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import MIDDLE, SPREAD
from ch06_cnn.detection import detection
from ch06_cnn.detection.boxes import clip
from ch06_cnn.detection.network import Detector
from ch06_cnn.segmentation import segmentation
from ch06_cnn.segmentation.fcn import FCN, LiteBackbone
from ch06_cnn.segmentation.unet import UNet
from ch06_cnn.style import fast_style, pictures
from ch06_cnn.style.network import STRIDE, StyleNetwork
from ch10_deploy.exporting.graphs import Graph, multiple
from common.data.boxes.boxed import NO_BOX
from common.data.boxes.loading import load_boxes
from common.data.masks.loading import load_masks

SHOWN = 8
"""Number of pictures to try, from the test set."""

PHOTOGRAPHS, LONGER_SIDE = ("china", "flower"), 384
"""Pictures to try for the style network, and their size in pixels; scikit-learn ships them."""

COMPARED = (64, 96)
"""Height and width of the pictures on which the style network's graph is compared with the original."""


def png_text(pixels: Tensor) -> str:
    """(3, H, W) uint8 -> a PNG file in base64"""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def channels_last(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, H, W, 3), as in image files"""
    return pixels.permute(0, 2, 3, 1).contiguous()


class Detect(nn.Module):
    """Chapter 6's detector, from bytes to boxes and probabilities, before non-maximum suppression.

    The parts of the network are called here, since its own `forward` stores the pixels with channels last, which ONNX
    does not have.
    """

    def __init__(self, model: Detector, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, W, 3) bytes -> (B, A, O) outputs of the head, (B, A, 4) boxes, (B, A, K) probabilities"""
        scaled = (pixels.permute(0, 3, 1, 2).contiguous().float() - MIDDLE) / SPREAD
        outputs = self.model.head(self.model.pyramid(self.model.backbone(scaled)))
        boxes, probabilities = self.model.head.candidates(outputs)
        return outputs, clip(boxes, *self.size), probabilities


def detect(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 6's detector, from a run."""
    model, names, config = detection.restore(folder)
    test = load_boxes(config.data, size=config.input_size, folder=config.folder, limit=SHOWN).test
    most_objects_first = (test.labels != NO_BOX).sum(1).argsort(descending=True, stable=True)
    return detect_of(model, names, test.pixels[most_objects_first])


def detect_of(model: Detector, names: Sequence[str], images: Tensor) -> Graph:
    """Build the graph of a detector; the examples are (N, 3, H, W) images of the test set, and noise."""
    height, width = images.shape[2:]
    noise = torch.randint(256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    module = Detect(model.to(memory_format=torch.contiguous_format), (height, width))

    def original(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = model(pixels.permute(0, 3, 1, 2))
        boxes, probabilities = model.head.candidates(outputs)
        return outputs, clip(boxes, height, width), probabilities

    return Graph(
        module=module,
        inputs={"pixels": channels_last(torch.cat([images, noise]))},
        outputs=("outputs", "boxes", "probabilities"),
        original=original,
        dynamic={"pixels": {0: "batch"}},
        serving={
            "classes": list(names),
            "height": height,
            "width": width,
            "examples": [png_text(image) for image in images],
        },
    )


class Segment(nn.Module):
    """Chapter 6's segmentation network, from bytes to logits; the client takes the largest of each pixel."""

    def __init__(self, model: UNet | FCN) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        """(B, H, W, 3) bytes -> (B, K, H, W) logits"""
        return (self.model(pixels.permute(0, 3, 1, 2).contiguous()),)


def segment(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 6's segmentation network, from a run."""
    model, names, config = segmentation.restore(folder)
    test = load_masks(
        config.data, size=config.input_size, folder=config.folder, fold=config.fold, folds=config.folds, limit=SHOWN
    ).test
    classes = torch.tensor([len(mask.unique()) for mask in test.masks])
    most_classes_first = classes.argsort(descending=True, stable=True)
    return segment_of(model, names, test.pixels[most_classes_first], resized=config.data == "voc")


def segment_of(model: UNet | FCN, names: Sequence[str], images: Tensor, *, resized: bool) -> Graph:
    """Build the graph of a segmentation network; the examples are (N, 3, H, W) images of the test set.

    If the network was trained on resized pictures, the server resizes those that it receives to (H, W). So it does for
    EfficientNet-Lite0, whose padding depends on the size in a way that cannot be traced.
    """
    from ch06_cnn.segmentation.visualise import palette  # loads matplotlib

    fixed = resized or (isinstance(model, FCN) and isinstance(model.backbone, LiteBackbone))
    sides = {} if fixed else {1: "height", 2: "width"}
    return Graph(
        module=Segment(model.to(memory_format=torch.contiguous_format)),
        inputs={"pixels": channels_last(images)},
        outputs=("logits",),
        original=lambda pixels: (model(pixels.permute(0, 3, 1, 2)),),
        dynamic={"pixels": {0: "batch"} | sides},
        sizes={side: multiple(side, model.stride) for side in sides.values()},
        serving={
            "classes": list(names),
            "colours": [tuple(colour) for colour in palette(len(names))[: len(names)].tolist()],
            "stride": model.stride,
            "size": tuple(images.shape[2:]) if fixed else None,
            "examples": [png_text(image) for image in images],
        },
    )


class Stylise(nn.Module):
    """Chapter 6's feed-forward network for a style, from bytes to bytes that are not yet rounded."""

    def __init__(self, model: StyleNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        """(B, H, W, 3) bytes -> (B, H, W, 3) from 0 to 255"""
        images = pixels.permute(0, 3, 1, 2).contiguous().float() / 255
        return ((255 * self.model(images)).permute(0, 2, 3, 1),)


def stylise(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 6's feed-forward network for a style, from a run."""
    model, _ = fast_style.restore(folder)
    return stylise_of(model, [pictures.read(name, LONGER_SIDE) for name in PHOTOGRAPHS])


def stylise_of(model: StyleNetwork, photographs: Sequence[Tensor]) -> Graph:
    """Build the graph of a style network; it is compared on small copies of the (3, H, W) photographs.

    Crops could be nearly constant. Instance normalisation then divides by a small number, which enlarges rounding
    errors.
    """
    small = [F.interpolate(each.unsqueeze(0).float(), COMPARED, mode="area") for each in photographs]
    return Graph(
        module=Stylise(model.to(memory_format=torch.contiguous_format)),
        inputs={"pixels": channels_last(torch.cat(small).to(torch.uint8))},
        outputs=("stylised",),
        original=lambda pixels: (255 * model(pictures.as_floats(pixels.permute(0, 3, 1, 2))).permute(0, 2, 3, 1),),
        dynamic={"pixels": {0: "batch", 1: "height", 2: "width"}},
        sizes={side: multiple(side, STRIDE, least=2) for side in ("height", "width")},
        serving={"stride": STRIDE, "examples": [png_text(each) for each in photographs]},
    )
