"""Exercises of chapter 10 that check themselves: `python -m ch10_deploy.exercises`.

ex1_parity        find the bug: an export with NaN is accepted
ex2_quantise      scale and zero point of 8-bit numbers
ex3_softmax       probabilities without PyTorch, with a temperature
ex4_validation    the first invalid part of a request
ex5_body          find the bug: the size limit of a request body
ex6_percentile    find the bug: a percentile of latencies
ex7_batches       collect requests to batches
checks            a file per exercise: reference, cases, hint, typical mistakes
solutions         a file per exercise: the solution with an explanation
__main__          the command
"""
