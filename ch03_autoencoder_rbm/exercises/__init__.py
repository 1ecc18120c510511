"""Exercises of chapter 3 that check themselves: `python -m ch03_autoencoder_rbm.exercises`.

ex1_denoising                 find the bug: the loss of a denoising autoencoder
ex2_principal_components      reconstruct images from principal components
ex3_free_energy               the free energy of an RBM
ex4_contrastive_divergence    one step of contrastive divergence
ex5_effective_chains          the effective sample size of importance weights
checks                        a file per exercise: reference, cases, hint, typical mistakes
solutions                     a file per exercise: the solution with an explanation
__main__                      the command
"""
