"""Measurement programs: counts, ratios and estimates are correct; the programs run on any machine."""

import contextlib
import json
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from ch04_cuda import asynchrony, compare, crossover, data_parallel, input_pipeline, matmul
from ch04_cuda.networks import NETWORKS, WIDTHS, scaled, train_step
from common.benchmark import Variant
from common.data.images.loading import load_images
from conftest import train_until


@pytest.fixture(scope="module")
def few():
    return load_images("digits", limit=256)


def test_networks_overfit_a_batch():
    torch.manual_seed(0)
    images, labels = torch.randint(256, (16, 1, 28, 28), dtype=torch.uint8), torch.randint(10, (16,))
    for name, network in NETWORKS.items():
        model = network(WIDTHS[name] // 4)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        losses = []
        train_until(
            lambda losses=losses: losses[-1] < 0.1 * losses[0],
            lambda losses=losses, model=model, optimizer=optimizer: losses.append(
                float(train_step(model, optimizer, scaled(images), labels))
            ),
            at_most=1_000,
        )


# The roofline.


def test_traffic_counts_bytes_read_and_written():
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    with matmul.Traffic() as traffic:
        a @ b
    assert traffic.bytes == 4 * (10 * 20 + 20 * 30 + 10 * 30)
    with matmul.Traffic() as traffic:
        a.view(200).view(20, 10)
    assert traffic.bytes == 0, "a view moves no bytes"


def test_products_of_a_recurrent_layer_are_counted(options):
    config = matmul.Config(batch_size=4, run=options)
    step = matmul.training_step("lstm", config, torch.device("cpu"), bf16=False)
    forward = 2 * 4 * 28 * (28 + 128) * 4 * 128  # 2 B steps (inputs + states) (gates x units)
    assert step.gigaflops > 2 * forward / 1e9


@pytest.mark.figures
def test_matmul_measures_and_draws(options):
    config = matmul.Config(sizes=(16, 32), batch_size=4, rounds=1, seconds=0.001, run=options)
    found = matmul.train(config)
    assert found["fp32_peak_gflops"] > 0
    assert found["copy_gb_per_second"] > 0
    assert found["add_recorded_microseconds"] > 0 and found["add_microseconds"] > 0
    (folder,) = (options.out / "ch04_cuda" / "matmul").iterdir()
    assert (folder / "roofline.png").stat().st_size > 5_000


# Input pipelines.


def test_loader_and_resident_data_give_the_same_images(few, options):
    config = input_pipeline.Config(batch_size=len(few.train), run=options)
    device = torch.device("cpu")
    pixels, labels = next(
        input_pipeline.from_loader(input_pipeline.per_sample_dataset(few.train), config.batch_size, device)
    )
    ours, our_labels = next(input_pipeline.resident(few.train, config.batch_size, device))
    assert labels.shape == our_labels.shape == (len(few.train),)
    theirs = (pixels * input_pipeline.STD + input_pipeline.MEAN) * 255
    order, our_order = theirs.sum((1, 2, 3)).argsort(), ours.sum((1, 2, 3)).argsort()
    torch.testing.assert_close(theirs[order].sum((1, 2, 3)), 128 * ours[our_order].sum((1, 2, 3)), rtol=1e-4, atol=1)
    assert torch.equal(labels.bincount(), our_labels.bincount())


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # if another test has loaded JAX
@pytest.mark.parametrize(("network", "workers"), [("mlp", 1), ("cnn", 0), ("lstm", 0)])
def test_input_pipelines_are_compared(few, options, network, workers):
    settings = {"network": network, "batch_size": 64, "loader_batch_size": 16, "workers": workers}
    config = input_pipeline.Config(**settings, rounds=1, seconds=0.01, run=options)
    found = input_pipeline.train(config, few)
    assert ("workers_ratio" in found) == (workers > 0)
    for name in ("tensors", "resident", *["workers"] * workers):
        ratio = found[f"{name}_images_per_second"] / found["dataloader_images_per_second"]
        assert found[f"{name}_ratio"] == pytest.approx(ratio), "ratio of the only round"


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # if another test has loaded JAX
def test_loader_batch_size_applies_only_to_the_loaders(few, options, monkeypatch):
    sizes = {}

    def trainer(stream, *_, fused=True, bf16=False, **__):
        sizes[fused, bf16] = len(next(stream)[1])
        return lambda: 1.0

    monkeypatch.setattr(input_pipeline, "trainer", trainer)
    config = input_pipeline.Config(batch_size=64, loader_batch_size=16, workers=1, rounds=1, seconds=0.01, run=options)
    input_pipeline.train(config, few)
    assert sizes[False, False] == 16
    assert sizes[True, False] == 64


def test_samples_are_normalised(few):
    sample, label = input_pipeline.per_sample_dataset(few.train)[5]
    expected = (few.train.pixels[5] / 255 - input_pipeline.MEAN) / input_pipeline.STD
    torch.testing.assert_close(sample, expected)
    assert label == few.train.labels[5]


# compare.


def test_variants_have_the_same_initial_weights_and_batches(few, options):
    config = compare.Config(batch_size=64, run=options)
    variants = [Variant("mlp", "cpu", threads, "fp32") for threads in (1, 2)]
    trainings = [compare.Training("mlp", variant, few, config) for variant in variants]
    before = [parameter.clone() for parameter in trainings[0].model.parameters()]
    for training in trainings:
        assert training.train_epoch() > 0
    one, two = ([*training.model.parameters()] for training in trainings)
    for ours, theirs, start in zip(one, two, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert not torch.equal(ours, start)


def test_compare_computes_medians_and_ratios_of_epoch_seconds(few, options, monkeypatch):
    variants = [Variant("mlp", "cpu", 1, "fp32"), Variant("mlp", "cpu", 2, "fp32")]
    monkeypatch.setattr(compare, "variants", lambda _: variants)
    monkeypatch.setattr(compare, "interleaved", lambda *_: {"cpu1_fp32": [2.0, 4.0, 6.0], "cpu2_fp32": [1.0, 1.0, 2.0]})
    monkeypatch.setattr(compare, "accuracy", lambda _, images, labels: (images is few.test.pixels) * len(labels))
    found = compare.train(compare.Config(networks=("mlp",), run=options), few)
    assert found["mlp_cpu1_fp32_test_accuracy"] == len(few.test)
    assert found["mlp_cpu1_fp32_ratio"] == 1
    assert found["mlp_cpu2_fp32_ratio"] == 3, "median of 2, 4 and 3"
    assert found["mlp_cpu1_fp32_epoch_seconds"] == 4
    assert found["mlp_cpu1_fp32_images_per_second"] == len(few.train) / 4


def test_gpu_records_are_printed_as_recorded(few, options, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    compare.show_record()
    assert "no recorded results" in capsys.readouterr().out
    record = {
        "device": "cuda:0: NVIDIA H100, bf16 (native)",
        "versions": {"torch": "2.14.1"},
        "date": "2026-11-21",
        "metrics": {"mlp_cuda0_bf16_epoch_seconds": {"mean": 0.125, "sd": 0.0, "values": [0.125]}},
    }
    (tmp_path / "gpu").mkdir()
    (tmp_path / f"{compare.RECORD}.json").write_text(json.dumps(record))
    compare.show_record()
    output = capsys.readouterr().out
    assert "on cuda:0: NVIDIA H100, bf16 (native), torch 2.14.1, 2026-11-21; not measured here" in output
    assert "mlp, cuda0, bf16: 0.12 s per epoch" in output or "mlp, cuda0, bf16: 0.13 s per epoch" in output


# Crossover and estimate.


def test_crossover_compares_widths_and_batch_sizes(options, few):
    config = crossover.Config(networks=("mlp",), batch_sizes=(4, 8), rounds=1, run=options)
    found = crossover.train(config, few)
    assert len([name for name in found if name.endswith("_ratio")]) == 3 * 2
    (folder,) = (options.out / "ch04_cuda" / "crossover").iterdir()
    assert {"crossover.png", "crossover_mlp.png"} <= {path.name for path in folder.iterdir()}


def test_break_even_is_the_smallest_batch_size_with_only_faster_larger_ones():
    ratios = torch.tensor([[0.5, 1.5, 1.2, 1.1], [0.91, 1.2, 1.53, 0.82], [0.5, 1.2, 0.9, 1.1], [1.1, 1.2, 1.3, 1.4]])
    descriptions = crossover.break_even(ratios, [75, 128, 300, 512], (8, 32, 128, 512)).split(", ")
    assert descriptions == [
        "batch size 32 at width 75",
        "no batch size at width 128",
        "batch size 512 at width 300",
        "batch size 8 at width 512",
    ]
    assert crossover.break_even(torch.tensor([[1.5, 0.5, 1.2]]), [75], (512, 8, 32)) == "batch size 32 at width 75"


def test_overhead_and_time_per_image_are_fitted_to_two_timings(monkeypatch, options):
    seconds = {"32": [0.0005 + 32 * 2e-5] * 3, "256": [0.0005 + 256 * 2e-5] * 3}
    monkeypatch.setattr(crossover, "interleaved", lambda *_, **__: seconds)
    place = crossover.Place("one thread", torch.device("cpu"), 1)
    overhead, image = crossover.cost("mlp", crossover.Config(run=options), place, bf16=False)
    assert overhead == pytest.approx(0.0005)
    assert image == pytest.approx(2e-5)


def test_estimate_of_an_epoch_and_its_error(options, few, monkeypatch):
    monkeypatch.setattr(crossover, "cost", lambda *_, **__: (0.5, 0.01))
    monkeypatch.setattr(crossover, "epoch_seconds", lambda *_, **__: 4.0)
    config = crossover.Config(networks=("mlp",), estimate=True, batch_size=100, run=options)
    found = crossover.train(config, few)
    assert len(few.train) == 256, "three steps, the last one with fewer images"
    assert found["mlp_estimated_seconds"] == pytest.approx(3 * 0.5 + 256 * 0.01)
    assert found["mlp_measured_seconds"] == 4
    assert found["mlp_estimate_error"] == pytest.approx(4.06 / 4 - 1)


def test_the_measured_epoch_uses_every_image_once(options, few, monkeypatch):
    sizes = []
    monkeypatch.setattr(crossover, "train_step", lambda *arguments, **_: sizes.append(len(arguments[3])))
    place = crossover.Place("one thread", torch.device("cpu"), 1)
    config = crossover.Config(batch_size=100, run=options)
    assert crossover.epoch_seconds("mlp", config, few, place, bf16=False) > 0
    assert sum(sizes) == len(few.train)


# asynchrony and data_parallel.


def test_changes_are_compared_with_the_plain_step(options, capsys, monkeypatch):
    seconds = {"plain": [0.004, 0.006, 0.008], "fused": [0.002, 0.002, 0.002], "one_thread": [0.008, 0.012, 0.008]}
    monkeypatch.setattr(asynchrony, "interleaved", lambda *_, **__: seconds)
    found = asynchrony.train(asynchrony.Config(batch_size=8, compile=False, run=options))
    assert (found["plain_ratio"], found["fused_ratio"], found["one_thread_ratio"]) == (1, 3, 0.5)
    assert (found["plain_milliseconds"], found["fused_milliseconds"]) == (6, 2)
    assert "they need a CUDA device" in capsys.readouterr().out


def test_only_the_synchronised_timing_waits_for_the_device(monkeypatch):
    monkeypatch.setattr(asynchrony.devices, "synchronise", lambda _: time.sleep(0.1))
    clock = asynchrony.time_steps(lambda: None, torch.device("cpu"), steps=2)
    assert clock["unsynchronised"] < 50 <= clock["synchronised"], "0.1 s for 2 steps"


def test_each_variant_has_one_change(monkeypatch):
    recorded = []

    def step(model, optimizer, pixels, labels, *, bf16=False):
        (group,) = optimizer.param_groups
        recorded.append(
            {
                "fused": bool(group["fused"]),
                "foreach": group["foreach"],
                "threads": torch.get_num_threads(),
                "channels_last": not model[3].weight.is_contiguous(),
                "bf16": bf16,
            }
        )

    monkeypatch.setattr(asynchrony, "train_step", step)
    monkeypatch.setattr(asynchrony.devices, "ALL_THREADS", 2)
    monkeypatch.setattr(asynchrony.devices, "has_native_bf16", lambda _: True)
    threads = torch.get_num_threads()
    config = asynchrony.Config(batch_size=8, compile=False)
    try:
        torch.set_num_threads(2)
        variants = asynchrony.cpu_variants(config, torch.device("cpu"))
        for variant in variants.values():
            variant()
        assert torch.get_num_threads() == 2, "the number of threads was not restored"
    finally:
        torch.set_num_threads(threads)
    usual = {"fused": True, "foreach": None, "threads": 2, "channels_last": False, "bf16": False}
    assert dict(zip(variants, recorded, strict=True)) == {
        "plain": usual | {"fused": False, "foreach": False},
        "fused": usual,
        "one_thread": usual | {"threads": 1},
        "channels_last": usual | {"channels_last": True},
        "bf16": usual | {"bf16": True},
    }


def test_the_first_overlapping_step_has_a_complete_batch(monkeypatch):
    """Simulated on a CPU: streams do nothing, and uninitialised memory is NaN."""
    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch, "empty_like", lambda x: torch.full_like(x, torch.nan))
    trainer = asynchrony.Trainer(asynchrony.Config(network="mlp", batch_size=4), torch.device("cpu"))
    batches = []
    monkeypatch.setattr(trainer, "step", lambda: batches.append(trainer.pixels.clone()))
    step = asynchrony.copying_step(trainer, overlap=True)
    before = trainer.pixels.clone()
    step()
    step()
    assert not torch.equal(batches[0], before)
    assert torch.equal(batches[0], batches[1]), "the host batch is always the same"


@pytest.mark.gpu
def test_cuda_graph_steps_equal_eager_steps():
    config = asynchrony.Config(network="mlp", batch_size=64)
    device = torch.device("cuda")
    torch.manual_seed(0)
    eager = asynchrony.Trainer(config, device, capturable=True)
    torch.manual_seed(0)
    recorded = asynchrony.Trainer(config, device, capturable=True)
    replay = asynchrony.graph_step(recorded)
    for _ in range(3):
        eager.step()
    for _ in range(5):
        eager.step()
        replay()
    for ours, theirs in zip(recorded.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_whole_batch(options, warm):
    config = data_parallel.Config(network="mlp", batch_size=64, processes=2, steps=3, run=options)
    found = data_parallel.train(config)
    assert found["ring_sent_mb_1"] == found["formula_sent_mb_1"] == 0
    assert found["formula_sent_mb_2"] == pytest.approx(4e-6 * 266_610, rel=1e-6)  # half of the gradient, twice
    assert found["ring_sent_mb_2"] == pytest.approx(found["formula_sent_mb_2"], rel=1e-6)
    assert found["gradient_difference_2"] < 1e-4
    assert found["ring_gradient_difference_2"] < 1e-4
    assert found["efficiency_2"] == pytest.approx(found["images_per_second_2"] / found["images_per_second_1"] / 2)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_ring_average_and_bytes_sent(count):
    """Simulated with threads; 7 numbers cannot be split into equal parts."""
    vectors = torch.arange(7.0) + 10 * torch.arange(count)[:, None]
    links = [queue.Queue() for _ in range(count)]

    def process(rank):
        traffic = []

        def exchange(outgoing, incoming):
            traffic.append(outgoing.nbytes)
            links[(rank + 1) % count].put(outgoing.clone())
            incoming.copy_(links[rank].get(timeout=10))

        average, sent = data_parallel.ring_average(vectors[rank], count, rank, exchange)
        assert sent == sum(traffic)
        return average, sent

    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(process, range(count)))
    for average, _ in found:
        torch.testing.assert_close(average, vectors.mean(0))
    assert sum(sent for _, sent in found) == 2 * (count - 1) * vectors[0].nbytes


def test_efficiency_is_relative_to_n_times_one_process(options, monkeypatch):
    def measured(count):
        speed = {1: 100.0, 2: 150.0, 3: 240.0}[count]
        sent = {"ring_sent_mb": 0.0, "formula_sent_mb": 0.0}
        return {"processes": count, "images_per_second": speed, "gradient_difference": 0.0, **sent}

    monkeypatch.setattr(data_parallel, "measure", lambda *_, **__: measured(1))
    monkeypatch.setattr(data_parallel, "start", lambda _, count: measured(count))
    found = data_parallel.train(data_parallel.Config(processes=3, run=options))
    assert [found[f"efficiency_{count}"] for count in (1, 2, 3)] == [1, 0.75, 0.8]


def test_error_of_a_process_is_extracted_from_torchruns_output(options, monkeypatch):
    output = "error: --batch-size must be at least 5\n=====\n"
    failed = SimpleNamespace(returncode=1, stderr=output)
    monkeypatch.setattr(data_parallel, "subprocess", SimpleNamespace(run=lambda *_, **__: failed))
    with pytest.raises(ValueError, match=r"^5 processes failed: --batch-size must be at least 5$"):
        data_parallel.start(data_parallel.Config(run=options), 5)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_wrong_shard_of_the_batch_changes_the_gradient(options, monkeypatch, wrong):
    if wrong:
        monkeypatch.setattr(data_parallel.distributed, "shard", lambda index: index[::2])
    config = data_parallel.Config(network="mlp", batch_size=16, processes=1, steps=2, run=options)
    found = data_parallel.train(config)
    for name in ("gradient_difference_1", "ring_gradient_difference_1"):
        assert (found[name] > 1e-2) == wrong
        assert wrong or found[name] < 1e-6
