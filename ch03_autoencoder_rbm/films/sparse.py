"""Batches of a sparse table: what a few users rated (or who rated a few films), laid end to end.

Dimensions: C cases, N ratings in all, B cases of a batch, M ratings of a batch, V units.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The ratings of B cases, one case after the other."""

    units: Tensor
    """(M,) int64, which visible unit each rating is of"""
    values: Tensor
    """(M,) int64 level of each rating, or float32 value"""
    starts: Tensor
    """(B,) where each case begins, as F.embedding_bag takes it"""
    rows: Tensor
    """(M,) which case of the batch each rating belongs to"""

    @property
    def cases(self) -> int:
        """B"""
        return len(self.starts)


class Cases:
    """All ratings sorted by case: compressed sparse rows, 5 to 8 bytes a rating."""

    def __init__(self, cases: Tensor, units: Tensor, values: Tensor, count: int) -> None:
        order = cases.argsort(stable=True)
        self.units, self.values = units[order].int(), values[order]
        self.ends = cases.bincount(minlength=count).cumsum(0)
        self.counts = torch.diff(self.ends, prepend=self.ends.new_zeros(1))

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, cases: Tensor) -> Batch:
        """Collect the ratings of some cases, in that order; a case without any has an empty row."""
        counts = self.counts[cases]
        starts = counts.cumsum(0) - counts
        rows = torch.repeat_interleave(counts)
        first = (self.ends[cases] - counts)[rows]  # of the row's case, among all ratings
        index = first + torch.arange(len(rows), device=rows.device) - starts[rows]
        values = self.values[index]
        return Batch(self.units[index].long(), values if values.is_floating_point() else values.long(), starts, rows)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Go through the cases that have ratings once, in random order, drawn on the CPU."""
        present = self.counts.nonzero().flatten()
        order = torch.randperm(len(present), generator=generator).to(present.device)
        for index in order.split(batch_size):
            yield self.take(present[index])

    def batches(self, batch_size: int) -> int:
        """How many batches `shuffled` gives."""
        return -(-int((self.counts > 0).sum()) // batch_size)

    def to(self, device: torch.device) -> "Cases":
        """Move to a device."""
        self.units, self.values = self.units.to(device), self.values.to(device)
        self.ends, self.counts = self.ends.to(device), self.counts.to(device)
        return self


def zero_gradient(parameter: Tensor) -> Tensor:
    """Give a parameter's gradient, all zeros: the same memory each time, which for large tables saves half the step."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad.zero_()
