"""Solutions of the exercises: `python -m ch10_deploy.exercises 3 --solution`.

ex1_parity        state what is accepted, not what is refused
ex2_quantise      a range that contains 0
ex3_softmax       divide by the temperature, then subtract the maximum
ex4_validation    exact types, from the outside to the inside
ex5_body          count the bytes while they arrive
ex6_percentile    a rank in whole numbers
ex7_batches       a window that starts with the first request
"""
