"""Evaluation of a language model: loss, perplexity, bits per character, n-gram baselines, generation speed.

Dimensions: T steps, B streams.
"""

import math
from collections.abc import Sequence

import torch

from ch05_rnn.language.network import Network
from ch05_rnn.language.ngram import KneserNey
from ch05_rnn.language.sampling import generate_tokens, start_token
from common.data.text.corpora import Corpus, Level, Part
from common.data.text.vocabulary import Streams, Vocabulary
from common.device import Timer

STREAMS, STEPS = 10, 256
"""Batch size and steps of the evaluation: each stream is read from start to end with its state carried over."""
WINDOW = 64
"""Length of the windows with an empty context, in tokens: the block size of nanoGPT's published run on a CPU."""


@torch.inference_mode()
def evaluate(model: Network, part: Part, level: Level, *, bf16: bool = False) -> dict[str, float]:
    """Compute the mean cross-entropy in nats per token, the perplexity and the bits per character of a text.

    The text is read as ten streams, each from start to end with its state carried over. A recurrent network has all
    earlier tokens of the stream in its state. In a Transformer with context C, every layer attends to the last C tokens
    of the stream, the current one included, and to fewer at its start; through L layers a prediction can depend on the
    last L (C - 1) + 1 tokens.
    """
    device = model.embedding.weight.device
    streams = Streams(part.tokens, batch_size=STREAMS, steps=STEPS, device=device, shared=False)
    was_training = model.training
    model.eval()
    state, total = model.initial_state(streams.streams), 0.0
    for inputs, targets in streams:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss, state = model(inputs, state, targets)
        total += float(loss) * targets.numel()
    model.train(was_training)
    return loss_metrics(total / (streams.streams * streams.length), part, level)


@torch.inference_mode()
def window_loss(model: Network, part: Part, *, bf16: bool = False) -> float:
    """Compute the mean loss in nats per token over windows of 64 tokens, each read with an empty context.

    The token at place t of a window is predicted from the t tokens of the window before it, and from nothing else, by
    every kind of network. This is how nanoGPT estimates its validation loss, except that it draws random windows; here
    the text is cut into consecutive ones. The first tokens of a window are predicted from almost nothing, so this loss
    is higher.
    """
    device = model.embedding.weight.device
    size = min(WINDOW, len(part) - 1)
    count = (len(part) - 1) // size
    inputs, targets = (part.tokens[start : start + count * size].view(count, size).T for start in (0, 1))  # (T, B)
    was_training = model.training
    model.eval()
    total = 0.0
    for x, y in zip(inputs.split(256, dim=1), targets.split(256, dim=1), strict=True):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss, _ = model(x.to(device), model.initial_state(x.shape[1]), y.to(device))
        total += float(loss) * y.numel()
    model.train(was_training)
    return total / targets.numel()


def loss_metrics(loss: float, part: Part, level: Level) -> dict[str, float]:
    """Convert a loss in nats per token to perplexity exp(loss) and bits per character (spaces are characters)."""
    bits = loss / math.log(2) / (1 if level == "char" else part.characters_per_token)
    return {"loss": loss, "perplexity": perplexity(loss), "bits_per_character": bits}


def perplexity(loss: float) -> float:
    """exp(loss), or infinity on overflow: the run then raises its own error, which names the flag to change"""
    return math.exp(loss) if loss < 709 else math.inf


def evaluate_ngrams(corpus: Corpus, orders: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Fit Kneser-Ney models of these orders to the training text; return their validation and test metrics."""
    valid, test = {}, {}
    for order in orders:
        model = KneserNey(corpus.train.tokens.tolist(), len(corpus.vocabulary), order)
        for part, metrics in ((corpus.valid, valid), (corpus.test, test)):
            loss = model.loss(part.tokens.tolist())
            metrics |= {f"{order}gram_loss": loss, f"{order}gram_perplexity": perplexity(loss)}
    return valid, test


def generation_speed(model: Network, vocabulary: Vocabulary, count: int = 500, *, cached: bool = True) -> float:
    """Measure generated tokens per second, one token at a time; without the state, each reads the whole text again."""
    generator = torch.Generator().manual_seed(0)
    tokens = generate_tokens(model, vocabulary, [start_token(vocabulary)], generator=generator, cached=cached)
    next(tokens)
    with Timer(model.embedding.weight.device) as timer:
        for _ in range(count):
            next(tokens)
    return count / timer.seconds
