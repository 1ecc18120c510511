"""Solutions of the exercises: `python -m ch04_cuda.exercises 3 --solution`.

ex1_timing          warm up, then wait for the device before both readings of the clock
ex2_roofline        count operations and bytes, take the smaller bound
ex3_accumulation    add sums, divide once
ex4_bfloat16        add half a unit of the last kept bit, then cut
ex5_ring            each process sends one part and adds another one
ex6_activations     the inputs of all layers, each once
ex7_epoch_time      two equations for overhead and time per image
"""
