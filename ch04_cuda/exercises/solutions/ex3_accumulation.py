"""Solution: add sums, divide once.

The mean of the parts' means gives a sample of a small last part a larger weight than the others. With PyTorch: divide
the sum of the losses of each part by the size of the whole batch before `backward`.
"""

from torch import Tensor


def accumulated_gradient(x: Tensor, y: Tensor, w: float, size: int) -> float:
    """(B,) inputs, (B,) targets, weight, largest number of samples of a part -> gradient of the loss"""
    total = 0.0
    for start in range(0, len(x), size):
        part, target = x[start : start + size], y[start : start + size]
        total += (2 * (w * part - target) * part).sum().item()
    return total / len(x)
