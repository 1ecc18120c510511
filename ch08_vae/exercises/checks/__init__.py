"""Checks of the exercises of chapter 8: reference, cases, hint, and typical mistakes with their explanations.

ex1_kl_divergence         find the bug: a wrong KL term
ex2_reparameterisation    sample with a given noise
ex3_likelihood            the log-likelihood of binary pixels
ex4_importance_weights    the importance-weighted bound
ex5_generator_gradient    the gradient of the non-saturating loss
ex6_frechet_distance      the Fréchet distance of two Gaussians
ex7_gradient_penalty      the gradient penalty of a critic
ex8_posterior_mean        one step back in a diffusion model
"""

from ch08_vae.exercises.checks.ex1_kl_divergence import KL_DIVERGENCE
from ch08_vae.exercises.checks.ex2_reparameterisation import REPARAMETERISATION
from ch08_vae.exercises.checks.ex3_likelihood import LIKELIHOOD
from ch08_vae.exercises.checks.ex4_importance_weights import IMPORTANCE_WEIGHTS
from ch08_vae.exercises.checks.ex5_generator_gradient import GENERATOR_GRADIENT
from ch08_vae.exercises.checks.ex6_frechet_distance import FRECHET_DISTANCE
from ch08_vae.exercises.checks.ex7_gradient_penalty import GRADIENT_PENALTY
from ch08_vae.exercises.checks.ex8_posterior_mean import POSTERIOR_MEAN

EXERCISES = (
    *(KL_DIVERGENCE, REPARAMETERISATION, LIKELIHOOD, IMPORTANCE_WEIGHTS, GENERATOR_GRADIENT, FRECHET_DISTANCE),
    *(GRADIENT_PENALTY, POSTERIOR_MEAN),
)
"""Exercises of the chapter in order."""
