"""Film ratings: a Boltzmann machine and its baselines; read in this order.

recommender        the program: a restricted Boltzmann machine over film ratings
softmax_rbm        visible units with one level a star
gaussian_rbm       visible units with a mean and unit variance
binary_rbm         visible units that say whether a film was rated, for ranking
sparse             only what was rated: cases, batches and products over them
evaluation         RMSE, MAE and ranking measures
predictors         means, biases, matrix factorisation and popularity, behind one interface
baselines          the program that measures the predictors
scaling            seconds and memory for 0.1, 1 and 10 million ratings
sparse_throughput  an epoch over sparse cases, dense masked batches and a loop over users
"""
