"""Importance-weighted bound (10 minutes)

k samples z_s of the encoder have the importance weights w_s = p(x | z_s) p(z_s) / q(z_s | x). They give the lower bound

    L_k = log (1/k sum_s w_s)

of log p(x) (Burda, Grosse & Salakhutdinov 2016). A weight such as e^-90 is too small for float32, so only the
logarithms of the weights are computed. Return L_k.

Check: python -m ch08_vae.exercises 4
"""

from torch import Tensor


def importance_weighted_bound(log_w: Tensor) -> Tensor:
    """(k, B) logarithms of the weights of k samples of B images -> (B,) bounds"""
    raise NotImplementedError
