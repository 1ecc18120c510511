"""Restricted Boltzmann machines over binary images; read in this order.

rbm             the program: 500 binary units learn how probable an image is
gibbs           the machine itself: energy, block Gibbs sampling, contrastive divergence
likelihood      the log-likelihood, exactly for small machines and by annealed importance sampling
logistic        a linear classifier on the hidden units
dbn             machines on top of each other, fine-tuned as a classifier
rbm_throughput  the learning rule in scikit-learn and here
"""
