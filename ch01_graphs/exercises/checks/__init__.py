"""Checks of the exercises of chapter 1: reference, cases, hint, and typical mistakes with their explanations.

ex1_broadcasting           reverse mode: sum a gradient over the broadcast dimensions
ex2_cumulative_sum_rule    a gradient rule: cumulative sum
ex3_norm_rule              a gradient rule: Euclidean norm, also at 0
ex4_reverse_mode           reverse-mode differentiation on a tape
ex5_dual_numbers           forward-mode differentiation: the quotient of dual numbers
ex6_logsumexp              a stable formula: logsumexp
ex7_variance               find the bug: the variance loses its significant digits
ex8_simplify               simplify an expression
"""

from ch01_graphs.exercises.checks.ex1_broadcasting import BROADCASTING
from ch01_graphs.exercises.checks.ex2_cumulative_sum_rule import CUMULATIVE_SUM
from ch01_graphs.exercises.checks.ex3_norm_rule import NORM
from ch01_graphs.exercises.checks.ex4_reverse_mode import REVERSE_MODE
from ch01_graphs.exercises.checks.ex5_dual_numbers import DUAL_NUMBERS
from ch01_graphs.exercises.checks.ex6_logsumexp import LOGSUMEXP
from ch01_graphs.exercises.checks.ex7_variance import VARIANCE
from ch01_graphs.exercises.checks.ex8_simplify import SIMPLIFY

EXERCISES = (BROADCASTING, CUMULATIVE_SUM, NORM, REVERSE_MODE, DUAL_NUMBERS, LOGSUMEXP, VARIANCE, SIMPLIFY)
"""Exercises of the chapter in order."""
