"""Data parallelism: throughput of 1 ... N processes, bytes sent, and equality of the averaged gradient.

    python -m ch04_cuda.train data_parallel                                         # 1, 2 ... processes in turn
    torchrun --standalone --nproc-per-node 2 -m ch04_cuda.train data_parallel       # two processes only

Every process has the whole network and computes on its share of each batch. The gradients are averaged before the step,
so all processes take the step of a single process with the whole batch. In a ring all-reduce (Patarasuk & Yuan 2009)
each of N processes sends 1/N of the gradient 2 (N - 1) times:

    bytes sent per process and step = 2 (N - 1) / N x bytes of the gradient

`ring_average` implements the algorithm and counts the bytes that it sends. The timed steps use DistributedDataParallel,
whose all-reduce runs in Gloo or NCCL; its bytes are not counted.

Efficiency is the throughput of N processes divided by N times that of one. Weak scaling keeps the images per process
constant, strong scaling the images per step. distributed.md has the commands for two machines.

Dimensions: B batch, N processes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ch04_cuda.networks import NETWORKS, WIDTHS, train_step
from common import device as devices
from common import distributed
from common.config import RunOptions, changed_flags, require, require_positive
from common.device import Timer
from common.files import read_json
from common.progress import print_table, say
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    network: Literal["mlp", "cnn", "lstm"] = "cnn"
    """Network to train."""
    batch_size: int = 256
    """Batch size in images: of each process (weak scaling), or of all processes together (strong scaling)."""
    scaling: Literal["weak", "strong"] = "strong"
    """Constant batch size: per process (weak) or in total (strong)."""
    processes: int | None = None
    """Maximum number of processes; by default one per GPU, or one per CPU thread."""
    steps: int = 30
    """Number of timed steps, after five warm-up steps."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "processes", "steps")


def measure(config: Config, device: torch.device, *, bf16: bool) -> dict[str, float]:
    """Time the steps, count the bytes of `ring_average`, compare averaged gradients with that of the whole batch."""
    count = distributed.world_size()
    share = config.batch_size if config.scaling == "weak" else config.batch_size // count
    require(share > 0, f"--batch-size must be at least {count}, the number of processes", config.batch_size)
    torch.manual_seed(config.run.seed)  # every process has the same weights and the whole batch
    model = NETWORKS[config.network](WIDTHS[config.network]).to(device)
    pixels = torch.rand(share * count, 1, 28, 28).to(device)
    labels = torch.randint(10, (share * count,)).to(device)
    own = distributed.shard(torch.arange(share * count)).to(device)
    whole = gradients(model, pixels, labels)
    ring, sent = ring_average(gradients(model, pixels[own], labels[own]), count, distributed.rank(), exchange)
    parallel = distributed.wrap(model)
    averaged = gradients(parallel, pixels[own], labels[own])
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    for _ in range(5):
        train_step(parallel, optimizer, pixels[own], labels[own], bf16=bf16)
    with Timer(device) as timer:
        for _ in range(config.steps):
            train_step(parallel, optimizer, pixels[own], labels[own], bf16=bf16)
    gradient_bytes = sum(parameter.nbytes for parameter in model.parameters())
    seconds = distributed.mean(timer.seconds)
    return {
        "processes": count,
        "images_per_second": share * count * config.steps / seconds,
        "ring_sent_mb": distributed.mean(sent) / 1e6,
        "formula_sent_mb": 2 * (count - 1) / count * gradient_bytes / 1e6,
        "gradient_difference": float((averaged - whole).abs().max() / whole.abs().max()),
        "ring_gradient_difference": float((ring - whole).abs().max() / whole.abs().max()),
    }


Exchange = Callable[[Tensor, Tensor], None]
"""Function that sends the first tensor to the next process of the ring and receives the second from the previous."""


def exchange(outgoing: Tensor, incoming: Tensor) -> None:
    """Send `outgoing` to the next process of the ring; receive `incoming` from the previous process."""
    count, rank = distributed.world_size(), distributed.rank()
    send = dist.P2POp(dist.isend, outgoing, (rank + 1) % count)
    receive = dist.P2POp(dist.irecv, incoming, (rank - 1) % count)
    for request in dist.batch_isend_irecv([send, receive]):
        request.wait()


def ring_average(values: Tensor, count: int, rank: int, exchange: Exchange) -> tuple[Tensor, int]:
    """Average a vector over the processes of a ring; return it and the bytes that this process sent.

    In the first N - 1 turns the parts of the vector are summed along the ring (reduce-scatter), in the other N - 1
    turns the sums are passed on to all processes (all-gather).
    """
    parts, sent = list(values.clone().tensor_split(count)), 0
    for turn in range(2 * (count - 1)):
        outgoing, target = parts[(rank - turn) % count], (rank - turn - 1) % count
        incoming = torch.empty_like(parts[target])
        exchange(outgoing, incoming)
        sent += outgoing.nbytes
        parts[target] = parts[target] + incoming if turn < count - 1 else incoming
    return torch.cat(parts) / count, sent


def gradients(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    """Return the gradients of all parameters as one vector; for a wrapped model, their average over the processes."""
    F.cross_entropy(model(pixels), labels).backward()
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    model.zero_grad()
    return found


def start(config: Config, count: int) -> dict[str, float]:
    """Run this program with `count` processes under torchrun, in a temporary folder; return its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        words += ["-m", "ch04_cuda.train", "data_parallel", *changed_flags(config), "--out", folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()  # torchrun adds lines around the message of a process
            message = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise ValueError(f"{count} processes failed: {message.removeprefix('error: ')}")
        (summary,) = Path(folder).glob("*/*/*/summary.json")
        return read_json(summary)["metrics"]


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Measure 1, 2 ... processes, or only the given processes under torchrun; return their metrics."""
    with Run.open(__name__, config) as run:
        if distributed.world_size() > 1:
            return run.finish(run=measure(config, run.device, bf16=run.bf16))
        most = config.processes or max(devices.ALL_THREADS, len(devices.present_devices()) - 1)
        if run.device.type != "cpu":
            most = min(most, len(devices.present_devices()) - 1)
        found: dict[str, float] = {}
        rows = []
        for count in range(1, most + 1):
            measured = measure(config, run.device, bf16=run.bf16) if count == 1 else start(config, count)
            alone = found.get("images_per_second_1", measured["images_per_second"])
            efficiency = measured["images_per_second"] / count / alone
            found |= {f"{name}_{count}": value for name, value in measured.items() if name != "processes"}
            found[f"efficiency_{count}"] = efficiency
            rows.append(
                (
                    count,
                    f"{measured['images_per_second']:,.0f}",
                    f"{efficiency:.0%}",
                    f"{measured['ring_sent_mb']:.2f}",
                    f"{measured['formula_sent_mb']:.2f}",
                    f"{measured['gradient_difference']:.1e}",
                )
            )
        headings = ["processes", "images/s", "efficiency", "MB sent, counted in our ring", "by the formula"]
        headings.append("gradient differs by")
        print_table(headings, rows, title=f"{config.network}, {config.scaling} scaling, batch {config.batch_size}")
        if most == 1:
            say("note", "only one processor or GPU is available: nothing to compare")
        return run.finish(run=found)
