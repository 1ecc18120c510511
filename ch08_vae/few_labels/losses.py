"""The losses of the semi-supervised GAN: K + 1 classes and feature matching.

A classifier with K + 1 classes, the last one for generated images, has one logit too many: subtracting a number from
all logits does not change the probabilities. With the last logit fixed at 0, K logits l_k remain, and

    p(generated | x) = 1 / (Z(x) + 1),    D(x) = 1 - p(generated | x) = Z(x) / (Z(x) + 1),    Z(x) = sum_k exp l_k(x).

Source: Salimans et al. (2016), Improved Techniques for Training GANs, section 5; section 3.1 for feature matching.

Dimensions: B batch, K classes (10), F features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def log_z(logits: Tensor) -> Tensor:
    """(B, K) logits -> (B,) log Z, the logit of D: D = sigmoid(log Z)"""
    return logits.logsumexp(1)


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K) logits of labelled images -> mean of -log p(y | x, y <= K), the usual cross-entropy"""
    return F.cross_entropy(logits, labels)


def discriminator_loss(on_real: Tensor, on_generated: Tensor) -> Tensor:
    """(B, K) logits of unlabelled and generated images -> -(E log D(x) + E log(1 - D(G(z)))) / 2"""
    return (F.softplus(-log_z(on_real)).mean() + F.softplus(log_z(on_generated)).mean()) / 2


def feature_matching_loss(of_real: Tensor, of_generated: Tensor) -> Tensor:
    """(B, F) features f of real and generated images -> || E f(x) - E f(G(z)) ||^2"""
    return (of_real.mean(0) - of_generated.mean(0)).square().sum()


def real_probability(logits: Tensor) -> Tensor:
    """(B, K) logits -> (B,) D(x), the probability that an image is real"""
    return torch.sigmoid(log_z(logits))
