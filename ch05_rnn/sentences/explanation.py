"""Which words decided: the contributions of words and n-grams to the log-odds of a positive sentence.

Let z = z_1 - z_0 be the log-odds of a sentence (see `classifiers`).

Leave-one-out, for every network: the contribution of word t is z minus the log-odds of the sentence without it,

    r_t = z(x_1 ... x_n) - z(x_1 ... x_{t-1} x_{t+1} ... x_n)

The r_t do not add up to z, because words act together.

N-grams, for TextCNN (see `textcnn`): every feature f_j is the value of one window, so z is a sum over the windows that
win the maximum over time. The contribution of window i is

    r_i = sum_{j won by i} (w_1j - w_0j) f_j,   z = d_1 - d_0 + sum_i r_i

Dimensions: N sentences, n words of a sentence, J features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ch05_rnn.sentences.classifiers import encode, predict
from ch05_rnn.sentences.textcnn import TextCNN
from common.data.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_odds(model: nn.Module, vocabulary: Vocabulary, texts: Sequence[str]) -> Tensor:
    """N sentences -> (N,) z"""
    logits = predict(model, vocabulary, texts)
    return logits[:, 1] - logits[:, 0]


def leave_one_out(model: nn.Module, vocabulary: Vocabulary, words: Sequence[str]) -> Tensor:
    """(n,) contributions r_t of the words of a sentence; without its only word the log-odds are 0"""
    z = log_odds(model, vocabulary, [" ".join(words)])
    if len(words) == 1:
        return z
    without = [" ".join([*words[:place], *words[place + 1 :]]) for place in range(len(words))]
    return z - log_odds(model, vocabulary, without)


@dataclass(frozen=True)
class Ngram:
    """A window of TextCNN that is the maximum of at least one filter."""

    text: str
    contribution: float
    """r_i, in nats."""
    filters: int
    """Number of filters with a feature above 0 that it wins."""


@torch.inference_mode()
def winning_ngrams(model: TextCNN, vocabulary: Vocabulary, text: str) -> list[Ngram]:
    """Return the n-grams of a sentence that win the maximum over time, by decreasing absolute contribution.

    Windows of different widths that contain the same words, at the ends of the sentence, count as one n-gram.
    """
    words, lengths = encode(vocabulary, [text])
    device = model.output.weight.device
    features, windows = (each[0].cpu() for each in model.features(words.to(device), lengths))
    w = model.output.weight.cpu()
    contributions = (w[1] - w[0]) * features
    widths = torch.tensor(model.widths)
    starts, ends = (windows - widths + 1).clamp(min=0), (windows + 1).clamp(max=int(lengths[0]))
    won: dict[tuple[int, int], list[float]] = {}
    for j in features.nonzero().flatten().tolist():
        won.setdefault((int(starts[j]), int(ends[j])), []).append(float(contributions[j]))
    tokens = text.split()
    found = [Ngram(" ".join(tokens[start:end]), sum(its), len(its)) for (start, end), its in won.items()]
    return sorted(found, key=lambda ngram: -abs(ngram.contribution))


def draw_contributions(model: nn.Module, vocabulary: Vocabulary, texts: Sequence[str]) -> "Figure":
    """Draw sentences with the leave-one-out contribution of each word as its colour."""
    from common.drawing import text_plots

    sentences = [text.split() for text in texts]
    contributions = [leave_one_out(model, vocabulary, words) for words in sentences]
    largest = max(1e-9, *(float(its.abs().max()) for its in contributions))
    label = "contribution to the log-odds"
    return text_plots.shaded_words(sentences, contributions, label=label, limits=(-largest, largest))


def draw_prefix_predictions(model: nn.Module, vocabulary: Vocabulary, texts: Sequence[str]) -> "Figure":
    """Draw the probability of the positive class after each word of a sentence."""
    from common.drawing import text_plots

    sentences, p = [text.split() for text in texts], []
    for words in sentences:
        prefixes = [" ".join(words[: n + 1]) for n in range(len(words))]
        p.append(predict(model, vocabulary, prefixes).softmax(1)[:, 1])
    return text_plots.shaded_words(sentences, p, label="P(positive)")


def draw_ngrams(ngrams: Iterable[Ngram], count: int = 10) -> "Figure":
    """Draw the n-grams with the largest and the smallest contributions as bars."""
    from common.drawing import plots

    largest: dict[str, float] = {}
    for ngram in sorted(ngrams, key=lambda ngram: abs(ngram.contribution)):
        largest[ngram.text] = ngram.contribution
    ranked = sorted(largest.items(), key=lambda item: -item[1])
    shown = [item for item in ranked[:count] if item[1] > 0] + [item for item in ranked[-count:] if item[1] < 0]
    names, values = [name for name, _ in shown], [value for _, value in shown]
    return plots.bars(names, values, title="", label="contribution to the log-odds")
