"""Chapter 4: what the hardware does - CPU against CUDA, honestly timed.

compare         the same networks trained on every device of this machine: seconds an epoch, accuracy
matmul          the roofline: products, memory, calls, and where training steps lie under it
input_pipeline  one network trained from a DataLoader, with workers, from tensors, and from data on the device
by_hand         the feed-forward step with its backward written out, against autograd and JAX
crossover       from which batch and width on the GPU wins, and how long an epoch will take
asynchrony      what one change each is worth to a step, and why a clock can lie
operators       operators of one's own in Python, C++ and Triton
data_parallel   how training scales over processes
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
