"""One step back in a diffusion model (10 minutes)

A diffusion model adds noise in steps, x_t = sqrt(alpha_t) x_{t-1} + sqrt(1 - alpha_t) noise. After t - 1 steps

    q(x_{t-1} | x_0) = N(sqrt(abar_{t-1}) x_0, 1 - abar_{t-1}),   abar_{t-1} = alpha_1 ... alpha_{t-1}.

To go back, the distribution of x_{t-1} is needed if both x_0 and x_t are known. By Bayes' rule

    q(x_{t-1} | x_t, x_0)  is proportional to  q(x_t | x_{t-1}) q(x_{t-1} | x_0),

a product of two Gaussians in x_{t-1}, so again a Gaussian. Compute its mean for each pixel.

Check: python -m ch08_vae.exercises 8
"""

from torch import Tensor


def posterior_mean(x_0: Tensor, x_t: Tensor, alpha: Tensor, abar_before: Tensor) -> Tensor:
    """(P,) pixels x_0 and x_t, (P,) alpha_t and abar_{t-1} of each -> (P,) means of x_{t-1}"""
    raise NotImplementedError
