"""Sparse batches: the ratings of several cases (users or films), concatenated.

Dimensions: C cases, N ratings of all cases, B cases of a batch, M ratings of a batch, V visible units.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The ratings of B cases, concatenated."""

    units: Tensor
    """(M,) int64 visible unit of each rating"""
    values: Tensor
    """(M,) int64 level or float32 value of each rating"""
    starts: Tensor
    """(B,) index of the first rating of each case: the offsets of F.embedding_bag"""
    rows: Tensor
    """(M,) index in the batch of the case of each rating"""

    @property
    def cases(self) -> int:
        """Number of cases B."""
        return len(self.starts)


class Cases:
    """All ratings in compressed sparse row format, sorted by case; 5 to 8 bytes per rating."""

    def __init__(self, cases: Tensor, units: Tensor, values: Tensor, count: int) -> None:
        order = cases.argsort(stable=True)
        self.units, self.values = units[order].int(), values[order]
        self.ends = cases.bincount(minlength=count).cumsum(0)
        self.counts = torch.diff(self.ends, prepend=self.ends.new_zeros(1))

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, cases: Tensor) -> Batch:
        """Return the ratings of the given cases, in their order; a case without ratings has an empty row."""
        counts = self.counts[cases]
        starts = counts.cumsum(0) - counts
        rows = torch.repeat_interleave(counts)
        first = (self.ends[cases] - counts)[rows]  # index of the case's first rating among all ratings
        index = first + torch.arange(len(rows), device=rows.device) - starts[rows]
        values = self.values[index]
        return Batch(self.units[index].long(), values if values.is_floating_point() else values.long(), starts, rows)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Iterate over all cases with ratings in random order; the permutation is sampled on the CPU."""
        present = self.counts.nonzero().flatten()
        order = torch.randperm(len(present), generator=generator).to(present.device)
        for index in order.split(batch_size):
            yield self.take(present[index])

    def batches(self, batch_size: int) -> int:
        """Return the number of batches of `shuffled`."""
        return -(-int((self.counts > 0).sum()) // batch_size)

    def to(self, device: torch.device) -> "Cases":
        """Move the ratings to a device, in place."""
        self.units, self.values = self.units.to(device), self.values.to(device)
        self.ends, self.counts = self.ends.to(device), self.counts.to(device)
        return self


def zero_gradient(parameter: Tensor) -> Tensor:
    """Set the gradient of a parameter to zero and return it. Its memory is reused, which is faster for large ones."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad.zero_()
