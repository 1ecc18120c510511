"""Logistic regression: how much of a class can be read off some features along straight lines.

    p(k | x) = softmax(x W + b)_k          minimised: mean -log p(label | x) + penalty |W|^2 / 2

The problem is convex: whatever the features are, the answer depends on them and on the penalty, not on luck.

Dimensions: N images, D features, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PENALTIES = (1e-3, 1e-4, 1e-5)
"""Strengths among which the validation split chooses."""


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier."""

    weight: Tensor
    """(D, K)"""
    bias: Tensor
    """(K,)"""

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """(N, D) features, (N,) labels -> share that is recognised"""
        guesses = torch.addmm(self.bias, features, self.weight).argmax(1)
        return float((guesses == labels.to(guesses.device)).float().mean())


def fit(features: Tensor, labels: Tensor, penalty: float, classes: int = 10, iterations: int = 60) -> Logistic:
    """Minimise over all the data at once by L-BFGS (Liu & Nocedal 1989), from zero weights."""
    labels = labels.to(features.device)
    weight = features.new_zeros(features.shape[1], classes).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(torch.addmm(bias, features, weight), labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]  # torch types the closure as giving a float
    return Logistic(weight.detach(), bias.detach())


def fit_best(train: Tensor, train_labels: Tensor, valid: Tensor, valid_labels: Tensor) -> Logistic:
    """Fit with each penalty, and keep the classifier that recognises most of the validation split."""
    fits = [fit(train, train_labels, penalty) for penalty in PENALTIES]
    return max(fits, key=lambda fitted: fitted.accuracy(valid, valid_labels))
