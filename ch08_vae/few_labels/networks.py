"""The two networks of the semi-supervised GAN: a classifier that is also the discriminator, and a generator.

Source: the code of Salimans et al. (2016), Improved Techniques for Training GANs.

Dimensions: B batch, P pixels (784), F features (250), Z noise (100), K classes (10).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ch08_vae.few_labels.weight_norm import WeightNormLinear
from ch08_vae.preprocessing import CLASSES

NOISE_SIZE = 100
"""Number of inputs Z of the generator."""

POOL = 2**21
"""Number of normal numbers that are generated once and reused as noise."""


class GaussianNoise(nn.Module):
    """Add Gaussian noise during training.

    Generating new numbers for every unit takes a considerable part of a training step on a CPU. The noise of a layer is
    therefore a section of one fixed sequence of normal numbers that starts at a random position.
    """

    pool: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pool", torch.randn(POOL), persistent=False)

    def forward(self, x: Tensor, deviation: float) -> Tensor:
        """Add noise of a standard deviation to values of any shape; in evaluation, return them unchanged."""
        if not self.training:
            return x
        size = x.numel()
        if 2 * size > len(self.pool):  # a section would be nearly the same each time
            return x + deviation * torch.randn_like(x)
        start = int(torch.randint(len(self.pool) - size + 1, ()))
        return x.add(self.pool[start : start + size].view_as(x).to(x.dtype), alpha=deviation)


class Classifier(nn.Module):
    """Network 784-1000-500-250-250-250-10 with weight normalisation; Gaussian noise during training."""

    def __init__(self, *, input_noise: float = 0.3, hidden_noise: float = 0.5) -> None:
        super().__init__()
        sizes = (784, 1000, 500, 250, 250, 250)
        self.hidden = nn.ModuleList(WeightNormLinear(*pair, train_length=False) for pair in pairwise(sizes))
        self.output = WeightNormLinear(sizes[-1], CLASSES)
        self.input_noise, self.hidden_noise = input_noise, hidden_noise
        self.noisy = GaussianNoise()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P) pixels in [0, 1] -> (B, K) logits, (B, F) features: the last hidden layer before its noise"""
        hidden = self.noisy(x, self.input_noise)
        features = hidden
        for layer in self.hidden:
            features = layer(hidden).relu()
            hidden = self.noisy(features, self.hidden_noise)
        precision = self.output.v.dtype  # bfloat16 ends here
        return self.output(hidden).to(precision), features.to(precision)

    def trained(self) -> list[nn.Parameter]:
        """List the weights that are trained: all but the lengths of the hidden units' weights."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Initialise all layers on a batch of (B, P) pixels, with noise (Salimans & Kingma 2016, section 3)."""
        hidden = self.noisy(x, self.input_noise)
        for layer in self.hidden:
            assert isinstance(layer, WeightNormLinear)
            hidden = self.noisy(layer.initialise(hidden).relu(), self.hidden_noise)
        self.output.initialise(hidden)


def make_generator() -> nn.Sequential:
    """Create the generator 100-500-500-784: (B, Z) uniform noise in [0, 1] -> (B, P) pixels in [0, 1].

    The output layer has weight normalisation: with lengths of 1 at first, its sigmoids are not saturated.
    """
    layers: list[nn.Module] = []
    for inputs in (NOISE_SIZE, 500):
        layers += [nn.Linear(inputs, 500, bias=False), nn.BatchNorm1d(500), nn.Softplus()]
    return nn.Sequential(*layers, WeightNormLinear(500, 784), nn.Sigmoid())
