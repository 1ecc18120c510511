"""Baselines of the recommender, one model per module, in reading order; all have the interface `evaluation.Predictor`.

biases         popularity, global mean, film means, user and film biases
factorization  biases plus a matrix factorisation of the residuals, by alternating least squares
svdpp          SVD++: a matrix factorisation with implicit feedback (which films a user rated)
item_knn       item-based nearest neighbours: ranks films by their similarity to the user's films
ease           EASE: a linear model that ranks films, in closed form
"""
