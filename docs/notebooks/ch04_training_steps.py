# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a training step costs
#
# Chapter 4 measures the speed of training. This notebook *counts*: floating-point operations, bytes of memory traffic,
# and bytes that processes exchange. The counts are the same on every machine.
#
# The arithmetic intensity of a step is the number of operations per byte of memory traffic,
# $I = \text{operations} / \text{bytes}$. A processor with a peak of $\pi$ operations per second and a bandwidth of
# $\beta$ bytes per second can reach at most
#
# $$\min(\pi, \; I \beta) \quad\text{operations per second (roofline model).}$$
#
# If $I < \pi / \beta$, memory limits the step. For current processors, $\pi / \beta$ is between 5 and 300.
#
# The questions: how does the intensity depend on the batch size and on the network, what does bfloat16 change besides
# speed, and how many bytes do several processes exchange?

# %%
# %matplotlib inline
import copy
import queue
import threading

import torch

from ch04_cuda import matmul
from ch04_cuda.data_parallel import gradients, ring_average
from ch04_cuda.networks import NETWORKS, WIDTHS
from common.drawing import plots

CPU = torch.device("cpu")

# %% [markdown]
# ## How does the intensity depend on the batch size?
#
# The MLP has 784-300-100-10 units, the CNN two convolutions, the LSTM reads an image row by row. Each step is forward
# pass, backward pass and update.
#
# **Before you run the cell:** which network has the largest intensity at a batch size of 1, and which at 256?

# %%
sizes = [1, 4, 16, 64, 256]
intensity: dict[str, list[float]] = {}
for network in NETWORKS:
    intensity[network] = []
    for size in sizes:
        step = matmul.training_step(network, matmul.Config(batch_size=size), CPU, bf16=False)
        intensity[network].append(step.intensity)
for network, values in intensity.items():
    print(f"{network:5}", {size: round(value, 2) for size, value in zip(sizes, values, strict=True)})
plots.line_panels(
    {"operations per byte": {network: (sizes, values) for network, values in intensity.items()}},
    columns=1,
    xlabel="batch size",
    log_x=True,
    log_y=True,
    marked=tuple(intensity),
    size=1.6,
)

# %% [markdown]
# With one image, each weight of the MLP is read for two operations, written as a gradient and updated: less than one
# operation per byte. A batch reuses the weights, and the intensity grows until the traffic of the activations
# dominates. A convolution uses each weight at every position, so the CNN has a higher intensity from the start, and it
# grows less with the batch size. The counts assume that every operation reads its operands from memory; caches reduce
# the traffic.
#
# ## What does bfloat16 change?
#
# bfloat16 has the range of float32 and 8 bits of precision instead of 24: neighbouring numbers near 1 are $2^{-7}$
# apart (0.8 %). Additions in bfloat16 lose small terms.
#
# **Before you run the cell:** what is the sum of 1,000 times the number 0.01, added one after the other in bfloat16?
# And what happens to a weight of 1.0 that receives updates of 0.001?

# %%
total, weight, weights = torch.zeros((), dtype=torch.bfloat16), torch.ones((), dtype=torch.bfloat16), []
sums, exact = [], []
for number in range(1, 1_001):
    total = total + torch.tensor(0.01, dtype=torch.bfloat16)
    sums.append(float(total))
    exact.append(0.01 * number)
    weight = weight + torch.tensor(0.001, dtype=torch.bfloat16)
    weights.append(float(weight))
print(f"sum of 1,000 times 0.01 in bfloat16: {sums[-1]:g}; weight after 1,000 updates of 0.001: {weights[-1]:g}")
plots.line_panels(
    {"sum of n times 0.01": {"exact": (range(1, 1_001), exact), "bfloat16": (range(1, 1_001), sums)}},
    columns=1,
    xlabel="n",
    size=1.5,
)

# %% [markdown]
# Between 2 and 4, neighbouring numbers are $2^{-6} \approx 0.016$ apart, and each addition of 0.01 is rounded up to
# this distance. From 4 on they are 0.031 apart, 0.01 is less than half of it, and the sum does not change any more. The
# weight never moves. Mixed-precision training therefore multiplies matrices in bfloat16, but keeps sums, weights and
# the state of the optimizer in float32. The programs of this suite do so (`torch.autocast`).
#
# ## Is a sum of small batches the same gradient?
#
# The mean loss of a batch is the mean of the losses of its parts, if they have the same size. Gradient accumulation
# uses this to train with large batches in little memory.
#
# **Before you run the cell:** does it also hold for a network with batch normalisation in training mode?

# %%
torch.manual_seed(0)
pixels, labels = torch.rand(64, 1, 28, 28), torch.randint(10, (64,))
plain = NETWORKS["cnn"](8).double()
normalised = copy.deepcopy(plain)
normalised.insert(1, torch.nn.BatchNorm2d(8).double())
differences = {}
for name, model in (("CNN", plain), ("CNN with batch normalisation", normalised)):
    whole = gradients(model, pixels.double(), labels)
    parts = [gradients(model, p, y) for p, y in zip(pixels.double().split(16), labels.split(16), strict=True)]
    differences[name] = float((torch.stack(parts).mean(0) - whole).abs().max() / whole.abs().max())
    print(f"{name:30} largest difference {differences[name]:.1e} of the largest gradient")

# %% [markdown]
# Without batch normalisation, the gradients agree to rounding. With it, each part is normalised by its own mean and
# variance, so the function itself differs. The same holds for data-parallel training, where each process has a part of
# the batch.
#
# ## How many bytes do N processes exchange?
#
# Each process needs the average of $N$ gradients of $G$ bytes. Sending all gradients to one process would give it
# $(N - 1) G$ bytes to receive. In a ring, each process sends and receives $2 \frac{N - 1}{N} G$ bytes. The cell runs
# the chapter's `ring_average` with $N$ threads that pass messages through queues.
#
# **Before you run the cell:** does a process of a ring of 16 send more or less than twice as much as one of a ring of
# 2?


# %%
def run_ring(values: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[int]]:
    """Average one vector per thread with `ring_average`; return the averages and the bytes that each thread sent."""
    count = len(values)
    wires: list[queue.Queue] = [queue.Queue() for _ in range(count)]
    averages, sent = [torch.empty(0)] * count, [0] * count

    def process(rank: int) -> None:
        def pass_on(outgoing: torch.Tensor, incoming: torch.Tensor) -> None:
            wires[(rank + 1) % count].put(outgoing.clone())
            incoming.copy_(wires[rank].get())

        averages[rank], sent[rank] = ring_average(values[rank], count, rank, pass_on)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return averages, sent


parameters = sum(p.numel() for p in NETWORKS["mlp"](WIDTHS["mlp"]).parameters())
gradient_bytes = 4 * parameters
counts, shares, worst = [2, 4, 8, 16], [], 0.0
for count in counts:
    values = [torch.randn(parameters, generator=torch.Generator().manual_seed(rank)) for rank in range(count)]
    averages, sent = run_ring(values)
    worst = max(worst, *(float((average - torch.stack(values).mean(0)).abs().max()) for average in averages))
    shares.append(sum(sent) / count / gradient_bytes)
print("bytes sent per process / bytes of the gradient:", dict(zip(counts, shares, strict=True)))
print(f"largest difference from the exact average: {worst:.1e}")

# %% [markdown]
# A process of a ring of 16 sends $2 \cdot \frac{15}{16} = 1.875$ times the gradient, less than twice as much as in a
# ring of 2 (1 time). The amount stays below $2G$ for any number of processes; the number of messages grows with $N$
# instead.
#
# ## Continue
#
# - `python -m ch04_cuda.train matmul` measures $\pi$ and $\beta$ of your machine and draws its roofline.
# - Chapter 4's [page](../../ch04_cuda/README.md) shows where a step loses time; exercise 5 asks for the ring.
