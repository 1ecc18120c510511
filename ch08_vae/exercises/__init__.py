"""Exercises of chapter 8 that check themselves: `python -m ch08_vae.exercises`.

ex1_kl_divergence        find the bug: a wrong KL term
ex2_reparameterisation   sample with a given noise
ex3_likelihood           the log-likelihood of binary pixels
ex4_importance_weights   the importance-weighted bound
ex5_generator_gradient   the gradient of the non-saturating loss
ex6_frechet_distance     the Fréchet distance of two Gaussians
ex7_gradient_penalty     the gradient penalty of a critic
ex8_posterior_mean       one step back in a diffusion model
checks                   a file per exercise: reference, cases, hint, typical mistakes
solutions                a file per exercise: the solution with an explanation
__main__                 the command
"""
