"""Training examples: bags of input words, and the target words that are predicted from them.

Skip-gram predicts each context word from the centre word; CBOW predicts the centre word from its context words. Both
use the same windows with the roles exchanged (Mikolov et al. 2013, "Efficient estimation of word representations in
vector space", figure 1).

Dimensions: N tokens, B bags, M elements of all bags, C centre words, W maximum window radius, V vocabulary size.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bags:
    """Bags (multisets of numbers) of different sizes, stored one after the other."""

    elements: Tensor
    """(M,) int64, elements of the first bag, then of the second one, and so on"""
    sizes: Tensor
    """(B,) int64, number of elements of each bag"""

    @classmethod
    def single(cls, elements: Tensor) -> "Bags":
        """Build a bag of one element from each element."""
        return cls(elements, torch.ones_like(elements))

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def starts(self) -> Tensor:
        """(B,) index of the first element of each bag."""
        return self.sizes.cumsum(0) - self.sizes

    def owners(self) -> Tensor:
        """(M,) number of the bag of each element."""
        return torch.arange(len(self.sizes), device=self.sizes.device).repeat_interleave(self.sizes)

    def take(self, index: Tensor) -> "Bags":
        """(S,) numbers of bags -> these bags"""
        taken = Bags(self.elements, self.sizes[index])
        shift = (self.starts[index] - taken.starts).repeat_interleave(taken.sizes)
        return Bags(self.elements[torch.arange(len(shift)) + shift], taken.sizes)

    def to(self, device: torch.device) -> "Bags":
        """Copy the bags to a device."""
        return Bags(self.elements.to(device), self.sizes.to(device))


@dataclass(frozen=True)
class Examples:
    """C examples, each a bag of inputs and a bag of targets; the mean of the input vectors predicts each target."""

    inputs: Bags
    targets: Bags

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Tensor) -> "Examples":
        """(S,) numbers of examples -> these examples"""
        return Examples(self.inputs.take(index), self.targets.take(index))

    def to(self, device: torch.device) -> "Examples":
        """Copy the examples to a device."""
        return Examples(self.inputs.to(device), self.targets.to(device))


def keep_probability(counts: Tensor, threshold: float) -> Tensor:
    """(V,) counts -> (V,) probability min(1, sqrt(t / f)) of keeping an occurrence; f is the relative frequency

    Mikolov et al. 2013, "Distributed representations of words and phrases", equation 5.
    """
    frequency = counts.double() / counts.sum()
    return (threshold / frequency).sqrt().clamp(max=1)


def windows(
    tokens: Tensor, line_numbers: Tensor, keep: Tensor, window: int, generator: torch.Generator
) -> tuple[Tensor, Bags]:
    """(N,) tokens and their line numbers, (V,) keep probabilities -> (C,) centre words and their context words

    Frequent words are subsampled first, so that the windows of the remaining words reach further. Each centre word then
    draws a window radius from 1 to W, which gives near words more weight. Windows do not cross lines. Words without
    context words are omitted.
    """
    kept = torch.rand(len(tokens), generator=generator, dtype=torch.float64) < keep[tokens]
    tokens, line_numbers = tokens[kept], line_numbers[kept]
    radius = torch.randint(1, window + 1, (len(tokens),), generator=generator)
    offsets = [offset for offset in range(-window, window + 1) if 0 < abs(offset) < len(tokens)]
    context = tokens.new_zeros(len(tokens), len(offsets))
    paired = torch.zeros(len(tokens), len(offsets), dtype=torch.bool)
    for column, offset in enumerate(offsets):
        centre = slice(max(0, -offset), len(tokens) - max(0, offset))
        other = slice(max(0, offset), len(tokens) - max(0, -offset))
        context[centre, column] = tokens[other]
        paired[centre, column] = (line_numbers[centre] == line_numbers[other]) & (radius[centre] >= abs(offset))
    sizes = paired.sum(1)
    return tokens[sizes > 0], Bags(context[paired], sizes[sizes > 0])


def examples_of(model: Literal["skipgram", "cbow"], centres: Tensor, contexts: Bags) -> Examples:
    """Return the examples of a model: skip-gram has centre words as inputs, CBOW as targets."""
    words = Bags.single(centres)
    return Examples(words, contexts) if model == "skipgram" else Examples(contexts, words)
