"""Planted mixtures of Gaussians in the plane, on which the modes that a generator has found can be counted.

    grid   25 Gaussians with means (-4, -2, 0, 2, 4) x (-4, -2, 0, 2, 4) and standard deviation 0.05
    ring   8 Gaussians at equal distances on a circle of radius 2, with standard deviation 0.02

Sources: Metz et al. (2017), Unrolled Generative Adversarial Networks (the ring); Srivastava et al. (2017), VEEGAN (the
grid, and the two measures of samples); Lin et al. (2018), PacGAN (the divergence).

Dimensions: N samples, M modes.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Name = Literal["grid", "ring"]

RADII = 3.0
"""A sample is of high quality if it is at most this number of standard deviations from the nearest mean."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of equally probable, isotropic Gaussians."""

    means: Tensor
    """(M, 2)"""
    deviation: float
    """Standard deviation of each Gaussian, in both directions."""


def make_mixture(name: Name) -> Mixture:
    """Return the means and the standard deviation of a mixture."""
    if name == "grid":
        steps = torch.arange(-4.0, 5.0, 2.0)
        return Mixture(torch.cartesian_prod(steps, steps), 0.05)
    angles = torch.arange(8) * (2 * math.pi / 8)
    return Mixture(2 * torch.stack([angles.cos(), angles.sin()], dim=1), 0.02)


def draw(mixture: Mixture, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return (count, 2) samples of the mixture."""
    modes = torch.randint(len(mixture.means), (count,), device=device)
    return mixture.means.to(device)[modes] + mixture.deviation * torch.randn(count, 2, device=device)


def measure_modes(samples: Tensor, mixture: Mixture) -> dict[str, float]:
    """Return the modes found by (N, 2) samples, the share of high quality, and the divergence of the modes.

    A mode is found if it is the nearest one of a sample of high quality. `kl` is KL(q || uniform) in nats, where q_m is
    the share of mode m among the samples of high quality: 0 if all modes are equally frequent, log M if there is only
    one mode, or no sample of high quality.
    """
    distances, nearest = torch.cdist(samples.cpu(), mixture.means).min(dim=1)
    good = distances <= RADII * mixture.deviation
    counts = nearest[good].bincount(minlength=len(mixture.means)).double()
    q = counts[counts > 0] / counts.sum()
    most = math.log(len(mixture.means))
    return {
        "modes": float((counts > 0).sum()),
        "high_quality": float(good.double().mean()),
        "kl": float((q * q.log()).sum()) + most if len(q) > 0 else most,
    }
