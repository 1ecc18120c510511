"""Solutions of the exercises: `python -m ch01_graphs.exercises 3 --solution`.

ex1_broadcasting           sum over leading dimensions, then over dimensions of size 1
ex2_cumulative_sum_rule    the cumulative sum from the right
ex3_norm_rule              g x / y, with 0 instead of 0 / 0
ex4_reverse_mode           one visit per node, from the last to the first
ex5_dual_numbers           the tangent of the quotient contains the quotient
ex6_logsumexp              subtract the maximum first
ex7_variance               subtract the mean first
ex8_simplify               simplify the operands first
"""
