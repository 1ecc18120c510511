"""The benchmark: its computations are correct, independently of the machine's speed."""

import json
from types import SimpleNamespace

import pytest
import torch

from ch03_autoencoder_rbm.digits import autoencoder, feedforward
from ch03_autoencoder_rbm.films import recommender
from common import benchmark
from common import device as devices
from common.benchmark import Workload


@pytest.fixture
def program(options):
    """A program whose step multiplies 64x32 by 32x16 and records the number of threads."""
    seen = []
    left, right = torch.randn(64, 32), torch.randn(32, 16)

    def workload(config, device):
        def step():
            seen.append((config.run.precision, torch.get_num_threads()))
            return left @ right

        return Workload(step, items=64, unit="rows")

    return SimpleNamespace(__name__="ch99_test.multiply", workload=workload, seen=seen)


@pytest.fixture
def config(options):
    return feedforward.Config(run=options)


def test_figures_are_computed_from_the_median(program, config):
    timings = benchmark.measure(program, config, rounds=3)
    assert timings[0].ratio == 1
    assert timings[0].variant == benchmark.Variant("multiply", "cpu", devices.ALL_THREADS, "fp32")
    for timing in timings:
        seconds = timing.milliseconds / 1e3
        assert timing.items_per_second == pytest.approx(64 / seconds)
        assert timing.gflops == pytest.approx(2 * 64 * 32 * 16 / seconds / 1e9)
        assert timing.ratio == pytest.approx(timing.items_per_second / timings[0].items_per_second)
        assert timing.unit == "rows"
        assert timing.spread >= 0


def test_variants_run_with_their_settings_and_interleaved(program, config):
    timings = benchmark.measure(program, config, rounds=2)
    wanted = {(timing.variant.precision, timing.variant.threads) for timing in timings}
    assert set(program.seen[len(timings) * 6 :]) == wanted
    changes = sum(a != b for a, b in zip(program.seen, program.seen[1:], strict=False))
    if len(timings) > 1:  # a machine with one core may have a single variant
        assert changes >= 3 * len(timings) - 1, "the variants are not interleaved"
    assert torch.get_num_threads() == 1, "the number of threads was not restored"


def test_a_precision_that_the_program_rejects_is_not_timed(program, options, monkeypatch):
    monkeypatch.setattr(devices, "has_native_bf16", lambda device: True)
    timings = benchmark.measure(program, recommender.Config(run=options), rounds=2)
    assert {timing.variant.precision for timing in timings} == {"fp32"}


def test_variants_are_interleaved_and_the_first_round_is_discarded(capsys):
    calls = []

    def speed(variant):
        calls.append(variant)
        return float(len(calls))

    assert benchmark.interleaved({"a": "A", "b": "B"}, 2, speed) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert calls == ["A", "B"] * 3
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["warm-up", "round", "round"]


def test_ratios_are_computed_within_rounds():
    assert benchmark.median_ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0
    with pytest.raises(ValueError, match="longer"):
        benchmark.median_ratio([1.0], [1.0, 2.0])


def test_a_rate_covers_the_minimum_duration(monkeypatch):
    clock = iter([0.0, 0.5, 10.0, 10.5, 20.0, 20.5])
    monkeypatch.setattr(devices.time, "perf_counter", lambda: next(clock))
    assert benchmark.rate(lambda: 3.0, 1.0, torch.device("cpu")) == 6.0
    calls = []
    assert benchmark.seconds_per_call(lambda: calls.append(1), 0.1, torch.device("cpu")) == pytest.approx(0.1)
    assert len(calls) == 5


def test_seconds_are_per_step(monkeypatch):
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(devices.time, "perf_counter", lambda: next(clock))
    assert benchmark._seconds(Workload(lambda: None, 1), torch.device("cpu"), steps=3) == 2.0


def test_spread_is_half_the_interquartile_range(program, config, monkeypatch):
    times = iter([0.01, 99.0, 3.0, 7.0, 1.0, 6.0, 2.0, 5.0, 4.0])  # warm-up, a discarded round, and seven
    monkeypatch.setattr(benchmark, "variants", lambda name: [benchmark.Variant(name, "cpu", 1, "fp32")])
    monkeypatch.setattr(benchmark, "_seconds", lambda *_, **__: next(times))
    (timing,) = benchmark.measure(program, config, rounds=7)
    assert timing.milliseconds == 4_000
    assert timing.spread == (6 - 2) / 2 / 4


@pytest.mark.parametrize("module", [feedforward, autoencoder])
def test_workload_is_the_programs_own_step(module, options):
    config = module.Config(batch_size=32, run=options)
    workload = module.workload(config, torch.device("cpu"))
    assert workload.items == 32
    first = float(workload.step())
    for _ in range(30):
        last = float(workload.step())
    assert last < first, "the step does not learn"


def test_flops_of_the_feedforward_step(options):
    config = feedforward.Config(batch_size=32, run=options)
    workload = feedforward.workload(config, torch.device("cpu"))
    with benchmark.FlopCounterMode(display=False) as counter:
        workload.step()
    forward = 2 * 32 * (784 * 300 + 300 * 100 + 100 * 10)
    backward_of_inputs = 2 * 32 * (300 * 100 + 100 * 10)  # the pixels need no gradient
    assert counter.get_total_flops() == 2 * forward + backward_of_inputs


@pytest.mark.slow
def test_benchmark_from_the_command_line(command, tmp_path, warm):
    done = command(
        "ch03_autoencoder_rbm.train", "feedforward", "--benchmark", "--batch-size", "16", "--out", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("ch03_autoencoder_rbm/benchmark/*/benchmark.json")
    record = json.loads(path.read_text())
    assert record["machine"]["cpu"] == devices.cpu_model()
    assert record["timings"][0]["variant"]["program"] == "feedforward"
    assert (path.parent / "benchmark.png").stat().st_size > 5_000
    for word in ("ms/step", "GFLOP/s", "ratio", "feedforward", "images"):
        assert word in done.stdout
    if not torch.cuda.is_available():
        assert "no GPU: only the CPU is timed" in done.stdout


@pytest.mark.gpu
def test_gpu_is_compared_with_the_cpu(config):
    timings = benchmark.measure(feedforward, config, rounds=3)
    assert {"cpu", "cuda:0"} == {timing.variant.device for timing in timings}
    assert all((timing.peak_megabytes or 0) > 0 for timing in timings if timing.variant.device == "cuda:0")
