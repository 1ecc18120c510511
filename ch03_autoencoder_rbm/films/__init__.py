"""Film recommenders: RBMs on ratings and their baselines, in reading order.

recommender        the program: trains an RBM on film ratings and compares it with baselines
softmax_rbm        RBM with softmax visible units: rating levels
gaussian_rbm       RBM with Gaussian visible units: residuals of the biases
binary_rbm         the book's RBM with binary visible units: liked or not
sparse             batches of sparse ratings
evaluation         RMSE, MAE and ranking metrics
predictors         star predictions and rankings from the RBMs
baseline_models    one baseline per module: biases, matrix factorisation, SVD++, nearest neighbours, EASE
baselines          the program that tunes a baseline on the validation set and evaluates it
scaling            training time and memory for 0.1, 1 and 10 million ratings
sparse_throughput  seconds per epoch: sparse batches, dense masked batches, a loop over users
"""
