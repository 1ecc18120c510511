"""Checks of the exercises of chapter 3: reference, cases, hint, and typical mistakes with their explanations.

ex1_denoising                 find the bug: the loss of a denoising autoencoder
ex2_principal_components      reconstruct images from principal components
ex3_free_energy               the free energy of an RBM
ex4_contrastive_divergence    one step of contrastive divergence
ex5_effective_chains          the effective sample size of importance weights
"""

from ch03_autoencoder_rbm.exercises.checks.ex1_denoising import DENOISING
from ch03_autoencoder_rbm.exercises.checks.ex2_principal_components import PRINCIPAL_COMPONENTS
from ch03_autoencoder_rbm.exercises.checks.ex3_free_energy import FREE_ENERGY
from ch03_autoencoder_rbm.exercises.checks.ex4_contrastive_divergence import CONTRASTIVE_DIVERGENCE
from ch03_autoencoder_rbm.exercises.checks.ex5_effective_chains import EFFECTIVE_CHAINS

EXERCISES = (DENOISING, PRINCIPAL_COMPONENTS, FREE_ENERGY, CONTRASTIVE_DIVERGENCE, EFFECTIVE_CHAINS)
"""Exercises of the chapter in order."""
