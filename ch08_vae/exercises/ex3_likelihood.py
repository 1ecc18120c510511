"""Log-likelihood of binary pixels (10 minutes)

A decoder returns a logit l_i for each pixel of an image. The pixels are independent given z, so the log-likelihood of
the image x with pixels 0 and 1 is

    log p(x | z) = sum_i (x_i log s(l_i) + (1 - x_i) log s(-l_i))    with the sigmoid s.

Return it for each image. It must be finite for logits such as 1000.

Check: python -m ch08_vae.exercises 3
"""

from torch import Tensor


def log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """(B, P) logits, (B, P) pixels -> (B,) log-likelihoods"""
    raise NotImplementedError
