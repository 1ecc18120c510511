"""Gradient of the generator's loss (10 minutes)

The discriminator returns a logit D for each generated image. The generator minimises the non-saturating loss
(Goodfellow et al. 2014),

    L = 1/B sum over the batch of log(1 + e^-D).

Return dL/dD. Then compare it with the gradient of the saturating loss -1/B sum log(1 + e^D): which of the two is large
if the discriminator is certain that the images are generated (D = -5)?

Check: python -m ch08_vae.exercises 5
"""

from torch import Tensor


def generator_gradient(d: Tensor) -> Tensor:
    """(B,) logits of generated images -> (B,) gradient, without autograd"""
    raise NotImplementedError
