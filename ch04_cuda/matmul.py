"""Roofline of this machine: peak arithmetic rate, memory bandwidth, and the time of a call.

    python -m ch04_cuda.train matmul
    python -m ch04_cuda.train matmul --sizes 256 1024 4096

The peak rate of a processor and its memory bandwidth bound the speed of a training step. With the arithmetic intensity
I of the step, in operations per byte moved, the roofline is (Williams, Waterman & Patterson 2009)

    attainable operations per second = min(peak rate, I x bandwidth)

The peak rate is that of the fastest matrix product, for each precision; the bandwidth is that of a copy of 64 MiB. The
points are training steps of this chapter's networks. Their memory traffic is counted as if each operation read its
inputs from memory and wrote its outputs back. Data in caches are counted too, so a point can lie above the slope.

Dimensions: N rows and columns of a matrix, B batch.
"""

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ch04_cuda.networks import NETWORKS, WIDTHS, train_step
from common import distributed
from common.benchmark import interleaved, rate
from common.config import RunOptions, require, require_positive
from common.device import has_native_bf16
from common.progress import print_table, say
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CALLS = 1_000
"""Number of calls per measurement, as a single call is too short to time."""

COPIED = 64 << 20
"""Size in bytes of the copy that measures the bandwidth."""


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    """Rows and columns of the square matrices to multiply."""
    batch_size: int = 256
    """Batch size of the training steps in images."""
    rounds: int = 5
    """Rounds of measurement after a warm-up; every variant is timed once in each."""
    seconds: float = 0.05
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "sizes", "batch_size", "rounds", "seconds")
        require(len(self.sizes) > 0, "--sizes needs at least one number", "none")


Variant = Callable[[], float]
"""Function that does some work and returns its amount, in billions of operations or bytes, steps or calls."""


def precisions(device: torch.device) -> dict[str, torch.dtype]:
    """Return the number formats with native arithmetic on a device."""
    found = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if not has_native_bf16(device):
        say("skipped", f"bf16: {device} has no native bfloat16 arithmetic")
        del found["bf16"]
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    if device.type == "cpu" and not any(capabilities.get(name) for name in ("avx512_fp16", "amx_fp16", "fp16_arith")):
        say("skipped", "fp16: this processor has no native float16 arithmetic")
        del found["fp16"]
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return {"fp32": found.pop("fp32"), "tf32": torch.float32, **found}
    return found


def multiply(size: int, precision: str, dtype: torch.dtype, device: torch.device) -> Variant:
    """Make a function that multiplies two (N, N) matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    product = torch.empty_like(a)

    def variant() -> float:
        # tf32: products of float32 numbers rounded to ten bits of mantissa
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.mm(a, b, out=product)
        torch.backends.cuda.matmul.allow_tf32 = False
        return 2 * size**3 / 1e9

    return variant


def copy(source: Tensor, target: Tensor, *, directions: int, queued: int = 1) -> Variant:
    """Make a function that copies a tensor, `queued` times without synchronisation.

    A copy within a device has two directions, read and write; a transfer has one.
    """

    def variant() -> float:
        for _ in range(queued):
            target.copy_(source, non_blocking=queued > 1)
        return queued * directions * source.nbytes / 1e9

    return variant


def memory_variants(device: torch.device) -> dict[str, Variant]:
    """Make the variants that copy within the device, and to and from a GPU."""
    here = torch.empty(COPIED, dtype=torch.uint8, device=device)
    variants = {"copy": copy(here, torch.empty_like(here), directions=2)}
    if device.type != "cuda":
        say("skipped", "transfers between host and GPU: they need a CUDA device")
        return variants
    host = torch.empty(COPIED, dtype=torch.uint8)
    pinned = host.pin_memory()
    return variants | {
        "to_device": copy(host, here, directions=1),
        "to_device_pinned": copy(pinned, here, directions=1),
        "to_device_async": copy(pinned, here, directions=1, queued=8),
        "from_device": copy(here, host, directions=1),
        "from_device_pinned": copy(here, pinned, directions=1),
    }


def call_variants(device: torch.device) -> dict[str, Variant]:
    """Make the variants that call operations on a single number, to time the calls."""
    x, w = torch.ones(1, device=device), torch.ones(1, device=device, requires_grad=True)

    def add() -> float:
        for _ in range(CALLS):
            torch.add(x, x)
        return CALLS

    def add_recorded() -> float:
        for _ in range(CALLS):
            torch.add(x, w)
        return CALLS

    def backward() -> float:
        for _ in range(CALLS // 10):
            (x * w).sum().backward()
        return CALLS // 10

    return {"add": add, "add_recorded": add_recorded, "multiply_sum_backward": backward}


class Traffic(TorchDispatchMode):
    """Count the bytes that operations read and write, ignoring caches; views count as zero."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


@dataclass(frozen=True)
class Step:
    """Training step with its number of operations and its memory traffic."""

    variant: Variant
    gigaflops: float
    """Billion floating-point operations, in matrix products and convolutions."""
    gigabytes: float
    """Memory traffic in billions of bytes."""

    @property
    def intensity(self) -> float:
        """Arithmetic intensity in operations per byte."""
        return self.gigaflops / self.gigabytes


def training_step(network: str, config: Config, device: torch.device, *, bf16: bool) -> Step:
    """Make the training step of a network on random images; count its operations and bytes."""
    model = NETWORKS[network](WIDTHS[network]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    pixels = torch.rand(config.batch_size, 1, 28, 28, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)

    def take() -> Tensor:
        return train_step(model, optimizer, pixels, labels, bf16=bf16)

    take()  # the optimizer allocates its velocities
    # Disable oneDNN and cuDNN: they run a recurrent layer as one call, whose products are not counted.
    with (
        warnings.catch_warnings(action="ignore"),  # oneDNN warns about Intel GPUs
        torch.backends.mkldnn.flags(enabled=False),
        torch.backends.cudnn.flags(enabled=False),
    ):
        with FlopCounterMode(display=False) as counter:
            take()
        with Traffic() as traffic:
            take()

    def variant() -> float:
        take()
        return 1

    return Step(variant, counter.get_total_flops() / 1e9, traffic.bytes / 1e9)


def measure(variants: Mapping[str, Variant], config: Config, device: torch.device) -> dict[str, float]:
    """Measure the work per second of each variant: the median over interleaved rounds."""
    rates = interleaved(variants, config.rounds, lambda variant: rate(variant, config.seconds, device), quiet=True)
    return {name: statistics.median(values) for name, values in rates.items()}


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Measure matrix products, copies, calls and training steps; return peaks, bandwidths, times and rates."""
    with Run.open(__name__, config, arithmetic="every precision") as run:
        require(distributed.world_size() == 1, "matmul measures one process", distributed.world_size())
        device = run.device
        formats = precisions(device)
        speeds = {
            size: measure(
                {name: multiply(size, name, dtype, device) for name, dtype in formats.items()}, config, device
            )
            for size in config.sizes
        }
        peaks = {name: max(speed[name] for speed in speeds.values()) for name in formats}
        bandwidth = measure(memory_variants(device), config, device)
        calls = measure(call_variants(device), config, device)
        steps = {
            f"{network}_{name}": training_step(network, config, device, bf16=name == "bf16")
            for network in NETWORKS
            for name in formats
            if name in ("fp32", "bf16")
        }
        taken = measure({name: step.variant for name, step in steps.items()}, config, device)
        reached = {name: taken[name] * step.gigaflops for name, step in steps.items()}
        print_tables(speeds, bandwidth, calls, steps, reached)
        run.figure("roofline", draw(peaks, bandwidth["copy"], steps, reached))
        return run.finish(
            run={
                **{f"{name}_peak_gflops": value for name, value in peaks.items()},
                **{f"{name}_gb_per_second": value for name, value in bandwidth.items()},
                **{f"{name}_microseconds": 1e6 / value for name, value in calls.items()},
                **{f"{name}_gflops": value for name, value in reached.items()},
                **{f"{name}_intensity": step.intensity for name, step in steps.items()},
            }
        )


def print_tables(
    speeds: dict[int, dict[str, float]],
    bandwidth: dict[str, float],
    calls: dict[str, float],
    steps: dict[str, Step],
    reached: dict[str, float],
) -> None:
    """Print the measurements as tables."""
    formats = list(next(iter(speeds.values())))
    rows: Sequence[Sequence[object]] = [
        (size, *(f"{speed[name]:,.1f}" for name in formats)) for size, speed in speeds.items()
    ]
    print_table(["N", *formats], rows, title="N x N matrix products, GFLOP/s")
    rows = [(name.replace("_", " "), f"{value:.1f}") for name, value in bandwidth.items()]
    print_table(["memory", "GB/s"], rows)
    rows = [(name.replace("_", " "), f"{1e6 / value:.2f}") for name, value in calls.items()]
    print_table(["call on one number", "microseconds"], rows)
    rows = [(name.replace("_", ", "), f"{step.intensity:.1f}", f"{reached[name]:,.1f}") for name, step in steps.items()]
    print_table(["training step", "operations/byte", "GFLOP/s"], rows)


def draw(peaks: dict[str, float], bandwidth: float, steps: dict[str, Step], reached: dict[str, float]) -> "Figure":
    """Draw the roofline of each precision, and the training steps."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing.plots import LOOK

    intensities = [step.intensity for step in steps.values()]
    left, right = min([0.5, *intensities]) / 2, 8 * max([*peaks.values()]) / bandwidth
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.2, 4.4))
        axes = figure.subplots()
        for name, peak in peaks.items():
            corner = peak / bandwidth  # intensity at which slope and peak meet
            axes.plot([left, corner, right], [left * bandwidth, peak, peak], label=f"{name}: {peak:,.0f} GFLOP/s")
        markers = dict(zip(NETWORKS, "osD", strict=True))
        for name, step in steps.items():
            network, precision = name.split("_")
            color = axes.lines[list(peaks).index(precision)].get_color()
            label = network if precision == "fp32" else None
            axes.plot(step.intensity, reached[name], markers[network], color=color, markeredgecolor="black")
            if label:
                axes.plot(
                    [], [], markers[network], color="white", markeredgecolor="black", label=f"{label}, training step"
                )
        axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity, operations per byte", ylabel="GFLOP/s")
        axes.set_title(f"roofline: peak rates, and memory bandwidth {bandwidth:,.0f} GB/s (slope)")
        axes.legend(loc="best", fontsize="small")
    return figure
