"""Chapter 3: beyond basic networks - a digit classifier, an autoencoder, and restricted Boltzmann machines (RBMs).

feedforward        digit classifier 784-300-100-10, trained with cross-entropy or with the book's loss
autoencoder        784-128-64-128-784: compresses an image to 64 numbers, optionally removes noise
rbm                RBM with 500 hidden units on binary images: likelihood, filters, samples
recommender        RBM on film ratings: predicts stars, recommends films
dbn                deep belief network: stacked RBMs, fine-tuned as a classifier, with a baseline from random weights
rbm_throughput     contrastive divergence in scikit-learn and here, interleaved
baselines          baselines of the recommender: biases, matrix factorisation, SVD++, popularity, neighbours, EASE
scaling            seconds and memory of the recommender for 0.1, 1 and 10 million ratings
sparse_throughput  seconds per epoch with sparse batches, dense masked batches, and a loop over users
"""

import common  # noqa: F401  # before torch: common sets the thread policy
