"""Evaluation of captions: the share of true ones, BLEU-4, and a baseline that copies captions.

Dimensions: N images, M training images.
"""

import torch
from torch import Tensor

from ch05_rnn.captions.network import Captioner
from ch05_rnn.sentences.beam import beam_search
from ch05_rnn.sentences.bleu import bleu
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD
from common.data.captions.captioned import CaptionedImages
from common.data.captions.grammar import is_true
from common.data.text.vocabulary import Vocabulary
from common.progress import track

IMAGES_AT_ONCE = 250


def decode(vocabulary: Vocabulary, tokens: list[int]) -> str:
    """Convert the tokens of a caption to text, up to the end token."""
    return " ".join(vocabulary.decode(tokens[: tokens.index(END)] if END in tokens else tokens))


@torch.inference_mode()
def beam(model: Captioner, images: Tensor, width: int, max_length: int) -> Tensor:
    """(B, 3, S, S) images -> (B, T) tokens of the most probable caption that a beam search of this width finds"""
    features, state = model.encode(images)
    repeated = features.repeat(width)

    def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        hidden, cell = state
        logits, new, _ = model.step(tokens, (hidden, cell), repeated)
        return logits.log_softmax(dim=1), new

    return beam_search(step, state, width=width, start=START, end=END, pad=PAD, max_length=max_length)[0]


def caption(model: Captioner, vocabulary: Vocabulary, pixels: Tensor, *, width: int, max_length: int) -> list[str]:
    """(N, 3, S, S) uint8 images -> N captions, by beam search or, with a width of 1, greedily"""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    captions = []
    for images in track(pixels.split(IMAGES_AT_ONCE), "describing"):
        images = images.to(device)
        tokens = model.greedy(images, max_length)[0] if width == 1 else beam(model, images, width, max_length)
        captions += [decode(vocabulary, row) for row in tokens.tolist()]
    model.train(was_training)
    return captions


def truth(captions: list[str], split: CaptionedImages) -> Tensor:
    """(N,) whether each caption is true of its scene"""
    return torch.tensor([is_true(one, scene) for one, scene in zip(captions, split.scenes, strict=True)])


def measure(captions: list[str], split: CaptionedImages) -> dict[str, float]:
    """Compute BLEU-4 against all captions of each image and, for scenes, the share of true captions."""
    references = [[reference.split() for reference in its] for its in split.captions]
    measures = {"bleu": bleu([one.split() for one in captions], references)}
    return {"true_rate": float(truth(captions, split).float().mean()), **measures} if split.scenes else measures


def nearest_captions(pixels: Tensor, train: CaptionedImages) -> list[str]:
    """Return the first caption of the training image with the smallest squared distance, pixel by pixel, of each image.

    A baseline without learning (Devlin et al. 2015 compare images by their features instead).
    """
    known = train.pixels.flatten(1).float() / 255
    squares = known.square().sum(dim=1)
    captions = []
    for images in pixels.split(IMAGES_AT_ONCE):
        products = images.flatten(1).float() / 255 @ known.T  # (B, M); |x - y|^2 = |x|^2 - 2 x.y + |y|^2
        captions += [train.captions[place][0] for place in (squares - 2 * products).argmin(dim=1).tolist()]
    return captions
