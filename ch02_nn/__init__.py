"""Chapter 2: neural networks, losses, gradients and optimizers, implemented by hand and compared with PyTorch.

descent             one weight, y = W x, by gradient descent: the effect of the learning rate
simple              the book's 4x3 net: three weights and a sigmoid; its graph, and variants with mistakes
regression          a line and a cubic by closed forms, gradient descent, SGD and minibatch SGD; scaled inputs
activations         eleven activation functions and their derivatives
initialisation      weight initialisation: zeros, Glorot, He; activations and gradients of a deep network
classifier          softmax regression and an MLP, by hand and with nn
fitting             under- and overfitting, weight decay, dropout, k-fold cross-validation
tables              ridge regression, an MLP and boosted trees on tables with missing values; a Kaggle submission
fizzbuzz            FizzBuzz as classification, trained on 101 ... 1023 and tested on 1 ... 100
compare_optimizers  nine optimizers on Rosenbrock's function and on digits, with one grid of learning rates
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
