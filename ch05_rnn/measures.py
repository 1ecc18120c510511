"""How well a text is predicted: cross-entropy and what people make of it, for the network and for counting.

Dimensions: T steps, B streams.
"""

import math

import torch

from ch05_rnn.network import LanguageModel
from ch05_rnn.ngram import KneserNey
from common.data.corpora import Corpus, Level, Part
from common.data.text import Streams

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
    return {"loss": loss, "perplexity": math.exp(loss), "bits_per_character": bits}


def counted(corpus: Corpus, part: Part, order: int) -> dict[str, float]:
    """The same of a Kneser-Ney model of this order, which has counted the same training part."""
    model = KneserNey(corpus.train.tokens.tolist(), len(corpus.vocabulary), order)
    loss = model.loss(part.tokens.tolist())
    return {"ngram_loss": loss, "ngram_perplexity": math.exp(loss)}
