"""Multinomial logistic regression on fixed features: the classifier of a frozen network.

With features z of an image, weights W and biases b, the probabilities of the classes are softmax(W z + b). The fit
minimises the mean cross-entropy plus (lambda / 2) |W|^2 with L-BFGS (Liu & Nocedal 1989). The problem is convex, so the
result does not depend on the initial weights or on a learning rate.

Dimensions: N images, D features, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
"""Candidates for the penalty lambda, selected on the validation set; the largest first."""

ITERATIONS = 60
"""Maximum number of L-BFGS iterations per penalty."""


def standardise(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) -> (D,) mean and (D,) standard deviation; 1 for a constant feature"""
    deviation, mean = torch.std_mean(features, 0, correction=0)
    return mean, deviation.where(deviation > 1e-6, 1.0)


def fit(
    z: Tensor, labels: Tensor, classes: int, penalty: float, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """(N, D) standardised features, (N,) labels -> (K, D) weights, (K,) biases that minimise the penalised loss

    The fit starts at `start`, or at zero.
    """
    weight, bias = start or (z.new_zeros(classes, z.shape[1]), z.new_zeros(classes))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    tolerance = 1e-9 if z.dtype == torch.float64 else 1e-5
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=tolerance, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(z, weight, bias), labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def select(
    train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], classes: int, penalties: Sequence[float]
) -> tuple[nn.Linear, float]:
    """Fit each penalty to the training set; return the layer with the highest validation accuracy, and its penalty.

    Each set is a pair of (N, D) features and (N,) labels. Each fit starts at the result of the next larger penalty. The
    standardisation becomes part of the layer, with weights W / deviation and biases b - W mean / deviation.
    """
    (features, labels), (valid_features, valid_labels) = train, valid
    mean, deviation = standardise(features)
    z, valid_z = (features - mean) / deviation, (valid_features - mean) / deviation
    best, found, start = -1.0, None, None
    for penalty in penalties:
        start = weight, bias = fit(z, labels, classes, penalty, start)
        accuracy = float((F.linear(valid_z, weight, bias).argmax(1) == valid_labels).float().mean())
        if accuracy > best:  # of equal ones, the larger penalty
            best, found = accuracy, (weight, bias, penalty)
    assert found is not None
    weight, bias, penalty = found
    layer = nn.Linear(features.shape[1], classes, device=features.device)
    with torch.no_grad():
        layer.weight.copy_(weight / deviation)
        layer.bias.copy_(bias - weight @ (mean / deviation))
    return layer, penalty
