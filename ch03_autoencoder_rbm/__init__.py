"""Chapter 3: beyond basic networks - a digit classifier, and machines that learn without labels.

feedforward        784-300-100-10, trained with cross-entropy, or with the book's loss to see why it starves classes
autoencoder        784-128-64-128-784, squeezes a digit into 64 numbers and draws it again; removes noise on request
rbm                500 binary units that learn how probable an image is, with its likelihood, filters and dreams
recommender        a restricted Boltzmann machine over film ratings: predicts stars, suggests films, says why
dbn                Boltzmann machines on top of each other, tuned as a classifier, beside the same network without them
rbm_throughput     the Boltzmann machine's learning rule in scikit-learn and here, by turns
baselines          what the recommender must beat: means, biases, matrix factorisation, popularity
scaling            the recommender's seconds and memory for 0.1, 1 and 10 million ratings
sparse_throughput  an epoch over what was rated, over dense masked batches, and in a loop over users
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
