"""Backpropagation through time (20 minutes)

A recurrent network computes its hidden states from inputs u_t (which include W_x x_t + b) and the previous state:

    a_t = u_t + W h_(t-1),    h_t = tanh(a_t),    h_0 = 0.

Let delta_t be the gradient of h_t that comes from the layers above. h_t is also used in the next step, so its whole
gradient is

    dh_t = delta_t + W^T da_(t+1).

Return da_t for all steps t = 1, ..., T, and dW = sum_t da_t h_(t-1)^T.

Check: python -m ch05_rnn.exercises 3
"""

from torch import Tensor


def backward(h: Tensor, weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """(T, H) hidden states h_1 ... h_T, (H, H) weight, (T, H) delta -> (T, H) da, (H, H) dW, without autograd"""
    raise NotImplementedError
