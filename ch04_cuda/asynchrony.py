"""What makes a training step fast on this machine, one thing at a time, and why a clock can lie about it.

    python -m ch04_cuda.train asynchrony
    python -m ch04_cuda.train asynchrony --device cuda --network cnn

A GPU works through a queue: a call only puts a kernel into it and returns. A clock that is read before the queue is
empty measures Python. The first table therefore shows both figures of the same steps. The second takes the plain step,
float32 with the optimizer's loop over the parameters, adds a fused optimizer, and to that one thing at a time: another
memory layout, bfloat16, torch.compile; on a GPU the whole step recorded once as a CUDA graph and replayed, and batches
copied by a stream of their own while the step before still computes; on a CPU fewer threads.

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
from common.benchmark import by_turns, median_ratio, seconds_a_call
from common.config import RunOptions, require, require_positive
from common.progress import print_table, say
from common.run import Run


@dataclass(frozen=True)
class Config:
    """What is measured, and for how long."""

    network: Literal["mlp", "cnn", "lstm"] = "cnn"
    """Whose training step."""
    batch_size: int = 256
    """Images a step."""
    compile: bool = True
    """Let torch.compile take part, which takes up to a minute."""
    rounds: int = 7
    """How often the ways take turns, after a warm-up."""
    seconds: float = 0.2
    """How long each way runs in a round, at least."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")


Step = Callable[[], object]
"""One training step."""


class Trainer:
    """A network with its optimizer and a batch of noise on the device."""

    def __init__(self, config: Config, device: torch.device, *, fused: bool = True, capturable: bool = False) -> None:
        self.device, self.model = device, NETWORKS[config.network](WIDTHS[config.network]).to(device)
        lr = torch.tensor(1e-3, device=device) if capturable else 1e-3  # a graph reads it where the device can
        foreach = None if fused else False  # plain: one parameter after the other
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr, fused=fused or None, foreach=foreach, capturable=capturable
        )
        self.pixels = torch.rand(config.batch_size, 1, 28, 28, device=device)
        self.labels = torch.randint(10, (config.batch_size,), device=device)

    def step(self, *, model: nn.Module | None = None, bf16: bool = False) -> Tensor:
        """Take a step, of the network itself or of its compiled form."""
        return train_step(model or self.model, self.optimizer, self.pixels, self.labels, bf16=bf16)


def cpu_ways(config: Config, device: torch.device) -> dict[str, Step]:
    """What can be changed on a CPU, one thing at a time; each starts from the fused step in float32 on all threads."""
    ways: dict[str, Step] = {"plain": Trainer(config, device, fused=False).step, "fused": Trainer(config, device).step}
    if devices.ALL_THREADS > 1:
        single = Trainer(config, device)

        def one_thread() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            single.step()
            torch.set_num_threads(before)

        ways["one_thread"] = one_thread
    return ways | changes(config, device)


def changes(config: Config, device: torch.device) -> dict[str, Step]:
    """Layout, bfloat16 and compilation, which every device knows."""
    ways: dict[str, Step] = {}
    if config.network == "cnn":
        last = Trainer(config, device)
        last.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        last.pixels = last.pixels.contiguous(memory_format=torch.channels_last)
        ways["channels_last"] = last.step
    if devices.has_native_bf16(device):
        half = Trainer(config, device)
        ways["bf16"] = lambda: half.step(bf16=True)
    else:
        say("skipped", f"bf16: {device} does not multiply it natively")
    lacking = no_compiler()
    if config.compile and lacking is None:
        whole = Trainer(config, device)
        compiled = torch.compile(whole.model)
        ways["compiled"] = lambda: whole.step(model=compiled)  # pyright: ignore[reportArgumentType]
    elif config.compile:
        say("skipped", f"torch.compile: {lacking}")
    return ways


def cuda_ways(config: Config, device: torch.device) -> dict[str, Step]:
    """What can be changed on a GPU, one thing at a time."""
    plain, fused = Trainer(config, device, fused=False), Trainer(config, device)
    ways: dict[str, Step] = {"plain": plain.step, "fused": fused.step} | changes(config, device)
    ways["cuda_graph"] = graph_step(Trainer(config, device, capturable=True))
    ways["copied"] = copying_step(Trainer(config, device), overlap=False)
    ways["copied_overlapping"] = copying_step(Trainer(config, device), overlap=True)
    return ways


def graph_step(trainer: Trainer) -> Step:
    """Record a step's kernels once; the replay costs one call instead of some hundred.

    The recorded kernels read and write the same memory each time: a new batch is copied into the trainer's tensors.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # cuDNN and the optimizer choose and allocate in the first steps, outside the graph
        for _ in range(3):
            trainer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        trainer.step()
    return graph.replay


def copying_step(trainer: Trainer, *, overlap: bool) -> Step:
    """Take steps on batches from pinned host memory: copied before the step, or during the one before."""
    host = torch.rand(trainer.pixels.shape).pin_memory()
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    waiting = torch.empty_like(trainer.pixels)

    def one_after_the_other() -> None:
        trainer.pixels.copy_(host)
        trainer.step()

    def overlapping() -> None:
        main.wait_stream(side)  # the copy of this batch must be over
        trainer.pixels.copy_(waiting)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            waiting.copy_(host, non_blocking=True)  # the next batch travels while this one is computed
        trainer.step()

    return overlapping if overlap else one_after_the_other


def lying_clock(step: Step, device: torch.device, steps: int = 20) -> dict[str, float]:
    """Milliseconds a step by a clock that does not wait for the device, and by one that does."""
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
    """Time the ways by turns; return milliseconds a step, and how many times as fast as the plain step each is."""
    with Run.open(__name__, config, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "asynchrony compares within one process", distributed.world_size())
        device = run.device
        clock = lying_clock(Trainer(config, device, fused=False).step, device)
        rows = [(name, f"{value:.3f}") for name, value in clock.items()]
        print_table(["the clock", "ms a step"], rows, title=f"the same 20 steps on {device}")
        if device.type == "cpu":
            say("skipped", "streams, overlapping copies and CUDA graphs: a CPU has no queue to fill ahead")
        ways = cuda_ways(config, device) if device.type == "cuda" else cpu_ways(config, device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.compile warns of its own insides
            times = by_turns(ways, config.rounds, lambda way: seconds_a_call(way, config.seconds, device), quiet=True)
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
    """Print and draw what each change is worth."""
    from common.drawing import plots

    config = run.config
    rows = [(name.replace("_", " "), f"{median[name]:.3f}", f"{ratios[name]:.2f}") for name in median]
    title = f"{config.network}, batches of {config.batch_size}"
    print_table(["step", "ms", "times as fast"], rows, title=title)
    names = [name.replace("_", " ") for name in median]
    run.figure("asynchrony", plots.bars(names, list(ratios.values()), title=title, label="times as fast as plain"))
