"""Gradient of cross-entropy with label smoothing (15 minutes)

Label smoothing replaces the one-hot target of K classes by

    q_k = (1 - epsilon) 1[k = label] + epsilon / K,

so the network is not rewarded for logits without bound (Szegedy et al. 2016). With p = softmax(z), the loss is

    L = -1/B sum over the rows of sum_k q_k log p_k.

Return its gradient with respect to the logits z. It must be finite for large logits, such as 1000.

Check: python -m ch02_nn.exercises 2
"""

from torch import Tensor


def smoothed_gradient(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """(B, K) logits, (B,) class indices -> (B, K) gradient, without autograd"""
    raise NotImplementedError
