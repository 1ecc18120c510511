"""Solution: weight decay outside the running means.

Adam with weight decay added to g would divide the decay by sqrt(v^), too: parameters with large gradients would shrink
less. In AdamW all parameters shrink by the same factor 1 - lr lambda.
"""

from torch import Tensor

B1, B2, EPS = 0.9, 0.999, 1e-8


def adamw_step(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) parameters, gradient and running means before step t -> (N,) parameters and running means after it"""
    theta = theta - lr * weight_decay * theta
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * g * g
    m_hat, v_hat = m / (1 - B1**t), v / (1 - B2**t)
    return theta - lr * m_hat / (v_hat.sqrt() + EPS), m, v
