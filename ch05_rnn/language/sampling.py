"""From a model and the beginning of a text to its continuation: temperature, top-k and top-p.

Dimensions: T steps, V symbols.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ch05_rnn.language.network import LanguageModel
from common.data.text.corpora import Level
from common.data.text.vocabulary import Vocabulary, spaced


def sharpen(logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """(V,) logits -> (V,) probabilities that are drawn from

    p ~ exp(z / temperature): below 1 the probable becomes more probable, at 0 only the most probable is left. Then
    top-k keeps the k most probable, and top-p the fewest that have the probability p together (Holtzman et al. 2020).
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    order = logits.argsort(descending=True, stable=True)
    p = (logits[order].double() / temperature).softmax(0)
    if top_k is not None:
        p[top_k:] = 0
    before = p.cumsum(0) - p
    p[before >= top_p * p.sum()] = 0
    return torch.zeros_like(p).scatter_(0, order, p / p.sum())


def draw(p: Tensor, generator: torch.Generator | None = None) -> int:
    """(V,) probabilities -> a symbol's number"""
    return int(torch.multinomial(p, 1, generator=generator))


@torch.inference_mode()
def next_logits(model: LanguageModel, vocabulary: Vocabulary, prompt: Sequence[int]) -> Tensor:
    """T numbers of a prompt -> (V,) logits of what comes next; the symbol for unknown tokens never comes"""
    logits, _ = model(torch.tensor(prompt).unsqueeze(1), model.initial_state(1))
    return _without_unknown(logits[-1, 0], vocabulary)


@torch.inference_mode()
def continuation(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompt: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Iterator[int]:
    """Yield the numbers of what comes after a prompt of T numbers, without end."""
    device, was_training = model.decoder.bias.device, model.training
    tokens, state = torch.tensor(prompt), model.initial_state(1)
    while True:
        model.eval()
        logits, state = model(tokens.unsqueeze(1).to(device), state)
        model.train(was_training)
        logits = _without_unknown(logits[-1, 0].cpu(), vocabulary)
        number = draw(sharpen(logits, temperature=temperature, top_k=top_k, top_p=top_p), generator)
        yield number
        tokens = torch.tensor([number])


def _without_unknown(logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    if vocabulary.unknown is not None:
        logits[vocabulary.unknown] = -torch.inf
    return logits


def first_of(vocabulary: Vocabulary) -> int:
    """Give what stands before a text: the end of a line, or where the vocabulary has none its most frequent symbol."""
    return vocabulary.index.get("\n", 1)


def pieces(tokens: Iterable[str], level: Level) -> Iterator[str]:
    """Write tokens as a text, piece by piece: characters as they are, words with spaces where people put them."""
    yield from tokens if level == "char" else spaced(tokens)
