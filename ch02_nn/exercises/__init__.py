"""Exercises of chapter 2 that check themselves: `python -m ch02_nn.exercises`.

ex1_learning_rate        the learning rate with which one step reaches the minimum
ex2_label_smoothing      the gradient of cross-entropy with smoothed labels
ex3_residual_layer       backpropagation through a layer with a skip connection
ex4_initialisation       the standard deviation of weights before a leaky ReLU
ex5_dropout              find the bug: dropout
ex6_standardise          find the bug: standardised columns
ex7_adamw                one step of AdamW
ex8_schedule             a learning-rate schedule: warm-up, then a cosine
checks                   a file per exercise: reference, cases, hint, typical mistakes
solutions                a file per exercise: the solution with an explanation
__main__                 the command
"""
