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
from common.data.text.pairs import Pairs

JITTER = 2.0
"""Texts that differ in length by less than this can change places in the order by length."""


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


def batches_by_tokens(lengths: Tensor, tokens: int, generator: torch.Generator) -> list[Tensor]:
    """(N,) lengths -> index tensors of the batches of a shuffled epoch: similar lengths, equally many tokens

    Short texts come in large batches, long ones in small batches, so all steps need about the same time and memory. The
    texts are sorted by length plus a random number below JITTER; batches therefore differ between epochs, but their
    number does not.
    """
    order = (lengths + JITTER * torch.rand(len(lengths), generator=generator)).argsort()
    sizes = lengths[order]
    middles = sizes.cumsum(0) - sizes.double() / 2  # of each text, if all of them are one sequence of tokens
    count = batch_count(lengths, tokens)
    number = (middles * count / lengths.sum()).long()  # of the batch: the sequence is cut into equal parts
    batches = order.split(number.bincount(minlength=count).tolist())
    return [batches[index] for index in torch.randperm(count, generator=generator).tolist()]
