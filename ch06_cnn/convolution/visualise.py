"""What goes on inside a convolutional network: its first filters, its feature maps, and where it looks.

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
"""How many feature maps of each layer are drawn."""


def find(network: nn.Module, kind: type[M]) -> list[M]:
    """List a network's layers of a kind, in the order in which they were put in."""
    return [layer for layer in network.modules() if isinstance(layer, kind)]


@contextmanager
def answers_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what layers answer while the block runs a network."""
    answers: list[Tensor] = []

    def keep(_: nn.Module, __: object, answer: Any) -> None:
        answers.append(answer)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield answers
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def feature_maps(features: nn.Module, pixels: Tensor) -> list[Tensor]:
    """(B, 3, H, W) -> what every rectifier lets through: [(B, C, H', W'), ...]"""
    with answers_of(find(features, nn.ReLU)) as answers:
        features(pixels)
    return answers


def grad_cam(model: nn.Module, layer: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    """(B, 3, H, W) pixels, (B,) classes -> (B, H, W) in [0, 1]: where the network finds evidence for the class

    With A_k the layer's rectified feature maps and y the class's logit: a_k = mean over places of dy / dA_k, and the
    map is max(0, sum over k of a_k A_k) (Selvaraju et al. 2017, equations 1 and 2), enlarged to the picture. It is all
    zero where every place speaks against the class.
    """
    with torch.enable_grad(), answers_of([layer]) as answers:
        score = model(pixels).gather(1, classes[:, None]).sum()  # pictures do not touch each other's gradient
        (gradient,) = torch.autograd.grad(score, answers)
    weight = gradient.mean((2, 3), keepdim=True)
    evidence = (weight * answers[0].detach()).sum(1, keepdim=True).relu()
    large = F.interpolate(evidence, size=pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax((1, 2), keepdim=True).clamp(min=1e-12)


def spread_out(images: Tensor) -> Tensor:
    """(N, C, H, W) -> the same, each stretched over [0, 1] by its own smallest and largest value"""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-12)


def report(run: Run, model: nn.Module, features: nn.Module, data: ImageSet, guesses: Tensor) -> None:
    """Draw the first layer's filters, the feature maps of one picture, and where the network looks."""
    device = next(model.parameters()).device
    run.figure("filters", draw_filters(find(features, nn.Conv2d)[0].weight))
    shown = examples(data.test.labels, len(data.class_names))
    pixels = scaled(data.test.pixels[shown].to(device))
    run.figure("maps", draw_maps(feature_maps(features, pixels[:1]), data.test.pixels[shown[0]]))
    heat = grad_cam(model, find(features, nn.ReLU)[-1], pixels, guesses[shown].to(device)).cpu()
    titles = [data.class_names[label] for label in data.test.labels[shown].tolist()]
    titles += [f"as {data.class_names[guess]}" for guess in guesses[shown].tolist()]
    run.figure("gradcam", draw_heat(data.test.pixels[shown], heat, titles))


def examples(labels: Tensor, classes: int) -> Tensor:
    """Find the first image of each class that has one."""
    found = [(labels == label).nonzero() for label in range(classes)]
    return torch.cat([places[0] for places in found if len(places)])


def draw_filters(weight: Tensor, titles: tuple[str, ...] | None = None) -> "Figure":
    """Draw (O, 3, K, K) filters as small colour pictures, each stretched over the whole range."""
    from common.drawing import plots

    return plots.image_grid(spread_out(weight.detach()), columns=5 if titles else 8, titles=titles)


def draw_maps(maps: list[Tensor], picture: Tensor) -> "Figure":
    """Draw a picture's most active feature maps, a row a layer."""
    from common.drawing import plots

    height, width = picture.shape[1:]
    rows = []
    for answer in maps:
        strongest = answer[0].mean((1, 2)).topk(MAPS).indices
        grey = spread_out(answer[0, strongest].unsqueeze(1)).cpu()
        rows.append(F.interpolate(grey, size=(height, width)).expand(-1, 3, -1, -1))
    first = picture[None].float().div(255).expand(MAPS, -1, -1, -1)
    names = ["input", *(f"layer {number}" for number in range(1, len(maps) + 1))]
    return plots.image_grid(torch.cat([first, *rows]), columns=MAPS, row_names=names)


def draw_heat(images: Tensor, heat: Tensor, titles: list[str]) -> "Figure":
    """Draw pictures, and below each the same one dark where the network finds nothing."""
    from common.drawing import plots

    bright = images.float().div(255)
    lit = bright * (0.15 + 0.85 * heat.unsqueeze(1))
    rows = ["image", "where it looks"]
    return plots.image_grid(torch.cat([bright, lit]), columns=len(images), titles=titles, row_names=rows)
