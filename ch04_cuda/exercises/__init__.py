"""Exercises of chapter 4 that check themselves: `python -m ch04_cuda.exercises`.

ex1_timing          find the bug: timing without synchronisation
ex2_roofline        arithmetic intensity and attainable rate of a matrix product
ex3_accumulation    find the bug: gradient accumulation
ex4_bfloat16        round float32 to bfloat16
ex5_ring            one turn of a ring all-reduce
ex6_activations     bytes of the activations that the backward pass needs
ex7_epoch_time      the time of an epoch, estimated from two timings
checks              a file per exercise: reference, cases, hint, typical mistakes
solutions           a file per exercise: the solution with an explanation
__main__            the command
"""
