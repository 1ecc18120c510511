"""Speed of a training step with one change at a time, and timing with and without synchronisation.

    python -m ch04_cuda.train asynchrony
    python -m ch04_cuda.train asynchrony --device cuda --network cnn

A GPU executes kernels from a queue: a call adds a kernel to the queue and does not wait for it. Without
synchronisation, a timing includes only the calls. The first table shows both timings of the same steps. The second
table compares variants with the plain step (float32, optimizer with a loop over the parameters): a fused optimizer, and
the fused optimizer with one more change. The changes are channels-last memory layout, bfloat16 and torch.compile; on a
GPU also a CUDA graph, recorded once and replayed, and batches copied from the host before the step or, in a second
stream, during the previous step; on a CPU also a single thread.

Dimensions: B batch.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ch04_cuda.kernels.cpp_kernels import no_compiler
from ch04_cuda.networks import NETWORKS, WIDTHS, train_step
from common import device as devices
from common import distributed
from common.benchmark import interleaved, median_ratio, seconds_per_call
from common.config import RunOptions, require, require_positive
from common.progress import print_table, say
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    network: Literal["mlp", "cnn", "lstm"] = "cnn"
    """Network to time."""
    batch_size: int = 256
    """Batch size in images."""
    compile: bool = True
    """Include torch.compile; compilation takes up to a minute."""
    rounds: int = 7
    """Rounds of measurement after a warm-up; every variant is timed once in each."""
    seconds: float = 0.2
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")


Step = Callable[[], object]
"""One training step."""


class Trainer:
    """A network, its optimizer, and a batch of random images on the device."""

    def __init__(self, config: Config, device: torch.device, *, fused: bool = True, capturable: bool = False) -> None:
        self.device, self.model = device, NETWORKS[config.network](WIDTHS[config.network]).to(device)
        lr = torch.tensor(1e-3, device=device) if capturable else 1e-3  # a CUDA graph reads it from device memory
        foreach = None if fused else False  # False: a loop over the parameters
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr, fused=fused or None, foreach=foreach, capturable=capturable
        )
        self.pixels = torch.rand(config.batch_size, 1, 28, 28, device=device)
        self.labels = torch.randint(10, (config.batch_size,), device=device)

    def step(self, *, model: nn.Module | None = None, bf16: bool = False) -> Tensor:
        """Take a training step of the network, or of its compiled version `model`."""
        return train_step(model or self.model, self.optimizer, self.pixels, self.labels, bf16=bf16)


def cpu_variants(config: Config, device: torch.device) -> dict[str, Step]:
    """Make the variants for a CPU: the plain step, the fused step, and the fused step with one change each."""
    variants: dict[str, Step] = {
        "plain": Trainer(config, device, fused=False).step,
        "fused": Trainer(config, device).step,
    }
    if devices.ALL_THREADS > 1:
        single = Trainer(config, device)

        def one_thread() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            single.step()
            torch.set_num_threads(before)

        variants["one_thread"] = one_thread
    return variants | changes(config, device)


def changes(config: Config, device: torch.device) -> dict[str, Step]:
    """Make the variants for all devices: memory layout, bfloat16 and compilation."""
    variants: dict[str, Step] = {}
    if config.network == "cnn":
        trainer = Trainer(config, device)
        trainer.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        trainer.pixels = trainer.pixels.contiguous(memory_format=torch.channels_last)
        variants["channels_last"] = trainer.step
    if devices.has_native_bf16(device):
        half = Trainer(config, device)
        variants["bf16"] = lambda: half.step(bf16=True)
    else:
        say("skipped", f"bf16: {device} has no native bfloat16 arithmetic")
    reason = no_compiler()
    if config.compile and reason is None:
        eager = Trainer(config, device)
        compiled = torch.compile(eager.model)
        variants["compiled"] = lambda: eager.step(model=compiled)  # pyright: ignore[reportArgumentType]
    elif config.compile:
        say("skipped", f"torch.compile: {reason}")
    return variants


def cuda_variants(config: Config, device: torch.device) -> dict[str, Step]:
    """Make the variants for a GPU: the plain step, the fused step, and the fused step with one change each."""
    plain, fused = Trainer(config, device, fused=False), Trainer(config, device)
    variants: dict[str, Step] = {"plain": plain.step, "fused": fused.step} | changes(config, device)
    variants["cuda_graph"] = graph_step(Trainer(config, device, capturable=True))
    variants["copied"] = copying_step(Trainer(config, device), overlap=False)
    variants["copied_overlapping"] = copying_step(Trainer(config, device), overlap=True)
    return variants


def graph_step(trainer: Trainer) -> Step:
    """Record the kernels of a step as a CUDA graph; return its replay, which is a single call.

    The recorded kernels use the same memory in each replay: copy a new batch into the tensors of the trainer.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # cuDNN and the optimizer select algorithms and allocate in the first steps
        for _ in range(3):
            trainer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        trainer.step()
    return graph.replay


def copying_step(trainer: Trainer, *, overlap: bool) -> Step:
    """Make a step on batches from pinned memory, copied before the step or, if `overlap`, during the previous step."""
    host = torch.rand(trainer.pixels.shape).pin_memory()
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    waiting = host.to(trainer.device)  # the first batch; each step copies the next one

    def sequential() -> None:
        trainer.pixels.copy_(host)
        trainer.step()

    def overlapping() -> None:
        main.wait_stream(side)  # the copy of this batch must be complete
        trainer.pixels.copy_(waiting)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            waiting.copy_(host, non_blocking=True)  # copies the next batch during this step
        trainer.step()

    return overlapping if overlap else sequential


def time_steps(step: Step, device: torch.device, steps: int = 20) -> dict[str, float]:
    """Measure milliseconds per step with and without synchronisation after the last step."""
    step()
    devices.synchronise(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    unsynchronised = time.perf_counter() - start
    devices.synchronise(device)
    synchronised = time.perf_counter() - start
    return {"unsynchronised": 1e3 * unsynchronised / steps, "synchronised": 1e3 * synchronised / steps}


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Time the variants interleaved; return milliseconds per step and speeds relative to the plain step."""
    with Run.open(__name__, config, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "asynchrony compares within one process", distributed.world_size())
        device = run.device
        clock = time_steps(Trainer(config, device, fused=False).step, device)
        rows = [(name, f"{value:.3f}") for name, value in clock.items()]
        print_table(["clock", "ms/step"], rows, title=f"the same 20 steps on {device}")
        if device.type == "cpu":
            say("skipped", "streams, overlapping copies and CUDA graphs: they need a CUDA device")
        variants = cuda_variants(config, device) if device.type == "cuda" else cpu_variants(config, device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.compile warns about its own internals
            times = interleaved(
                variants, config.rounds, lambda variant: seconds_per_call(variant, config.seconds, device), quiet=True
            )
        median = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        ratios = {name: median_ratio(times["plain"], values) for name, values in times.items()}
        report(run, median, ratios)
        return run.finish(
            run={
                **{f"{name}_milliseconds": value for name, value in (median | clock).items()},
                **{f"{name}_ratio": value for name, value in ratios.items()},
            }
        )


def report(run: Run, median: dict[str, float], ratios: dict[str, float]) -> None:
    """Print milliseconds per step and relative speeds; draw the speeds."""
    from common.drawing import plots

    config = run.config
    rows = [(name.replace("_", " "), f"{median[name]:.3f}", f"{ratios[name]:.2f}") for name in median]
    title = f"{config.network}, batches of {config.batch_size}"
    print_table(["step", "ms", "relative speed"], rows, title=title)
    names = [name.replace("_", " ") for name in median]
    run.figure("asynchrony", plots.bars(names, list(ratios.values()), title=title, label="speed relative to plain"))
