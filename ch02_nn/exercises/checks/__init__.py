"""Checks of the exercises of chapter 2: reference, cases, hint, and typical mistakes with their explanations.

ex1_learning_rate      the learning rate with which one step reaches the minimum
ex2_label_smoothing    the gradient of cross-entropy with smoothed labels
ex3_residual_layer     backpropagation through a layer with a skip connection
ex4_initialisation     the standard deviation of weights before a leaky ReLU
ex5_dropout            find the bug: dropout
ex6_standardise        find the bug: standardised columns
ex7_adamw              one step of AdamW
ex8_schedule           a learning-rate schedule: warm-up, then a cosine
"""

from ch02_nn.exercises.checks.ex1_learning_rate import LEARNING_RATE
from ch02_nn.exercises.checks.ex2_label_smoothing import LABEL_SMOOTHING
from ch02_nn.exercises.checks.ex3_residual_layer import RESIDUAL_LAYER
from ch02_nn.exercises.checks.ex4_initialisation import INITIALISATION
from ch02_nn.exercises.checks.ex5_dropout import DROPOUT
from ch02_nn.exercises.checks.ex6_standardise import STANDARDISE
from ch02_nn.exercises.checks.ex7_adamw import ADAMW
from ch02_nn.exercises.checks.ex8_schedule import SCHEDULE

EXERCISES = (LEARNING_RATE, LABEL_SMOOTHING, RESIDUAL_LAYER, INITIALISATION, DROPOUT, STANDARDISE, ADAMW, SCHEDULE)
"""Exercises of the chapter in order."""
