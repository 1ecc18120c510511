"""Data parallelism under torchrun; in a single process nothing here does anything.

    torchrun --standalone --nproc-per-node 2 -m ch03_autoencoder_rbm.train feedforward

Every process draws the same shuffled order, takes its share of each batch, and averages its gradients with the
others' (DistributedDataParallel), so N processes take the same steps as one process with the same batch size, as long
as N divides it. Only what is random within a step, as noise or dropout, differs.
"""

import atexit
import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def start(device: torch.device) -> None:
    """Join the other processes if torchrun started this one: nccl between GPUs, gloo between CPUs."""
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(stop)  # gloo's threads abort a process that ends, however it ends, without leaving them


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Count the processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """Count the processes that train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def rank() -> int:
    """Give this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Tell whether this is the process that prints and writes."""
    return rank() == 0


def wrap(model: nn.Module) -> nn.Module:
    """Let backward average the gradients over the processes; a single process gets the model itself."""
    return DistributedDataParallel(model) if world_size() > 1 else model


def shard(index: Tensor) -> Tensor:
    """(B,) a batch's sample numbers -> (B / N,) this process's share of them.

    Shares are equal, so that the mean of their gradients is the batch's gradient: up to N - 1 samples of a batch that
    N does not divide sit out.
    """
    size = world_size()
    return index[: len(index) // size * size][rank() :: size]


def mean(value: float) -> float:
    """Average a number over the processes."""
    if world_size() == 1:
        return value
    values: list[float] = [0.0] * world_size()
    dist.all_gather_object(values, value)
    return sum(values) / len(values)


def from_main(value: T) -> T:
    """Give every process the main process's value."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
