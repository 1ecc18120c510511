"""The model M2: an image x has a class y, which is a latent variable if it is not labelled, and a style z.

    p(y) = 1 / K,    p(z) = N(0, I),    p(x | y, z) = prod_i Bernoulli(sigmoid(l_i(y, z)))
    q(y | x) = Categorical(pi(x)),    q(z | x, y) = N(mu(x, y), diag sigma(x, y)^2)

Source: Kingma, Rezende, Mohamed & Welling (2014), Semi-Supervised Learning with Deep Generative Models, section 3.

Dimensions: B batch, P pixels (784), Z latent units, H hidden units, K classes (10).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.autoencoding.networks import kl_divergence, log_bernoulli, sample
from ch08_vae.preprocessing import CLASSES


class M2(nn.Module):
    """Classifier q(y | x), encoder q(z | x, y) and decoder p(x | y, z), each with one hidden layer of SiLUs."""

    def __init__(self, latent_size: int, hidden_size: int) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(784, hidden_size), nn.SiLU(), nn.Linear(hidden_size, CLASSES))
        self.encode_pixels = nn.Linear(784, hidden_size)
        self.encode_class = nn.Linear(CLASSES, hidden_size, bias=False)
        self.encoder = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * latent_size))
        self.decode_latent = nn.Linear(latent_size, hidden_size)
        self.decode_class = nn.Linear(CLASSES, hidden_size, bias=False)
        self.decoder = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 784))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, to which outputs in bfloat16 are converted."""
        return self.encode_class.weight.dtype

    def classify(self, x: Tensor) -> Tensor:
        """(B, P) pixels -> (B, K) logits of q(y | x)"""
        return self.classifier(x).to(self.dtype)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P) pixels, (..., B, K) one-hot classes -> (..., B, Z) mu, (..., B, Z) log sigma^2

        The first layer of the concatenation [x, y] is a sum of two layers, of which that of x is computed once for all
        classes.
        """
        both = self.encoder(self.encode_pixels(x) + self.encode_class(y)).to(self.dtype)
        mu, logvar = both.chunk(2, dim=-1)
        return mu, logvar

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """(..., B, Z), (..., B, K) one-hot -> (..., B, P) logits"""
        return self.decoder(self.decode_latent(z) + self.decode_class(y)).to(self.dtype)


def one_hot(labels: Tensor) -> Tensor:
    """(B,) labels -> (B, K)"""
    return F.one_hot(labels, CLASSES).float()


def every_class(device: torch.device) -> Tensor:
    """Return the K classes as (K, 1, K) one-hot vectors, which a batch of any size is combined with."""
    return torch.eye(CLASSES, device=device).unsqueeze(1)


def bound_of_class(model: M2, x: Tensor, y: Tensor) -> Tensor:
    """(B, P) pixels, (..., B, K) one-hot -> (..., B) lower bound L(x, y) of log p(x, y), with one sample of q(z | x, y)

    L(x, y) = E log p(x | y, z) + log p(y) - KL(q(z | x, y) || p(z))    (equation 6, which has the opposite sign)
    """
    mu, logvar = model.encode(x, y)
    logits = model.decode(sample(mu, logvar), y)
    return log_bernoulli(logits, x) - math.log(CLASSES) - kl_divergence(mu, logvar).sum(-1)


def unlabelled_bound(bounds: Tensor, logits: Tensor) -> Tensor:
    """(K, B) L(x, y) of every class, (B, K) logits of q(y | x) -> (B,) lower bound U(x) of log p(x)

    U(x) = sum_y q(y | x) (L(x, y) - log q(y | x))    (equation 7, which has the opposite sign)
    """
    log_q = logits.log_softmax(1).T
    return (log_q.exp() * (bounds - log_q)).sum(0)
