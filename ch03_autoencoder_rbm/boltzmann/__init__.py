"""Restricted Boltzmann machines (RBMs) for binary images, in reading order.

rbm             the program: trains an RBM with 500 hidden units and estimates its log-likelihood
gibbs           model and training: energy, block Gibbs sampling, contrastive divergence
likelihood      log-likelihood: exact for small RBMs, annealed importance sampling otherwise
dbn             deep belief network: stacked RBMs, fine-tuned as a classifier
anomalies       an autoencoder and an RBM detect a class that was held out of training
rbm_throughput  throughput compared with scikit-learn's BernoulliRBM
"""
