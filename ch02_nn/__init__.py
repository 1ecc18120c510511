"""Chapter 2: neural networks, losses, gradients and optimizers, written out by hand and compared with PyTorch.

descent       y = W x by gradient descent: the effect of the learning rate, step by step
simple        the book's 4x3 net: three weights, one sigmoid, 10,000 steps; its graph, and variants with misprints
regression    a line and a cubic: closed form, gradient descent, SGD, minibatch; scaled inputs
activations   eleven activation functions and their derivatives, in one picture
initial       weight initialisation: zeros, Glorot, He; activations and gradients of a deep network
classifier    softmax regression and an MLP, by hand and with nn
fitting       under- and overfitting, weight decay, dropout, k-fold cross-validation
tables        ridge regression, an MLP and boosted trees on tables with missing values; a Kaggle submission
fizzbuzz      FizzBuzz trained on 101 ... 1023 and tested on 1 ... 100
race          nine optimizers with one grid of learning rates, on Rosenbrock's function and on digits
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
