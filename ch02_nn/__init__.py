"""Chapter 2: a neural network understood to the last derivative.

descent       y = W x by gradient descent: what the learning rate does, step by step
simple        the book's 4x3 net: three weights, one sigmoid, 10,000 steps; its graph, and its misprints
regression    a line and a cubic: closed form, gradient descent, SGD, minibatch; why inputs are scaled
activations   eleven activation functions and their derivatives, in one picture
initial       zeros, Glorot, He: what they do to the activations and gradients of a deep network
classifier    softmax regression and an MLP, by hand and with nn
fitting       under- and overfitting, weight decay, dropout, k-fold cross-validation
fizzbuzz      learns FizzBuzz from 101 ... 1023, and answers 1 ... 100
race          nine optimizers, one learning-rate grid: down Rosenbrock's valley, and on digits
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
