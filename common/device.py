"""Choose device and precision, seed the random generators, time code on a device, and describe the machine."""

import contextlib
import ctypes
import functools
import os
import platform
import random
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from common.progress import say

Precision = Literal["fp32", "bf16"]

ALL_THREADS = torch.get_num_threads()
"""Torch's default number of threads on this machine."""


# Flush numbers below 1e-38 to zero: a converged network has many of them, and each takes the processor a hundred times
# longer. Threads inherit the setting when they start, so it is set before torch starts any.
torch.set_flush_denormal(True)


def keep_freed_memory() -> None:
    """Make the C library reuse large freed blocks instead of returning them to the system at once.

    The activations of a convolutional network exceed 32 MiB, above which glibc requests every block from the kernel.
    The kernel zeroes each page on first access, which takes a considerable part of a training step. Reuse increases the
    peak memory slightly. Does nothing if the C library has no mallopt.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 64 << 20)


keep_freed_memory()


def present_devices() -> list[str]:
    """List the devices of this machine: `cpu` first, then the accelerators."""
    if not torch.accelerator.is_available():
        return ["cpu"]
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    if accelerator.type == "mps":
        return ["cpu", "mps"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]


def resolve_device(name: str) -> torch.device:
    """Convert `auto`, `cpu`, `cuda`, `cuda:1` or `mps` to an available device.

    `auto` is the accelerator, if there is one. Under torchrun each process uses the accelerator of its local rank.
    Raises ValueError, listing the available devices, for any other name.
    """
    present = present_devices()
    local, processes = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    candidates = present[1:] or ["cpu"] if name == "auto" else [d for d in present if name in (d, d.split(":")[0])]
    if not candidates:
        raise ValueError(f"--device {name}: no such device found (available: {', '.join(present)})")
    if candidates != ["cpu"] and processes > len(candidates):
        raise ValueError(
            f"--device {name}: {processes} processes cannot share {len(candidates)} of {', '.join(present)}"
        )
    return torch.device(candidates[local % len(candidates)])


@functools.cache
def has_bf16_kernels(device: torch.device) -> bool:
    """Return whether torch has every bfloat16 operation that the chapters need on a device.

    oneDNN has no bfloat16 LSTM for processors without AVX-512 and raises a RuntimeError instead of emulating it.
    """
    if device.type != "cpu":
        return True
    with torch.random.fork_rng(devices=[]):
        lstm = nn.LSTM(16, 16)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(torch.zeros(2, 2, 16))
    except RuntimeError:
        return False
    return True


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16 natively, without emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) and has_bf16_kernels(device)
    return False


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether training in bfloat16 is expected to be faster than in float32.

    On an Intel processor with AVX-512 bfloat16 but without AMX, bfloat16 was slower for the MLP, CNN and LSTM of
    chapter 4, the language model (by a factor of 1.6), the speedrun network of chapter 6 and the VAE. On an AMD Zen 4,
    with the same instructions, it was faster for chapter 6's CNN.
    """
    if device.type == "cpu" and "Intel" in cpu_model() and not torch.cpu.get_capabilities().get("amx_bf16"):
        return False
    return has_native_bf16(device)


def resolve_precision(name: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Convert `auto` to bf16 if it is expected to be faster, else to fp32.

    `bf16` becomes fp32, with a printed notice, on a processor for which the CPU library lacks bfloat16 operations.
    """
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if name == "bf16" and not has_bf16_kernels(device):
        say("notice", "--precision bf16: PyTorch lacks bfloat16 operations for this processor; float32 is used instead")
        return "fp32"
    return name


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on Apple's GPUs, which do not support float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_threads(threads: int) -> None:
    """Set the number of CPU threads that torch uses; 0 means all."""
    torch.set_num_threads(threads or ALL_THREADS)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Timer:
    """Time a block on a device, synchronised before and after: `with Timer(device) as timer: ...`."""

    seconds = 0.0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> "Timer":
        synchronise(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        synchronise(self.device)
        self.seconds = time.perf_counter() - self._start


def cpu_model() -> str:
    """Return the model name of the processor."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def describe_device(device: torch.device) -> str:
    """Describe a device, as `cpu: AMD EPYC, 2 threads` or `cuda:0: NVIDIA H100`."""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu: {cpu_model()}, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {cpu_model()}"


def describe_machine() -> dict[str, str | int]:
    """Describe processor, cores, system and GPU of this machine, for comparisons between machines."""
    machine: dict[str, str | int] = {"cpu": cpu_model(), "cores": os.cpu_count() or 1, "system": platform.platform()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    elif "mps" in present_devices():
        machine["gpu"] = f"{cpu_model()} (mps)"
    return machine


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of the packages that can change a result, and of further installed packages."""
    found = {"python": platform.python_version()}
    found |= {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
