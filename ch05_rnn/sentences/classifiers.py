"""Sentence classifiers that read word vectors: a bidirectional LSTM, and a bag of words as a baseline.

Both map a sentence to two logits z_0 and z_1, of a negative and of a positive sentence:
P(positive) = 1 / (1 + exp(-(z_1 - z_0))), so z_1 - z_0 is the log-odds of a positive sentence.

Dimensions: N sentences, B batch, T length of the longest sentence, V vocabulary size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.padding import PAD, pad, run_packed
from common.data.text.sentences import CLASS_NAMES
from common.data.text.vocabulary import Vocabulary


class BiLSTM(nn.Module):
    """Bidirectional LSTM (Schuster & Paliwal 1997) with a linear layer on the final states of both directions."""

    def __init__(self, words: int, *, embedding_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden_size, len(CLASS_NAMES))

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) words, (B,) lengths on the CPU -> (B, 2) logits"""
        output = run_packed(self.lstm, self.dropout(self.embedding(words)), lengths)
        return self.output(self.dropout(output.hidden))


class BagOfWords(nn.Module):
    """Baseline without word order: the mean of the word embeddings, then a network with one hidden layer."""

    def __init__(self, words: int, *, embedding_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(words, embedding_size, mode="mean", padding_idx=PAD)
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(embedding_size, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, len(CLASS_NAMES)),
        )

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002  # same signature as BiLSTM
        """(B, T) words, (B,) lengths -> (B, 2) logits"""
        return self.layers(self.embedding(words))


def encode(vocabulary: Vocabulary, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """N sentences -> (N, T) words, (N,) lengths"""
    return pad([vocabulary.encode(text.split()) for text in texts])


@torch.inference_mode()
def predict(model: nn.Module, vocabulary: Vocabulary, texts: Sequence[str]) -> Tensor:
    """N sentences -> (N, 2) logits on the CPU"""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    words, lengths = encode(vocabulary, texts)
    logits = torch.empty(len(texts), len(CLASS_NAMES))
    for index in lengths.argsort().split(1_000):
        size = lengths[index]
        logits[index] = model(words[index, : size.max()].to(device), size).float().cpu()
    model.train(was_training)
    return logits


def selection_error(logits: Tensor, labels: Tensor) -> float:
    """Compute the error rate by which models and epochs are selected on the validation set; lower is better.

    A small multiple of the cross-entropy decides between equal error rates.
    """
    return float((logits.argmax(1) != labels).double().mean() + 1e-6 * F.cross_entropy(logits, labels))
