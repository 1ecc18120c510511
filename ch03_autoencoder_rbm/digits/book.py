"""The book's loss for the digit classifier, with which training can miss a class.

The book minimises -mean(y p), with smoothed labels y and softmax probabilities p. Cross-entropy is -mean(y log p), so
the book's loss lacks the logarithm. With z the logit of the correct class and B images in the batch:

    book            d loss / d z = -0.08 p (1 - p) / B
    cross-entropy   d loss / d z = -(1 - p) / B

The gradient of the book's loss vanishes where the network is right (p near 1), and also where it is confident and wrong
(p near 0). A class whose probability becomes small early in training receives almost no gradient.

Dimensions: B batch, K classes (10).
"""

from torch import Tensor
from torch.nn import functional as F


def book_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K) logits, (B,) labels -> -mean(y p), with labels smoothed to 0.9 and 0.1 as in the book"""
    y = 0.1 + 0.8 * F.one_hot(labels, logits.shape[1])
    return -(y * logits.softmax(dim=1)).mean()
