"""Solution: the gradient is W^T (a s), where s is 1 for units with a positive input and 0 for the others.

Each point has its own s, so each has its own gradient. The penalty is differentiable in W and a: this is the second
differentiation for which programs use `create_graph=True`. The slope s is a step function, and its derivative is 0
almost everywhere.
"""

from torch import Tensor


def gradient_penalty(y: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """(B, D) points, (H, D) weights, (H,) weights of the output -> () penalty"""
    active = (y @ w.mT > 0).to(y.dtype)  # (B, H)
    gradient = (active * a) @ w  # (B, D)
    return (gradient.norm(dim=1) - 1).square().mean()
