"""Film recommenders: an RBM on ratings and its baselines, in reading order.

recommender        the program: train a restricted Boltzmann machine on film ratings
softmax_rbm        softmax visible units: one level per star rating
gaussian_rbm       Gaussian visible units: residuals of the biases
binary_rbm         the book's binary visible units: liked or not
sparse             batches of sparse ratings
evaluation         RMSE, MAE and ranking metrics
predictors         predicted stars and rankings from the RBMs
baseline_models    folder with one baseline per module: biases, factorisation, SVD++, nearest neighbours, EASE
baselines          the program that chooses the settings of a baseline on the validation part and evaluates it
scaling            seconds and memory for 0.1, 1 and 10 million ratings
sparse_throughput  seconds per epoch: sparse batches, dense masked batches, a loop over users
"""
