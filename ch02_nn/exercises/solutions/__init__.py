"""Solutions of the exercises: `python -m ch02_nn.exercises 3 --solution`.

ex1_learning_rate        1 / (2 mean(x^2))
ex2_label_smoothing      (p - q) / B
ex3_residual_layer       the gradient of the input has two terms
ex4_initialisation       sqrt(2 / (I (1 + a^2)))
ex5_dropout              p is the probability of 0, not of a kept unit
ex6_standardise          statistics of the training rows only
ex7_adamw                weight decay outside the running means
ex8_schedule             s = (t - W) / (T - W)
"""
