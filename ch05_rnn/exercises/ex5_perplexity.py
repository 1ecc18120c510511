"""Find the bug: perplexity of sentences with padding (10 minutes)

A batch has B sentences of different lengths, which are padded to T tokens. `losses` has the loss of each token in nats,
and `mask` is True for tokens and False for padding. The perplexity is exp(L) with the mean loss per token

    L = 1/N (sum of the losses of all N tokens).

The function below ignores the padding, but its result depends on how a text is divided into sentences. Why?

Check: python -m ch05_rnn.exercises 5
"""

from torch import Tensor


def perplexity(losses: Tensor, mask: Tensor) -> float:
    """(B, T) losses, (B, T) mask with a True in each row -> perplexity"""
    # Find the bug, then delete this comment.
    of_sentences = (losses * mask).sum(1) / mask.sum(1)
    return float(of_sentences.mean().exp())
