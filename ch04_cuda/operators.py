"""Custom operators in Python, C++ and Triton compared with torch's own, forward and backward.

    python -m ch04_cuda.train operators
    python -m ch04_cuda.train operators --batch-size 4096 --classes 10000

`kernels/` defines a x + b, the Theano book's example for extending a library, and a fused softmax and cross-entropy.
Each is timed with its derivative, interleaved with torch's own functions, eager and compiled. Implementations that the
machine cannot run (no compiler, no GPU for Triton) are skipped with a message.

Dimensions: B batch, K classes.
"""

import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from ch04_cuda.kernels import cpp_kernels, python_kernels  # noqa: F401  # defines torch.ops.companion_python
from common import distributed
from common.benchmark import interleaved, median_ratio, seconds_per_call
from common.config import RunOptions, require, require_positive
from common.progress import print_table, say
from common.run import Run

A, B = 2.0, 3.0
"""Constants of a x + b."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    batch_size: int = 1_024
    """Rows of the logits; a x + b is computed on a tensor of the same size."""
    classes: int = 1_000
    """Columns of the logits."""
    compile: bool = True
    """Include torch.compile, which needs a C++ compiler and takes several seconds."""
    rounds: int = 7
    """Rounds of measurement after a warm-up; every variant is timed once in each."""
    seconds: float = 0.1
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "classes", "rounds", "seconds")


Function = Callable[..., Tensor]


def eager_axpb(x: Tensor, a: float, b: float) -> Tensor:
    """Compute a x + b with torch's operators."""
    return a * x + b


def eager_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K) logits, (B,) labels -> (B,) losses, with torch's own function"""
    return F.cross_entropy(logits, labels, reduction="none")


def why_no_cpp(device: torch.device) -> str | None:
    """Build the C++ operators; return a message if they cannot be built or cannot run on the device, else None."""
    if device.type != "cpu":
        return f"the kernels run on a CPU, not on {device}"
    if reason := cpp_kernels.why_absent():
        return reason
    say("building", "the C++ operators (first use only, about half a minute)")
    try:
        cpp_kernels.load()
    except RuntimeError as error:
        return str(error)
    return None


def why_no_triton(device: torch.device) -> str | None:
    """Return a message if the Triton operators cannot run on the device, else None."""
    if device.type != "cuda":
        return f"the kernels run on a GPU, not on {device}"
    return None if find_spec("triton") else "it is not installed"


def implementations(config: Config, device: torch.device) -> dict[str, tuple[Function, Function]]:
    """Return the implementations that this machine can run; print which are skipped and why."""
    found: dict[str, tuple[Function, Function]] = {"eager": (eager_axpb, eager_cross_entropy)}
    reason = cpp_kernels.no_compiler()
    if config.compile and reason is None:
        found["compiled"] = (torch.compile(eager_axpb), torch.compile(eager_cross_entropy))
    elif config.compile:
        say("skipped", f"torch.compile: {reason}")
    names = ["python"]
    if why := why_no_cpp(device):
        say("skipped", f"C++: {why}")
    else:
        names.append("cpp")
    if why := why_no_triton(device):
        say("skipped", f"Triton: {why}")
    else:
        from ch04_cuda.kernels import triton_kernels  # noqa: F401  # defines torch.ops.companion_triton

        names.append("triton")
    for name in names:
        operators = getattr(torch.ops, f"companion_{name}")
        found[name] = (operators.axpb, operators.cross_entropy)
    return found


def axpb_variant(function: Function, x: Tensor) -> Callable[[], object]:
    """Make a function that computes a x + b and its derivative."""

    def variant() -> None:
        torch.autograd.grad(function(x, A, B).sum(), x)

    return variant


def cross_entropy_variant(function: Function, logits: Tensor, labels: Tensor) -> Callable[[], object]:
    """Make a function that computes the mean cross-entropy and its derivative."""

    def variant() -> None:
        torch.autograd.grad(function(logits, labels).mean(), logits)

    return variant


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Time the implementations interleaved; return microseconds per forward and backward pass and ratios to eager."""
    with Run.open(__name__, config, arithmetic="fp32") as run:
        require(distributed.world_size() == 1, "operators compares within one process", distributed.world_size())
        device = run.device
        logits = torch.randn(config.batch_size, config.classes, device=device, requires_grad=True)
        labels = torch.randint(config.classes, (config.batch_size,), device=device)
        functions = implementations(config, device)
        found: dict[str, float] = {}
        rows = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.compile warns about its own internals
            variants = {f"axpb_{name}": axpb_variant(pair[0], logits) for name, pair in functions.items()}
            variants |= {
                f"cross_entropy_{n}": cross_entropy_variant(p[1], logits, labels) for n, p in functions.items()
            }
            times = interleaved(
                variants, config.rounds, lambda variant: seconds_per_call(variant, config.seconds, device), quiet=True
            )
        for name, values in times.items():
            eager = times[f"{name.rpartition('_')[0]}_eager"]
            ratio = median_ratio(eager, values)
            found |= {f"{name}_microseconds": 1e6 * statistics.median(values), f"{name}_ratio": ratio}
            rows.append((name.replace("_", " "), f"{1e6 * statistics.median(values):,.0f}", f"{ratio:.2f}"))
        title = f"forward and backward, {config.batch_size:,} x {config.classes:,} numbers"
        print_table(["operator", "microseconds", "ratio"], rows, title=title)
        report(run, times)
        return run.finish(run=found)


def report(run: Run, times: dict[str, list[float]]) -> None:
    """Draw the microseconds per forward and backward pass."""
    from common.drawing import plots

    names = [name.replace("_", " ") for name in times]
    values = [1e6 * statistics.median(times[name]) for name in times]
    run.figure("operators", plots.bars(names, values, title="forward and backward", label="microseconds"))
