"""Losses of style transfer: content, Gram matrices and style, total variation.

Every loss is relative: the content loss is 1 if all features of the picture are 0, and so is the style loss of each
layer. So the same weights suit networks whose feature maps have different sizes and scales.

Dimensions: B pictures, C channels, H, W height and width of a feature map or picture, L layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ch06_cnn.style.features import FeatureNetwork

Maps = Mapping[int, Tensor]
"""{layer: (B, C, H, W) feature map}"""

TINY = 1e-8
"""Minimum of a denominator, for pictures of one colour whose features are 0."""


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """(B, C, H, W) features F, target P -> ||F - P||^2 / ||P||^2, a mean over the B pictures

    Gatys et al. (2016), equation 1, relative to the target instead of halved.
    """
    difference = (features - target).square().sum((1, 2, 3))
    return (difference / target.square().sum((1, 2, 3)).clamp(min=TINY)).mean()


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) features F -> (B, C, C) Gram matrices F F^T / (H W), with F as a C x HW matrix

    Gatys et al. (2016), equation 3. The element (i, j) is the mean product of the channels i and j over all positions.
    Divided by H W, it does not depend on the size of the picture.
    """
    rows = features.flatten(2)
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def style_loss(grams: Tensor, target: Tensor) -> Tensor:
    """(B, C, C) Gram matrices G, (C, C) target A -> ||G - A||^2 / ||A||^2, a mean over the B pictures

    Gatys et al. (2016), equation 4, relative to the target.
    """
    return (grams - target).square().sum((1, 2)).mean() / target.square().sum().clamp(min=TINY)


def total_variation(images: Tensor) -> Tensor:
    """(B, C, H, W) -> the mean squared difference of vertical neighbours plus that of horizontal neighbours

    It penalises noise (Johnson et al. 2016, section 3.2).
    """
    vertical = images[:, :, 1:] - images[:, :, :-1]
    horizontal = images[:, :, :, 1:] - images[:, :, :, :-1]
    return vertical.square().mean() + horizontal.square().mean()


@dataclass(frozen=True)
class Weights:
    """Weights of the three losses in the objective."""

    content: float
    style: float
    variation: float


class Objective(nn.Module):
    """Content, style and total-variation loss for one style picture, (3, H, W) in [0, 1], with a frozen network.

    The Gram matrices of the style picture are computed once.
    """

    def __init__(self, network: FeatureNetwork, style_picture: Tensor, weights: Weights) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.weights = weights
        with torch.no_grad():
            maps = network(style_picture.unsqueeze(0))
            for layer in network.style_layers:
                self.register_buffer(f"target_{layer}", gram(maps[layer])[0])

    @torch.no_grad()
    def content(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) content pictures in [0, 1] -> their feature maps in the content layers"""
        maps = self.network(images)
        return {layer: maps[layer] for layer in self.network.content_layers}

    def parts(self, images: Tensor, content: Maps) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) pictures, feature maps of their content pictures -> content, style and variation loss"""
        maps = self.network(images)
        contents = [content_loss(maps[layer], content[layer]) for layer in self.network.content_layers]
        styles = [
            style_loss(gram(maps[layer]), getattr(self, f"target_{layer}")) for layer in self.network.style_layers
        ]
        return torch.stack(contents).mean(), torch.stack(styles).mean(), total_variation(images)

    def forward(self, images: Tensor, content: Maps) -> Tensor:
        """(B, 3, H, W) pictures, feature maps of their content pictures -> the weighted sum of the three losses"""
        content_part, style_part, variation = self.parts(images, content)
        weights = self.weights
        return weights.content * content_part + weights.style * style_part + weights.variation * variation

    @torch.no_grad()
    def measures(self, images: Tensor, content: Maps) -> dict[str, float]:
        """Return the losses of pictures by name, and their weighted sum."""
        content_part, style_part, variation = (float(part) for part in self.parts(images, content))
        weights = self.weights
        loss = weights.content * content_part + weights.style * style_part + weights.variation * variation
        return {"loss": loss, "content_loss": content_part, "style_loss": style_part, "variation_loss": variation}
