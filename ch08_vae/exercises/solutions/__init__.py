"""Solutions of the exercises: `python -m ch08_vae.exercises 3 --solution`.

ex1_kl_divergence        log sigma^2 instead of log sigma
ex2_reparameterisation   sigma is exp(logvar / 2)
ex3_likelihood           logsigmoid, and a sum over the pixels
ex4_importance_weights   logsumexp - log k
ex5_generator_gradient   -s(-D) / B
ex6_frechet_distance     differences of means and of standard deviations
ex7_gradient_penalty     W^T (a s) for each point
ex8_posterior_mean       two Gaussians, weighted by their precisions
"""
