"""Attention of a trained captioner, drawn over the image word by word.

Dimensions: N images, S image size, L positions of the grid, T words.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ch05_rnn.captions.network import GRID, Captioner
from ch05_rnn.sentences.encoder_decoder import END
from common.data.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK = 0.15
"""Brightness of a pixel without attention, relative to that of the pixel with most attention."""


def highlight(image: Tensor, alpha: Tensor) -> Tensor:
    """(3, S, S) uint8 image, (T, L) weights -> (T, 3, S, S) in [0, 1], brightest where the weight is largest"""
    maps = alpha.float().view(-1, 1, GRID, GRID)
    maps = F.interpolate(maps / maps.amax(dim=(2, 3), keepdim=True), image.shape[1:], mode="bilinear")
    return image.float() / 255 * (DARK + (1 - DARK) * maps)


def draw_attention(model: Captioner, vocabulary: Vocabulary, pixels: Tensor, max_length: int) -> "Figure":
    """Draw N images, one per row: the image, then the attention at each word of its greedy caption."""
    from common.drawing import plots

    tokens, weights = model.greedy(pixels.to(next(model.parameters()).device), max_length)
    assert weights is not None
    rows, titles = [], []
    longest = max(row.index(END) + 1 if END in row else len(row) for row in tokens.tolist())
    for image, words, alpha in zip(pixels, tokens.tolist(), weights.cpu(), strict=True):
        count = words.index(END) + 1 if END in words else len(words)
        blank = torch.ones(longest - count, 3, *image.shape[1:])
        rows.append(torch.cat([image.unsqueeze(0).float() / 255, highlight(image, alpha[:count]), blank]))
        shown = ["end" if word == "<end>" else word for word in vocabulary.decode(words[:count])]
        titles += ["", *shown, *[""] * len(blank)]
    return plots.image_grid(torch.cat(rows), columns=longest + 1, titles=titles, size=0.85)
