"""Free energy of an RBM (15 minutes)

A restricted Boltzmann machine has binary visible units v and binary hidden units h, with the energy

    E(v, h) = -a v - b h - v W h.

The free energy F(v) contains all 2^H states of the hidden units: e^-F(v) = sum over h of e^-E(v, h). The hidden units
are independent given v, so the sum is a product over the hidden units. Write F(v) as a sum over them, without overflow
for large weights.

Check: python -m ch03_autoencoder_rbm.exercises 3
"""

from torch import Tensor


def free_energy(v: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(B, V) visible states, (V, H) weight, (V,) visible biases, (H,) hidden biases -> (B,) free energies"""
    raise NotImplementedError
