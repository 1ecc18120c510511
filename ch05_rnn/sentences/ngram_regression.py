"""Logistic regression on n-grams: the baseline of the sentence classifiers.

Let x_nj be 1 if n-gram j occurs in sentence n, else 0, and y_n the label, 0 or 1. With weights w, a bias b and the
penalty lambda

    P(y_n = 1) = sigmoid(z_n),  z = X w + b
    L(w, b) = sum_n -log P(y_n) + lambda / 2 |w|^2
    dL/dw = X^T (sigmoid(z) - y) + lambda w,  dL/db = sum_n (sigmoid(z_n) - y_n)

X is sparse: only the positions of its ones are stored, as pairs (n, j). L is convex and is minimised by L-BFGS.

Dimensions: N sentences, V n-grams, O ones of the matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ch05_rnn.sentences.classifiers import selection_error

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Candidates for lambda; one is selected on the validation set."""
ITERATIONS = 200
"""Maximum number of iterations of L-BFGS."""


def ngrams_up_to(order: int, text: str) -> set[str]:
    """Return the n-grams of 1 to `order` words of a sentence.

    >>> sorted(ngrams_up_to(2, "not very good"))
    ['good', 'not', 'not very', 'very', 'very good']
    """
    words = text.split()
    return {
        " ".join(words[start : start + size]) for size in range(1, order + 1) for start in range(len(words) - size + 1)
    }


def ones(texts: Sequence[str], index: dict[str, int], order: int) -> tuple[Tensor, Tensor]:
    """N sentences -> (O,) sentence n and (O,) n-gram j of each one in X; unknown n-grams are left out"""
    pairs = [
        (n, index[gram]) for n, text in enumerate(texts) for gram in sorted(ngrams_up_to(order, text)) if gram in index
    ]
    rows, columns = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(1)
    return rows, columns


@dataclass(frozen=True)
class NgramRegression:
    """A fitted logistic regression."""

    index: dict[str, int]
    """Number of each n-gram."""
    weights: Tensor
    """(V,) float64"""
    bias: float
    penalty: float
    order: int
    """Largest number of words of an n-gram."""

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[int], *, penalty: float, order: int = 2) -> "NgramRegression":
        """Minimise L over the training sentences."""
        known = dict.fromkeys(gram for text in texts for gram in sorted(ngrams_up_to(order, text)))
        index = {gram: number for number, gram in enumerate(known)}
        rows, columns = ones(texts, index, order)
        y = torch.tensor(labels, dtype=torch.float64)
        parameters = torch.zeros(len(index) + 1, dtype=torch.float64)  # w, then b
        optimizer = torch.optim.LBFGS(
            [parameters], max_iter=ITERATIONS, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            w, b = parameters[:-1], parameters[-1]
            z = b + torch.zeros_like(y).index_add_(0, rows, w[columns])  # X w + b
            residual = z.sigmoid() - y
            gradient = penalty * w
            gradient.index_add_(0, columns, residual[rows])  # + X^T residual
            parameters.grad = torch.cat([gradient, residual.sum().view(1)])
            return F.binary_cross_entropy_with_logits(z, y, reduction="sum") + penalty / 2 * w @ w

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        return cls(index, parameters[:-1], float(parameters[-1]), penalty, order)

    def predict(self, texts: Sequence[str]) -> Tensor:
        """N sentences -> (N, 2) logits, the first 0"""
        rows, columns = ones(texts, self.index, self.order)
        z = torch.full((len(texts),), self.bias, dtype=torch.float64).index_add_(0, rows, self.weights[columns])
        return torch.stack([torch.zeros_like(z), z], dim=1).float()

    @classmethod
    def select(
        cls, train: tuple[Sequence[str], Sequence[int]], valid: tuple[Sequence[str], Sequence[int]]
    ) -> "NgramRegression":
        """Fit one regression for each penalty; return the one with the fewest errors on the validation set."""
        candidates = [cls.fit(*train, penalty=penalty) for penalty in PENALTIES]
        texts, labels = valid[0], torch.tensor(valid[1])
        return min(candidates, key=lambda candidate: selection_error(candidate.predict(texts), labels))
