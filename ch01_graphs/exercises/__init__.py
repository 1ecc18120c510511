"""Exercises of chapter 1 that check themselves: `python -m ch01_graphs.exercises`.

ex1_broadcasting           reverse mode: sum a gradient over the broadcast dimensions
ex2_cumulative_sum_rule    a gradient rule: cumulative sum
ex3_norm_rule              a gradient rule: Euclidean norm, also at 0
ex4_reverse_mode           reverse-mode differentiation on a tape
ex5_dual_numbers           forward-mode differentiation: the quotient of dual numbers
ex6_logsumexp              a stable formula: logsumexp
ex7_variance               find the bug: the variance loses its significant digits
ex8_simplify               simplify an expression
checks                     a file per exercise: reference, cases, hint, typical mistakes
solutions                  a file per exercise: the solution with an explanation
__main__                   the command
"""
