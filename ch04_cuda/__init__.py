"""Chapter 4: training on CPUs and GPUs - throughput, rooflines, custom operators and several processes.

compare         the same networks trained on every device of this machine: seconds per epoch, accuracy
matmul          the roofline: matrix products, memory, calls, and training steps
input_pipeline  one network trained from a DataLoader, with workers, from tensors, and from data on the device
by_hand         a feed-forward step with a hand-written backward pass, compared with autograd and JAX
crossover       break-even batch sizes of a GPU (or of all CPU threads), and an estimate of an epoch's seconds
asynchrony      one change at a time to a training step, and timing with and without synchronisation
operators       custom operators in Python, C++ and Triton
data_parallel   throughput with several processes, and the bytes that they send
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
