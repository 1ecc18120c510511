"""Pairs as token numbers, in batches of equally many tokens.

Dimensions: N pairs, B batch, S source tokens, T target tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import pad
from ch05_rnn.translation.bpe import BytePairEncoding
from common import distributed
from common.config import require
from common.data.sentence_pairs.pairs import Pairs

JITTER = 2.0
"""Texts that differ in length by less than this can change places in the order by length."""
POOL = 8
"""Number of batches of similar target lengths that are sorted by source length together."""


def encode(encoding: BytePairEncoding, text: str) -> list[int]:
    """Convert a text to tokens and <end>, with a space before it: its first word then has the same tokens as elsewhere.

    Raises ValueError if the text has surrogates, which stand for bytes that are not UTF-8.
    """
    return [*encoding.encode(f" {text}"), END]


def decode(encoding: BytePairEncoding, tokens: list[int]) -> str:
    """Convert tokens to text, up to <end>."""
    end = tokens.index(END) if END in tokens else len(tokens)
    return encoding.decode(tokens[:end]).removeprefix(" ")


@dataclass(frozen=True)
class TokenisedPairs:
    """Pairs as token numbers: sources up to <end>, targets from <start> to <end>."""

    sources: Tensor
    """(N, S) int32, padded"""
    targets: Tensor
    """(N, T) int32, padded"""
    source_lengths: Tensor
    """(N,) int64"""
    target_lengths: Tensor
    """(N,) int64, without <start>: the number of tokens to predict"""

    @classmethod
    def of(cls, pairs: Pairs, encoding: BytePairEncoding, max_length: int | None = None) -> "TokenisedPairs":
        """Encode pairs; those in which a text has more tokens than the maximum are left out."""
        rows = [
            (encode(encoding, one), encode(encoding, other))
            for one, other in zip(pairs.sources, pairs.targets, strict=True)
        ]
        kept = [pair for pair in rows if max_length is None or max(map(len, pair)) <= max_length]
        require(len(kept) > 0, "--max-length must leave at least one training pair", max_length)
        sources, source_lengths = pad([torch.tensor(source) for source, _ in kept])
        targets, lengths = pad([torch.tensor([START, *target]) for _, target in kept])
        return cls(sources, targets, source_lengths, lengths - 1)

    def batch(self, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """(B,) places -> (B, S) sources and (B, T) targets, as long as the longest of them"""
        sources = self.sources[index, : self.source_lengths[index].max()]
        targets = self.targets[index, : self.target_lengths[index].max() + 1]
        return sources.to(device), targets.to(device)


def batch_count(lengths: Tensor, tokens: int) -> int:
    """(N,) lengths -> number of batches per epoch of about this many tokens, each with a text for every process"""
    fewest = max(tokens, int(lengths.max()) * distributed.world_size())
    return max(1, int(lengths.sum()) // fewest)


def batches_by_tokens(sources: Tensor, targets: Tensor, tokens: int, generator: torch.Generator) -> list[Tensor]:
    """(N,) lengths of sources and of targets -> index tensors of the batches of a shuffled epoch

    A batch has similar lengths and about this many target tokens: many short texts, or few long ones. All steps need
    about the same time and memory. The pairs are sorted by target length and cut into pools, and each pool is sorted by
    source length and cut into batches. Random numbers below JITTER are added to the lengths, so the batches differ
    between epochs; their number does not.
    """

    def jitter() -> Tensor:
        return JITTER * torch.rand(len(targets), generator=generator)

    count = batch_count(targets, tokens)
    order = (targets + jitter()).argsort()
    pools = cut(targets[order], -(-count // POOL))
    order = order[(pools * (sources.max() + JITTER) + sources[order] + jitter()).argsort()]
    sizes = cut(targets[order], count).bincount(minlength=count)
    batches = order.split(sizes.tolist())
    return [batches[index] for index in torch.randperm(count, generator=generator).tolist()]


def cut(lengths: Tensor, parts: int) -> Tensor:
    """(N,) lengths -> (N,) part of each text, if the sequence of all their tokens is cut into equal parts"""
    middles = lengths.cumsum(0) - lengths.double() / 2
    return (middles * parts / lengths.sum()).long()
