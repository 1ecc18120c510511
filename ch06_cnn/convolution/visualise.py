"""Figures of a convolutional network: filters of the first layer, feature maps, and Grad-CAM heat maps.

Dimensions: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.preprocessing import scaled
from common.data.images.image_set import ImageSet
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

M = TypeVar("M", bound=nn.Module)

MAPS = 8
"""Number of feature maps drawn per layer."""

EXAMPLES = 10
"""Maximum number of images drawn with a heat map, each of another class."""


def find(network: nn.Module, kind: type[M]) -> list[M]:
    """List the layers of a type in a network, in order of registration."""
    return [layer for layer in network.modules() if isinstance(layer, kind)]


@contextmanager
def outputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs of layers during forward passes within the block."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Any) -> None:
        outputs.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def feature_maps(features: nn.Module, pixels: Tensor) -> list[Tensor]:
    """(B, 3, H, W) -> outputs of all ReLU layers: [(B, C, H', W'), ...]"""
    with outputs_of(find(features, nn.ReLU)) as outputs:
        features(pixels)
    return outputs


def grad_cam(model: nn.Module, layer: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    """(B, 3, H, W) pixels, (B,) classes -> (B, H, W) Grad-CAM heat maps in [0, 1]

    With A_k the layer's feature maps after ReLU and y the logit of the class: alpha_k = mean over positions of
    dy / dA_k, and the map is max(0, sum over k of alpha_k A_k) (Selvaraju et al. 2017, equations 1 and 2), enlarged to
    the size of the image and divided by its maximum. If the sum is nowhere positive, the map is zero.
    """
    with torch.enable_grad(), outputs_of([layer]) as outputs:
        score = model(pixels).gather(1, classes[:, None]).sum()  # each logit depends on its own image only
        (gradient,) = torch.autograd.grad(score, outputs)
    weight = gradient.mean((2, 3), keepdim=True)
    evidence = (weight * outputs[0].detach()).sum(1, keepdim=True).relu()
    large = F.interpolate(evidence, size=pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax((1, 2), keepdim=True).clamp(min=1e-12)


def rescale(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H, W), each image rescaled to [0, 1] by its minimum and maximum"""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-12)


def report(run: Run, model: nn.Module, features: nn.Module, data: ImageSet, predictions: Tensor) -> None:
    """Draw the filters of the first layer, the feature maps of one image, and Grad-CAM heat maps."""
    device = next(model.parameters()).device
    run.figure("filters", draw_filters(find(features, nn.Conv2d)[0].weight))
    shown = examples(data.test.labels, len(data.class_names))[:EXAMPLES]
    pixels = scaled(data.test.pixels[shown].to(device))
    run.figure("maps", draw_maps(feature_maps(features, pixels[:1]), data.test.pixels[shown[0]]))
    heat = grad_cam(model, find(features, nn.ReLU)[-1], pixels, predictions[shown].to(device)).cpu()
    titles = [data.class_names[label] for label in data.test.labels[shown].tolist()]
    titles += [f"→ {data.class_names[guess]}" for guess in predictions[shown].tolist()]
    run.figure("gradcam", draw_heat(data.test.pixels[shown], heat, titles))


def examples(labels: Tensor, classes: int) -> Tensor:
    """(N,) labels -> index of the first image of each class that occurs"""
    found = [(labels == label).nonzero() for label in range(classes)]
    return torch.cat([places[0] for places in found if len(places)])


def draw_filters(weight: Tensor, titles: tuple[str, ...] | None = None) -> "Figure":
    """Draw (O, 3, K, K) filters as colour images, each rescaled to the full range."""
    from common.drawing import plots

    return plots.image_grid(rescale(weight.detach()), columns=5 if titles else 8, titles=titles)


def draw_maps(maps: list[Tensor], image: Tensor) -> "Figure":
    """Draw the feature maps with the largest means, one row per layer, below the image."""
    from common.drawing import plots

    height, width = image.shape[1:]
    rows = []
    for output in maps:
        strongest = output[0].mean((1, 2)).topk(MAPS).indices
        grey = rescale(output[0, strongest].unsqueeze(1)).cpu()
        rows.append(F.interpolate(grey, size=(height, width)).expand(-1, 3, -1, -1))
    first = image[None].float().div(255).expand(MAPS, -1, -1, -1)
    names = ["input", *(f"layer {number}" for number in range(1, len(maps) + 1))]
    return plots.image_grid(torch.cat([first, *rows]), columns=MAPS, row_names=names)


def draw_heat(images: Tensor, heat: Tensor, titles: list[str]) -> "Figure":
    """Draw images, and below each its Grad-CAM heat map from blue (0) to red (1), blended with the grey image."""
    import matplotlib as mpl

    from common.drawing import plots

    bright = images.float().div(255)
    colours = torch.from_numpy(mpl.colormaps["turbo"](heat.numpy())[..., :3]).float().movedim(3, 1)
    overlay = 0.5 * bright.mean(1, keepdim=True) + 0.5 * colours
    rows = ["image", "Grad-CAM"]
    return plots.image_grid(torch.cat([bright, overlay]), columns=len(images), titles=titles, row_names=rows, size=0.85)
