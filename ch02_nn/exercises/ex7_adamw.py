"""One step of AdamW (20 minutes)

Adam keeps running means of the gradient g and of its square, corrects the bias of their initialisation with zeros, and
divides (Kingma & Ba 2015). AdamW also shrinks the parameters by weight decay, which is independent of the gradient
(Loshchilov & Hutter 2019). In step t = 1, 2, ...:

    theta <- theta - lr lambda theta
    m <- b1 m + (1 - b1) g
    v <- b2 v + (1 - b2) g^2
    theta <- theta - lr m^ / (sqrt(v^) + eps)    with m^ = m / (1 - b1^t), v^ = v / (1 - b2^t).

Return new tensors; do not change the arguments.

Check: python -m ch02_nn.exercises 7
"""

from torch import Tensor

B1, B2, EPS = 0.9, 0.999, 1e-8


def adamw_step(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) parameters, gradient and running means before step t -> (N,) parameters and running means after it"""
    raise NotImplementedError
