"""Data parallelism under torchrun; in a single process, these functions have no effect.

    torchrun --standalone --nproc-per-node 2 -m ch03_autoencoder_rbm.train feedforward

Every process draws the same shuffled order, takes its share of each batch, and averages its gradients with the
others' (DistributedDataParallel), so N processes take the same steps as one process with the same batch size, if N
divides it. Only random operations within a step, such as noise and dropout, differ.
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
    """Join the process group if torchrun started this process: nccl between GPUs, gloo between CPUs."""
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(stop)  # without this, gloo's threads abort a process that ends


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """Return the number of processes that train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this is the process that prints and writes."""
    return rank() == 0


def wrap(model: nn.Module) -> nn.Module:
    """Make backward average the gradients over the processes; a single process gets the model itself."""
    return DistributedDataParallel(model) if world_size() > 1 else model


def shard(index: Tensor) -> Tensor:
    """(B,) sample numbers of a batch -> (B / N,) those of this process

    Shares are equal, so that the mean of their gradients is the gradient of the batch; if N does not divide B, up to
    N - 1 samples are skipped.
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
    """Broadcast the main process's value to every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
