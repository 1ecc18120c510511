"""Devices, precision, seeds and time."""

import platform
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from common import device as devices
from conftest import ROOT


def test_cpu_is_always_available():
    assert devices.present_devices()[0] == "cpu"
    assert devices.resolve_device("cpu") == torch.device("cpu")


def fake_accelerator(monkeypatch, kind: str, count: int) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "rank", "device"),
    [
        ("auto", "0", "cuda:0"),
        ("cuda", "0", "cuda:0"),
        ("cuda", "1", "cuda:1"),
        ("cuda:1", "0", "cuda:1"),
        ("auto", "1", "cuda:1"),
        ("auto", "3", "cuda:1"),
        ("cpu", "1", "cpu"),
    ],
)
def test_resolving_with_two_gpus(monkeypatch, name, rank, device):
    fake_accelerator(monkeypatch, "cuda", 2)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert devices.resolve_device(name) == torch.device(device)


def test_resolving_on_a_mac(monkeypatch):
    fake_accelerator(monkeypatch, "mps", 1)
    assert devices.resolve_device("auto") == torch.device("mps")
    with pytest.raises(ValueError, match="--device cuda: there is no such device here; present: cpu, mps"):
        devices.resolve_device("cuda")


def test_precision(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(devices, "has_bf16_kernels", lambda device: True)
    for fast, auto in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(devices, "has_fast_bf16", lambda device, fast=fast: fast)
        assert devices.resolve_precision("auto", cpu) == auto
        assert devices.resolve_precision("fp32", cpu) == "fp32"
        assert devices.resolve_precision("bf16", cpu) == "bf16"


@pytest.mark.parametrize(
    ("model", "capabilities", "native", "fast"),
    [
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16": True, "amx_bf16": True}, True, True),
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16": True, "amx_bf16": False}, True, False),
        ("AMD EPYC 9R14", {"avx512_bf16": True}, True, True),
        ("AMD EPYC 7763", {"avx512_bf16": False}, False, False),
        ("Neoverse-V1", {"bf16": True}, True, True),
    ],
)
def test_bfloat16_is_chosen_if_it_is_faster(monkeypatch, model, capabilities, native, fast):
    monkeypatch.setattr(devices, "cpu_model", lambda: model)
    monkeypatch.setattr(devices, "has_bf16_kernels", lambda device: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert devices.has_native_bf16(torch.device("cpu")) == native
    assert devices.has_fast_bf16(torch.device("cpu")) == fast


def test_bfloat16_falls_back_to_float32_if_operations_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(devices, "has_bf16_kernels", lambda device: device.type != "cpu")
    assert not devices.has_native_bf16(torch.device("cpu"))
    assert devices.resolve_precision("bf16", torch.device("cpu")) == "fp32"
    assert capsys.readouterr().out.startswith("notice   --precision bf16: PyTorch lacks bfloat16 operations")
    assert devices.resolve_precision("bf16", torch.device("cuda")) == "bf16"
    assert capsys.readouterr().out == ""


def test_the_check_for_bfloat16_kernels_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    devices.has_bf16_kernels.__wrapped__(torch.device("cpu"))
    assert torch.rand(()) == expected


@pytest.mark.slow
def test_bfloat16_is_never_an_error_on_an_old_processor(command, tmp_path):
    """Make the libraries treat this processor as one without AVX."""
    old = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    arguments = ["forecast", "--epochs", "1", "--limit", "300", "--precision", "bf16", "--out", str(tmp_path)]
    done = command("ch05_rnn.train", *arguments, **old)
    assert done.returncode == 0, done.stderr


def test_the_seed_sets_every_generator():
    def draw():
        return random.random(), np.random.random(), float(torch.rand(()))

    devices.seed_everything(5)
    first = draw()
    devices.seed_everything(5)
    assert draw() == first
    devices.seed_everything(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_threads_are_set_and_restored():
    devices.set_threads(1)
    assert torch.get_num_threads() == 1
    devices.set_threads(0)
    assert torch.get_num_threads() == devices.ALL_THREADS


def test_subnormal_numbers_are_flushed_to_zero():
    # in a process of its own, because onnxruntime, for example, resets the flag of the calling thread
    script = "import torch; from common import device; device.set_threads(0); print(float(torch.tensor(1e-38) * 1e-2))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0.0\n"


def test_timer_measures_the_block():
    with devices.Timer(torch.device("cpu")) as timer:
        time.sleep(0.02)
    assert 0.02 <= timer.seconds < 2


def test_timer_waits_for_the_device_before_and_after(monkeypatch):
    events = []
    monkeypatch.setattr(devices, "synchronise", lambda device: events.append("wait"))
    with devices.Timer(torch.device("cpu")):
        events.append("work")
    assert events == ["wait", "work", "wait"]


def test_descriptions_name_what_can_change_a_result():
    assert devices.describe_device(torch.device("cpu")).startswith(f"cpu: {devices.cpu_model()}, ")
    assert devices.versions()["torch"] == torch.__version__ or torch.__version__.startswith(devices.versions()["torch"])
    assert devices.describe_machine()["cpu"]


@pytest.mark.gpu
def test_gpu_is_found_and_timed():
    device = devices.resolve_device("auto")
    assert device.type == "cuda"
    matrix = torch.randn(4096, 4096, device=device)
    with devices.Timer(device) as timer:
        matrix @ matrix
    assert timer.seconds > 1e-4, "the timer did not wait for the GPU"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_reused():
    """A new page from the kernel costs a page fault; 64 MB are 16,384 pages."""
    import resource

    def allocate() -> None:
        torch.empty(64 << 20, dtype=torch.uint8).fill_(1)

    for _ in range(20):  # the first few blocks fragment the memory and cannot be reused
        allocate()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        allocate()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5 * 16_384 / 10
