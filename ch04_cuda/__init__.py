"""Chapter 4: training on CPUs and GPUs - throughput, rooflines, custom operators and several processes.

compare         the same networks trained on every device of this machine: seconds per epoch and accuracy
matmul          roofline: matrix products, memory copies, calls and training steps
input_pipeline  input pipelines: per-sample DataLoader, workers, tensors, and data resident on the device
by_hand         training step of an MLP with a hand-written backward pass, compared with autograd and JAX
crossover       break-even batch sizes of a GPU (or of all CPU threads), and estimated seconds of an epoch
asynchrony      training steps with one change at a time; timing with and without synchronisation
operators       custom operators in Python, C++ and Triton
data_parallel   data parallelism: throughput of several processes, and bytes sent
start_up        start-up time of the programs, compared with that of PyTorch
"""

import common  # noqa: F401  # before torch: common sets the thread policy
