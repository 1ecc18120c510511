"""Checks of the exercises of chapter 4: reference, cases, hint, and typical mistakes with their explanations.

ex1_timing          find the bug: timing without synchronisation
ex2_roofline        arithmetic intensity and attainable rate of a matrix product
ex3_accumulation    find the bug: gradient accumulation
ex4_bfloat16        round float32 to bfloat16
ex5_ring            one turn of a ring all-reduce
ex6_activations     bytes of the activations that the backward pass needs
ex7_epoch_time      the time of an epoch, estimated from two timings
"""

from ch04_cuda.exercises.checks.ex1_timing import TIMING
from ch04_cuda.exercises.checks.ex2_roofline import ROOFLINE
from ch04_cuda.exercises.checks.ex3_accumulation import ACCUMULATION
from ch04_cuda.exercises.checks.ex4_bfloat16 import BFLOAT16
from ch04_cuda.exercises.checks.ex5_ring import RING
from ch04_cuda.exercises.checks.ex6_activations import ACTIVATIONS
from ch04_cuda.exercises.checks.ex7_epoch_time import EPOCH_TIME

EXERCISES = (TIMING, ROOFLINE, ACCUMULATION, BFLOAT16, RING, ACTIVATIONS, EPOCH_TIME)
"""Exercises of the chapter in order."""
