"""One training step of a generator and a discriminator, with any of the losses.

Dimensions: B batch, Z latent units.
"""

import torch
from torch import Tensor, nn

from ch08_vae.adversarial import losses
from ch08_vae.adversarial.losses import Loss
from ch08_vae.adversarial.networks import Pair

Optimizers = tuple[torch.optim.Optimizer, torch.optim.Optimizer]
"""The optimizers of generator and discriminator."""


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Create a fused Adam optimizer with beta1 = 0.5, as in the DCGAN."""
    return torch.optim.Adam(model.parameters(), learning_rate, betas=(0.5, 0.999), fused=True)


def train_step(
    pair: Pair,
    optimizers: Optimizers,
    real: Tensor,
    *,
    loss: Loss = "non-saturating",
    gradient_penalty: float = 0.0,
    train_generator: bool = True,
    bf16: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Take one step of the discriminator on (B, ...) real samples, then one of the generator if it is trained too.

    Returns both losses on the device; that of the generator is None if it is not trained.
    """
    generator, discriminator = pair.generator, pair.discriminator
    generator_optimizer, discriminator_optimizer = optimizers
    z = torch.randn(len(real), generator.latent_size, device=real.device)
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        with torch.set_grad_enabled(train_generator):
            generated = generator(z)
        on_real, on_generated = discriminator(real), discriminator(generated.detach())
        loss_of_discriminator = losses.discriminator_loss(loss, on_real, on_generated)
        if gradient_penalty > 0:
            between = losses.points_between(real, generated.detach().float())
            penalty = losses.gradient_penalty(discriminator, between)
            loss_of_discriminator = loss_of_discriminator + gradient_penalty * penalty
    loss_of_discriminator.backward()
    discriminator_optimizer.step()
    discriminator_optimizer.zero_grad()
    if not train_generator:
        return loss_of_discriminator.detach(), None
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        loss_of_generator = losses.generator_loss(loss, discriminator(generated))
    loss_of_generator.backward()
    generator_optimizer.step()
    generator_optimizer.zero_grad()
    discriminator_optimizer.zero_grad()  # the generator's loss also adds gradients to the discriminator
    return loss_of_discriminator.detach(), loss_of_generator.detach()
