"""Losses of generator and discriminator: the non-saturating GAN, and the Wasserstein GAN with gradient penalty.

    non-saturating   L_D = E[log(1 + exp(-D(x)))] + E[log(1 + exp(D(G(z))))]     L_G = E[log(1 + exp(-D(G(z))))]
    wasserstein      L_D = E[D(G(z))] - E[D(x)] + lambda E[(|grad D(y)| - 1)^2]  L_G = -E[D(G(z))]

x is a real sample, G(z) a generated one, and y a random point on the line between them. The discriminator of a
Wasserstein GAN is called critic, because its output is a score and not a logit.

Sources: Goodfellow et al. (2014), Generative Adversarial Nets, section 3; Arjovsky, Chintala & Bottou (2017),
Wasserstein GAN, equations 2 and 3; Gulrajani et al. (2017), Improved Training of Wasserstein GANs, equation 3.

Dimensions: B batch.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["non-saturating", "wasserstein"]


def discriminator_loss(loss: Loss, on_real: Tensor, on_generated: Tensor) -> Tensor:
    """(B,) outputs of the discriminator for real and for generated samples -> () its loss, without penalty"""
    if loss == "non-saturating":  # softplus(d) = log(1 + exp(d))
        return F.softplus(-on_real).mean() + F.softplus(on_generated).mean()
    return on_generated.mean() - on_real.mean()


def generator_loss(loss: Loss, on_generated: Tensor) -> Tensor:
    """(B,) outputs of the discriminator for generated samples -> () loss of the generator"""
    if loss == "non-saturating":
        return F.softplus(-on_generated).mean()
    return -on_generated.mean()


def points_between(real: Tensor, generated: Tensor) -> Tensor:
    """(B, ...) real and generated samples -> (B, ...) y = u x + (1 - u) G(z), u uniform in [0, 1] for each pair"""
    u = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    return u * real + (1 - u) * generated


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """(B, ...) points -> () mean of (|grad D(y)| - 1)^2, differentiable in the weights of the discriminator

    The gradient of the sum over the batch holds the gradient of each point, if the discriminator treats the points
    independently; batch normalisation would not. `create_graph` makes the gradient itself part of the graph, so that
    `backward` differentiates a second time.
    """
    y = y.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(y).sum(), y, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
