"""How well a text is predicted, by the network and by counting, and how fast one is written.

Dimensions: T steps, B streams.
"""

import math

import torch

from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.ngram import KneserNey
from ch05_rnn.language.sampling import continuation, first_of
from common.data.text.corpora import Corpus, Level, Part
from common.data.text.vocabulary import Streams, Vocabulary
from common.device import Timer

STREAMS, STEPS = 10, 256
"""How a held-out part is read: so many streams side by side, each from front to back with its state carried on."""


@torch.inference_mode()
def evaluate(model: LanguageModel, part: Part, level: Level, *, bf16: bool = False) -> dict[str, float]:
    """Cross-entropy in nats a token, and what people make of it: perplexity, and bits a character."""
    device = model.decoder.bias.device
    streams = Streams(part.tokens, batch_size=STREAMS, steps=STEPS, device=device, shared=False)
    was_training = model.training
    model.eval()
    state, total = model.initial_state(streams.streams), 0.0
    for inputs, targets in streams:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss, state = model(inputs, state, targets)
        total += float(loss) * targets.numel()
    model.train(was_training)
    return in_units(total / (streams.streams * streams.length), part, level)


def in_units(loss: float, part: Part, level: Level) -> dict[str, float]:
    """Say a loss in nats a token as perplexity exp(loss), and in bits a character (spaces count as characters)."""
    bits = loss / math.log(2) / (1 if level == "char" else part.characters_per_token)
    return {"loss": loss, "perplexity": perplexity(loss), "bits_per_character": bits}


def perplexity(loss: float) -> float:
    """exp(loss); infinite where that is more than a float holds, so that the run can say what to lower"""
    return math.exp(loss) if loss < 709 else math.inf


def count(corpus: Corpus, order: int) -> KneserNey:
    """Learn the training part by counting n-grams of this order."""
    return KneserNey(corpus.train.tokens.tolist(), len(corpus.vocabulary), order)


def in_counts(model: KneserNey, part: Part) -> dict[str, float]:
    """Say how well a model that has counted predicts a part."""
    loss = model.loss(part.tokens.tolist())
    return {f"{model.order}gram_loss": loss, f"{model.order}gram_perplexity": perplexity(loss)}


def writing_speed(model: LanguageModel, vocabulary: Vocabulary, tokens: int = 500) -> float:
    """Measure how many tokens a second the model writes, one after the other."""
    numbers = continuation(model, vocabulary, [first_of(vocabulary)], generator=torch.Generator().manual_seed(0))
    next(numbers)
    with Timer(model.decoder.bias.device) as timer:
        for _ in range(tokens):
            next(numbers)
    return tokens / timer.seconds
