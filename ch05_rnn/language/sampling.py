"""Sampling from a language model: temperature, top-k and top-p.

Dimensions: T steps, V vocabulary size.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from ch05_rnn.language.network import Network
from common.data.text.corpora import Level
from common.data.text.vocabulary import Vocabulary, spaced


def sampling_probabilities(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> Tensor:
    """(V,) logits -> (V,) probabilities p proportional to exp(z / temperature), truncated by top-k and top-p

    Top-k keeps the k most probable tokens; top-p keeps the smallest set of tokens whose probabilities sum to at least
    p (Holtzman et al. 2020). Temperature 0 keeps the most probable token alone.
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


def sample_token(p: Tensor, generator: torch.Generator | None = None) -> int:
    """(V,) probabilities -> index of a token"""
    return int(torch.multinomial(p, 1, generator=generator))


@torch.inference_mode()
def next_logits(model: Network, vocabulary: Vocabulary, prompt: Sequence[int]) -> Tensor:
    """T tokens of a prompt -> (V,) logits of the next token; <unknown> has probability 0"""
    logits, _ = model(torch.tensor(prompt).unsqueeze(1), model.initial_state(1))
    return _mask_unknown(logits[-1, 0], vocabulary)


@torch.inference_mode()
def generate_tokens(
    model: Network,
    vocabulary: Vocabulary,
    prompt: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    cached: bool = True,
) -> Iterator[int]:
    """Yield sampled tokens after a prompt of T tokens, without end; <unknown> is never sampled.

    The state carries everything that the network needs of the text so far: in a Transformer, keys and values of the
    last tokens (key-value cache). Without it (`cached=False`) the whole text is read again for each token, with the
    same logits.
    """
    device, was_training = model.embedding.weight.device, model.training
    initial = model.eval().initial_state(1)
    tokens, state = torch.tensor(prompt), initial
    while True:
        model.eval()
        logits, state = model(tokens.unsqueeze(1).to(device), state)
        model.train(was_training)
        logits = _mask_unknown(logits[-1, 0].cpu(), vocabulary)
        p = sampling_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        token = sample_token(p, generator)
        yield token
        if cached:
            tokens = torch.tensor([token])
        else:
            tokens, state = torch.cat([tokens, torch.tensor([token])]), initial


def _mask_unknown(logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    if vocabulary.unknown is not None:
        logits[vocabulary.unknown] = -torch.inf
    return logits


def start_token(vocabulary: Vocabulary) -> int:
    """Return the token that precedes a text: the newline, or the most frequent token if there is no newline."""
    return vocabulary.index.get("\n", 1)


def detokenise(tokens: Iterable[str], level: Level) -> Iterator[str]:
    """Yield text token by token: characters unchanged, words with the usual spaces."""
    yield from tokens if level == "char" else spaced(tokens)


def sample_line(model: Network, vocabulary: Vocabulary, level: Level, *, seed: int) -> str:
    """Generate a short sample (100 characters or 25 words) on one line; slashes stand for newlines."""
    generator = torch.Generator().manual_seed(seed)
    tokens = generate_tokens(model, vocabulary, [start_token(vocabulary)], generator=generator, temperature=0.8)
    text = "".join(detokenise(vocabulary.decode(islice(tokens, {"char": 100, "word": 25}[level])), level))
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())
