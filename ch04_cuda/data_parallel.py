"""Data parallelism measured: images a second with 1 ... N processes, what travels between them, that nothing changes.

    python -m ch04_cuda.train data_parallel                                         # 1, 2 ... processes, one by one
    torchrun --standalone --nproc-per-node 2 -m ch04_cuda.train data_parallel       # this many processes, once

Every process holds the whole network and takes its share of each batch; the gradients are averaged before the step, so
all make the same step as one process would with the whole batch. What travels is the gradient. In a ring of N processes
each sends, and receives, a share of it 2 (N - 1) times:

    bytes a process and step = 2 (N - 1) / N x bytes of the gradient

Efficiency compares N processes with N times one: weak scaling keeps the images a process, strong scaling the images a
step. distributed.md spells out the same command on two machines.

Dimensions: B batch, N processes.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
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
    """What is measured, and for how long."""

    network: Literal["mlp", "cnn", "lstm"] = "cnn"
    """Whose training step."""
    batch_size: int = 256
    """Images a step: of each process (weak scaling), or of all together (strong)."""
    scaling: Literal["weak", "strong"] = "strong"
    """What stays the same as processes are added."""
    processes: int | None = None
    """The most processes; by default one a GPU, or one a CPU thread."""
    steps: int = 30
    """Steps that are timed, after five that are not."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "processes", "steps")


def measure(config: Config, device: torch.device, *, bf16: bool) -> dict[str, float]:
    """Time the steps of this process among all of them, and compare its gradient with that of the whole batch."""
    count = distributed.world_size()
    share = config.batch_size if config.scaling == "weak" else config.batch_size // count
    require(share > 0, f"--batch-size must be at least {count}, the number of processes", config.batch_size)
    torch.manual_seed(config.run.seed)  # every process starts with the same weights, and knows the whole batch
    model = NETWORKS[config.network](WIDTHS[config.network]).to(device)
    pixels = torch.rand(share * count, 1, 28, 28).to(device)
    labels = torch.randint(10, (share * count,)).to(device)
    own = distributed.shard(torch.arange(share * count)).to(device)
    whole = gradients(model, pixels, labels)
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
        "sent_mb_per_step": 2 * (count - 1) / count * gradient_bytes / 1e6,
        "gradient_difference": float((averaged - whole).abs().max() / whole.abs().max()),
    }


def gradients(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    """Every parameter's gradient, one after the other; where processes train together, their average."""
    F.cross_entropy(model(pixels), labels).backward()
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    model.zero_grad()
    return found


def start(config: Config, count: int) -> dict[str, float]:
    """Run this program under torchrun with so many processes, in a folder that is thrown away; return what it found."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        words += ["-m", "ch04_cuda.train", "data_parallel", *changed_flags(config), "--out", folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()  # torchrun frames what a process said
            said = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise ValueError(f"{count} processes failed: {said.removeprefix('error: ')}")
        (summary,) = Path(folder).glob("*/*/*/summary.json")
        return read_json(summary)["metrics"]


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Under torchrun measure these processes; else start 1, 2 ... of them, and return how they scale."""
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
                    f"{measured['sent_mb_per_step']:.2f}",
                    f"{measured['gradient_difference']:.1e}",
                )
            )
        headings = ["processes", "images/s", "efficiency", "MB sent a step", "gradient differs by"]
        print_table(headings, rows, title=f"{config.network}, {config.scaling} scaling, batch {config.batch_size}")
        if most == 1:
            say("note", "one processor (or GPU) is present: there is nothing to scale to")
        return run.finish(run=found)
