"""Mini-batches from tensors in memory: one index_select per batch, no copies per sample."""

from collections.abc import Iterator

import torch
from torch import Tensor

from common import distributed
from common.config import require


class Batches:
    """Iterate over tensors of equal length in mini-batches on a device, in a new random order in each pass.

    If the tensors fit, they are moved to the device once, else batch by batch. The order is drawn on the CPU, so it is
    the same on every device; without a generator it is the stored order. The last batch may be smaller. Under torchrun
    each process gets its share of every batch, and a last batch with fewer samples than processes is skipped.
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> None:
        assert len({len(tensor) for tensor in tensors}) == 1, "tensors differ in length"
        size, processes = len(tensors[0]), distributed.world_size()
        several = f", one sample for each of {processes} processes" if processes > 1 else ""
        require(batch_size >= processes, f"--batch-size must be at least {processes}{several}", batch_size)
        require(size >= processes, f"--limit must leave at least {processes} samples", size)
        self.batch_size = min(batch_size, size)
        self.device = torch.device(device)
        self.generator = generator
        self.tensors = tuple(tensor.to(self.device) for tensor in tensors) if self._fits(tensors) else tensors

    def _fits(self, tensors: tuple[Tensor, ...]) -> bool:
        if self.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.device)
        return sum(tensor.nbytes for tensor in tensors) < 0.5 * free  # the model and its activations need memory too

    def __len__(self) -> int:
        full, rest = divmod(len(self.tensors[0]), self.batch_size)
        return full + (rest >= distributed.world_size())

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        size = len(self.tensors[0])
        order = torch.arange(size) if self.generator is None else torch.randperm(size, generator=self.generator)
        order = order.to(self.tensors[0].device)
        for index in order.split(self.batch_size)[: len(self)]:
            share = distributed.shard(index)
            yield tuple(tensor.index_select(0, share).to(self.device) for tensor in self.tensors)
