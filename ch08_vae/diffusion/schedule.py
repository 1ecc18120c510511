"""Noise schedules and the Gaussian distributions of the noising process.

    q(x_t | x_{t-1}) = N(sqrt(alpha_t) x_{t-1}, beta_t I),   alpha_t = 1 - beta_t        one step
    q(x_t | x_0)     = N(sqrt(abar_t) x_0, (1 - abar_t) I),  abar_t = alpha_1 ... alpha_t    t steps at once

Sources: Ho, Jain & Abbeel (2020), Denoising Diffusion Probabilistic Models, section 2; Nichol & Dhariwal (2021),
Improved Denoising Diffusion Probabilistic Models, section 3.2 (cosine schedule).

Dimensions: B batch, C channels, H height, W width, T steps of the noising process.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ScheduleName = Literal["cosine", "linear"]

OFFSET = 0.008
"""Offset s of the cosine schedule; without it, the first steps would add hardly any noise."""
LARGEST_BETA = 0.999
"""Upper limit of beta_t, as in Nichol & Dhariwal; the cosine schedule would end with beta_T = 1."""


def cosine_abar(t: Tensor, steps: int) -> Tensor:
    """(...) times -> (...) abar_t = f(t) / f(0) with f(t) = cos^2((t / T + s) / (1 + s) pi / 2), in float64"""

    def f(time: Tensor) -> Tensor:
        return torch.cos((time / steps + OFFSET) / (1 + OFFSET) * math.pi / 2).square()

    return f(t.double()) / f(torch.zeros((), dtype=torch.float64))


def cosine_betas(steps: int) -> Tensor:
    """Return (T,) beta_1 ... beta_T = 1 - abar_t / abar_{t-1} of the cosine schedule, at most LARGEST_BETA."""
    abar = cosine_abar(torch.arange(steps + 1), steps)
    return (1 - abar[1:] / abar[:-1]).clamp(max=LARGEST_BETA)


def linear_betas(steps: int) -> Tensor:
    """Return (T,) equally spaced betas from 0.0001 to 0.02 (Ho et al.), multiplied by 1000 / T if T is not 1,000."""
    scale = 1_000 / steps
    return torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64).clamp(max=LARGEST_BETA)


@dataclass(frozen=True)
class Schedule:
    """Coefficients of the noising process; entry t of each tensor belongs to step t, and x_0 is the image."""

    beta: Tensor
    """(T + 1,) variances of the steps; beta_0 = 0"""
    alpha: Tensor
    """(T + 1,) 1 - beta_t; alpha_0 = 1"""
    abar: Tensor
    """(T + 1,) alpha_1 ... alpha_t: the share of the image in the variance of x_t; abar_0 = 1"""

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.beta) - 1


def make_schedule(
    name: ScheduleName, steps: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Schedule:
    """Compute a schedule in float64 and convert it."""
    betas = cosine_betas(steps) if name == "cosine" else linear_betas(steps)
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), betas])
    parts = (beta, 1 - beta, (1 - beta).cumprod(0))
    return Schedule(*(part.to(device, dtype) for part in parts))


def at(coefficients: Tensor, t: Tensor) -> Tensor:
    """(T + 1,), (B,) integer times -> (B, 1, 1, 1) coefficients of the times"""
    return coefficients[t].view(-1, 1, 1, 1)


def add_noise(schedule: Schedule, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
    """(B, C, H, W) images and noise, (B,) times -> x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon"""
    abar = at(schedule.abar, t)
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * epsilon


def remove_noise(schedule: Schedule, x_t: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
    """(B, C, H, W) x_t and its predicted noise, (B,) times -> x_0, by solving the formula of `add_noise`"""
    abar = at(schedule.abar, t)
    return (x_t - (1 - abar).sqrt() * epsilon) / abar.sqrt()


def posterior(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) x_0 and x_t, (B,) times -> mean and (B, 1, 1, 1) variance of q(x_{t-1} | x_t, x_0)

    By Bayes' rule it is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0), a product of two Gaussians in x_{t-1}:

        variance = beta_t (1 - abar_{t-1}) / (1 - abar_t)
        mean = [sqrt(abar_{t-1}) beta_t x_0 + sqrt(alpha_t) (1 - abar_{t-1}) x_t] / (1 - abar_t)

    (Ho et al., equations 6 and 7)
    """
    beta, alpha, abar, before = (
        at(c, i) for c, i in ((schedule.beta, t), (schedule.alpha, t), (schedule.abar, t), (schedule.abar, t - 1))
    )
    mean = (before.sqrt() * beta * x_0 + alpha.sqrt() * (1 - before) * x_t) / (1 - abar)
    return mean, beta * (1 - before) / (1 - abar)
