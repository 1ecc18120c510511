"""Checks of the exercises of chapter 10: reference, cases, hint, and typical mistakes with their explanations.

ex1_parity        find the bug: an export with NaN is accepted
ex2_quantise      scale and zero point of 8-bit numbers
ex3_softmax       probabilities without PyTorch, with a temperature
ex4_validation    the first invalid part of a request
ex5_body          find the bug: the size limit of a request body
ex6_percentile    find the bug: a percentile of latencies
ex7_batches       collect requests to batches
"""

from ch10_deploy.exercises.checks.ex1_parity import PARITY
from ch10_deploy.exercises.checks.ex2_quantise import QUANTISE
from ch10_deploy.exercises.checks.ex3_softmax import SOFTMAX
from ch10_deploy.exercises.checks.ex4_validation import VALIDATION
from ch10_deploy.exercises.checks.ex5_body import BODY
from ch10_deploy.exercises.checks.ex6_percentile import PERCENTILE
from ch10_deploy.exercises.checks.ex7_batches import BATCHES

EXERCISES = (PARITY, QUANTISE, SOFTMAX, VALIDATION, BODY, PERCENTILE, BATCHES)
"""Exercises of the chapter in order."""
