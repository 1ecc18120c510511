"""Chapter 3: beyond basic networks - a digit classifier, an autoencoder, and restricted Boltzmann machines (RBMs).

feedforward        digit classifier 784-300-100-10, trained with cross-entropy or with the book's loss
autoencoder        784-128-64-128-784: compresses an image to a code of 64 numbers; optionally a denoising autoencoder
rbm                RBM with 500 hidden units on binary images: log-likelihood, filters, samples
recommender        RBM on film ratings: predicts star ratings and recommends films
dbn                deep belief network: stacked RBMs, fine-tuned as a classifier; baseline with random initial weights
anomalies          detection of a class held out of training: autoencoder, RBM, PCA and isolation forest
rbm_throughput     throughput of contrastive divergence: scikit-learn's BernoulliRBM and this chapter's RBM
baselines          baselines of the recommender: biases, factorisation, SVD++, popularity, nearest neighbours, EASE
scaling            training time and memory of the recommender for 0.1, 1 and 10 million ratings
sparse_throughput  seconds per epoch with sparse batches, dense masked batches and a loop over users
"""

import common  # noqa: F401  # before torch: common sets the thread policy
