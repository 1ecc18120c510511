"""Networks of the adversarial programs: convolutional pairs for images of 28x28 pixels, linear layers for points.

    small   two convolutions in each network
    dcgan   four, as in the DCGAN of Radford, Metz & Chintala (2016): no linear layers, batch normalisation everywhere
            except at the generator's output and the discriminator's input; 28x28 pixels need one stage less than the
            64x64 of the paper
    points  linear layers and ReLUs, without batch normalisation

Dimensions: B batch, Z latent units, W width.
"""

from typing import Literal

from torch import Tensor, nn

from ch08_vae.adversarial.spectral import normalise_layers

Network = Literal["small", "dcgan"]


class Generator(nn.Module):
    """Map a latent vector to a sample."""

    def __init__(self, latent_size: int, *layers: nn.Module) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, ...) samples; images are in [-1, 1]"""
        return self.layers(z)


class Discriminator(nn.Module):
    """Map a sample to a number that is large for real ones: a logit, or the score of a critic."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, ...) samples -> (B,) outputs"""
        return self.layers(samples).float().flatten()


class Pair(nn.Module):
    """Generator and discriminator, in one module that can be saved."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator


def up(inputs: int, outputs: int, kernel: int = 4) -> list[nn.Module]:
    """Return a transposed convolution with stride 2 (7x7 -> 14x14), batch normalisation and ReLU."""
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=1, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def down(inputs: int, outputs: int, kernel: int = 4, *, batch_norm: bool) -> list[nn.Module]:
    """Return a convolution with stride 2 (14x14 -> 7x7), optional batch normalisation and leaky ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=1, bias=not batch_norm)
    return [layer, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.LeakyReLU(0.2)]


def small_pair(latent_size: int, width: int, *, batch_norm: bool) -> Pair:
    """Build the small networks; `batch_norm` is that of the discriminator."""
    generator = Generator(
        latent_size,
        nn.Linear(latent_size, 2 * width * 7 * 7, bias=False),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        *up(2 * width, width),  # 14x14
        nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2, padding=1),  # 28x28
        nn.Tanh(),
    )
    discriminator = Discriminator(
        *down(1, width, batch_norm=False),  # 14x14
        *down(width, 2 * width, batch_norm=batch_norm),  # 7x7
        nn.Flatten(),
        nn.Linear(2 * width * 7 * 7, 1),
    )
    return Pair(generator, discriminator)


def dcgan_pair(latent_size: int, width: int, *, batch_norm: bool) -> Pair:
    """Build the DCGAN; `batch_norm` is that of the discriminator."""
    generator = Generator(
        latent_size,
        nn.Unflatten(1, (latent_size, 1, 1)),
        nn.ConvTranspose2d(latent_size, 4 * width, kernel_size=4, bias=False),  # 4x4
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        *up(4 * width, 2 * width, kernel=3),  # 7x7
        *up(2 * width, width),  # 14x14
        nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2, padding=1),  # 28x28
        nn.Tanh(),
    )
    discriminator = Discriminator(
        *down(1, width, batch_norm=False),  # 14x14
        *down(width, 2 * width, batch_norm=batch_norm),  # 7x7
        *down(2 * width, 4 * width, kernel=3, batch_norm=batch_norm),  # 4x4
        nn.Conv2d(4 * width, 1, kernel_size=4),  # 1x1
    )
    return Pair(generator, discriminator)


def initialise(pair: Pair) -> None:
    """Initialise as in the DCGAN paper: weights N(0, 0.02^2), gains of the batch normalisation N(1, 0.02^2)."""
    for module in pair.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)


def image_pair(network: Network, latent_size: int, width: int, *, batch_norm: bool, spectral_norm: bool) -> Pair:
    """Build a pair for images; spectral normalisation replaces batch normalisation in the discriminator."""
    build = small_pair if network == "small" else dcgan_pair
    pair = build(latent_size, width, batch_norm=batch_norm and not spectral_norm)
    initialise(pair)
    if spectral_norm:
        normalise_layers(pair.discriminator)
    return pair


def point_pair(latent_size: int, width: int, *, spectral_norm: bool) -> Pair:
    """Build a pair for points of the plane: two hidden layers of W units in each network, PyTorch's initial weights."""
    generator = Generator(
        latent_size,
        *(nn.Linear(latent_size, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 2),
    )
    discriminator = Discriminator(
        *(nn.Linear(2, width), nn.LeakyReLU(0.2)),
        *(nn.Linear(width, width), nn.LeakyReLU(0.2)),
        nn.Linear(width, 1),
    )
    if spectral_norm:
        normalise_layers(discriminator)
    return Pair(generator, discriminator)
