"""Solutions of the exercises: `python -m ch03_autoencoder_rbm.exercises 3 --solution`.

ex1_denoising                 the target is the image without noise
ex2_principal_components      subtract the mean, project, add the mean
ex3_free_energy               softplus
ex4_contrastive_divergence    probabilities for the statistics, states for the chain
ex5_effective_chains          subtract the maximum first
"""
