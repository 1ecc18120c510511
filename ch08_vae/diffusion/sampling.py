"""Generate images by removing noise step by step: ancestral sampling, DDIM, classifier-free guidance.

A network predicts the noise in x_t, and with it the image x_0. Both samplers draw a less noisy image around this
prediction, and predict again.

Sources: Ho et al. (2020), algorithm 2; Song, Meng & Ermon (2021), Denoising Diffusion Implicit Models, section 4; Ho &
Salimans (2022), Classifier-Free Diffusion Guidance, section 3.

Dimensions: B batch, N images, C channels, H height, W width, K classes, T steps of the noising process.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ch08_vae.diffusion.schedule import Schedule, at, posterior, remove_noise

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, C, H, W) x_t, (B,) times, (B,) classes from 0 to K -> (B, C, H, W) predicted noise; class K means: no class"""

AT_ONCE = 500
"""Maximum number of images generated at once."""


@dataclass(frozen=True)
class Sampler:
    """Settings of the generation."""

    method: Literal["ddim", "ancestral"] = "ddim"
    """ddim, or the ancestral step of Ho et al., which takes all T steps."""
    steps: int = 20
    """Number of DDIM steps."""
    eta: float = 0.0
    """Noise that a DDIM step adds: 0 is deterministic, 1 adds as much as the ancestral step."""
    guidance: float = 1.0
    """Guidance scale w: 0 ignores the class, 1 is the conditional model, larger values emphasise the class."""


def guided_noise(model: Denoiser, x_t: Tensor, t: Tensor, classes: Tensor, *, no_class: int, scale: float) -> Tensor:
    """(B, C, H, W) x_t -> predicted noise e_u + w (e_c - e_u), with class e_c, without class e_u, scale w

    Ho & Salimans write (1 + v) e_c - v e_u, which is the same with w = 1 + v. Both predictions are one batch.
    """
    if scale == 1:
        return model(x_t, t, classes)
    unconditional = torch.full_like(classes, no_class)
    if scale == 0:
        return model(x_t, t, unconditional)
    both = model(x_t.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([unconditional, classes]))
    e_u, e_c = both.chunk(2)
    return e_u + scale * (e_c - e_u)


def predicted_image(schedule: Schedule, x_t: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
    """(B, C, H, W) x_t and predicted noise -> predicted x_0, limited to the range of pixels, -1 to 1"""
    return remove_noise(schedule, x_t, t, epsilon).clamp(-1, 1)


def ancestral_step(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """(B, C, H, W) x_t, predicted x_0, standard normal noise -> sample of q(x_{t-1} | x_t, x_0)"""
    mean, variance = posterior(schedule, x_0, x_t, t)
    return mean + variance.sqrt() * noise


def ddim_step(
    schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, noise: Tensor, *, eta: float = 0.0
) -> Tensor:
    """(B, C, H, W) x_t, predicted x_0, (B,) times t > s, standard normal noise -> x_s

    x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s - sigma^2) epsilon + sigma noise
    sigma^2 = eta^2 (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)

    (Song et al., equations 12 and 16), with the noise epsilon that belongs to x_t and x_0. For eta = 0 the same noise
    that was found is put back, less of it; for eta = 1 and s = t - 1 this is the ancestral step.
    """
    abar_t, abar_s = at(schedule.abar, t), at(schedule.abar, s)
    epsilon = (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()
    variance = eta**2 * (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
    return abar_s.sqrt() * x_0 + (1 - abar_s - variance).clamp(min=0).sqrt() * epsilon + variance.sqrt() * noise


def times(total: int, steps: int) -> list[int]:
    """Return `steps` + 1 equally spaced times from T down to 0."""
    return torch.linspace(total, 0, steps + 1, dtype=torch.float64).round().int().tolist()


@torch.inference_mode()
def denoise(
    model: Denoiser,
    schedule: Schedule,
    x: Tensor,
    classes: Tensor,
    sampler: Sampler,
    *,
    no_class: int,
    generator: torch.Generator | None = None,
    bf16: bool = False,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(B, C, H, W) noise x_T, (B,) classes -> after each step: the time, x at this time, the predicted image x_0"""
    path = times(schedule.steps, schedule.steps if sampler.method == "ancestral" else sampler.steps)
    for now, then in pairwise(path):
        t, s = (torch.full((len(x),), time, device=x.device) for time in (now, then))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            epsilon = guided_noise(model, x, t, classes, no_class=no_class, scale=sampler.guidance)
        x_0 = predicted_image(schedule, x, t, epsilon.to(x.dtype))
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        if sampler.method == "ancestral":
            x = ancestral_step(schedule, x, x_0, t, noise)
        else:
            x = ddim_step(schedule, x, x_0, t, s, noise, eta=sampler.eta)
        yield then, x, x_0


def generate(
    model: Denoiser,
    schedule: Schedule,
    shape: Sequence[int],
    classes: Tensor,
    sampler: Sampler,
    *,
    no_class: int,
    generator: torch.Generator | None = None,
    bf16: bool = False,
) -> Tensor:
    """(N,) classes on the device of the model -> (N, C, H, W) generated images in [0, 1] on the CPU"""
    images = []
    for part in classes.split(AT_ONCE):
        noise = torch.randn((len(part), *shape), generator=generator, device=classes.device)
        steps = denoise(model, schedule, noise, part, sampler, no_class=no_class, generator=generator, bf16=bf16)
        *_, (_, x, _) = steps
        images.append(x.add(1).div(2).clamp(0, 1).cpu())
    return torch.cat(images)
