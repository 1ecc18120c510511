"""One step of contrastive divergence (20 minutes)

CD-1 (Hinton 2002) estimates the gradient of the log-likelihood of an RBM with respect to its weights by one Gibbs step
from the data v. With uniform random numbers u_h and u_v between 0 and 1:

    p = s(b + v W)              probabilities of the hidden units, with the sigmoid s
    h = 1 where u_h < p         their states
    v' = 1 where u_v < s(a + h W^T)
    p' = s(b + v' W)            the last hidden units are not sampled
    dW = 1/B sum over the batch of (v p^T - v' p'^T)

Return dW.

Check: python -m ch03_autoencoder_rbm.exercises 4
"""

from torch import Tensor


def contrastive_divergence(v: Tensor, weight: Tensor, a: Tensor, b: Tensor, u_h: Tensor, u_v: Tensor) -> Tensor:
    """(B, V) data, (V, H) weight, (V,) and (H,) biases, (B, H) and (B, V) uniform random numbers -> (V, H) dW"""
    raise NotImplementedError
