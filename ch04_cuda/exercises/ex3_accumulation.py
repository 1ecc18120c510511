"""Find the bug: gradient accumulation (10 minutes)

A batch that does not fit into memory is split into parts of at most `size` samples. The gradients of the parts are
accumulated, and then the optimizer takes one step. The result must be the gradient of the whole batch. For the model
w x with the loss

    L = 1/B sum_i (w x_i - y_i)^2

the function below returns dL/dw. It is right if B is a multiple of `size`, and wrong for most other batches. Why?

Check: python -m ch04_cuda.exercises 3
"""

from torch import Tensor


def accumulated_gradient(x: Tensor, y: Tensor, w: float, size: int) -> float:
    """(B,) inputs, (B,) targets, weight, largest number of samples of a part -> gradient of the loss"""
    # Find the bug, then delete this comment.
    total, parts = 0.0, 0
    for start in range(0, len(x), size):
        part, target = x[start : start + size], y[start : start + size]
        total += (2 * (w * part - target) * part).mean().item()
        parts += 1
    return total / parts
