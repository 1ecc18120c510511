"""Programs that measure: what they count is right, and they run on whatever the machine has."""

import json
from dataclasses import replace
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


def test_networks_learn_a_batch_by_heart():
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


def test_traffic_counts_what_is_read_and_written():
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    with matmul.Traffic() as traffic:
        a @ b
    assert traffic.bytes == 4 * (10 * 20 + 20 * 30 + 10 * 30)
    with matmul.Traffic() as traffic:
        a.view(200).view(20, 10)
    assert traffic.bytes == 0, "a view moves nothing"


def test_a_recurrent_layers_products_are_counted(options):
    config = matmul.Config(batch_size=4, run=options)
    step = matmul.training_step("lstm", config, torch.device("cpu"), bf16=False)
    forward = 2 * 4 * 28 * (28 + 128) * 4 * 128  # B, steps, inputs and states, gates of every unit
    assert step.gigaflops > 2 * forward / 1e9


def test_matmul_measures_and_draws(options):
    config = matmul.Config(sizes=(16, 32), batch_size=4, rounds=1, seconds=0.001, run=options)
    found = matmul.train(config)
    assert found["fp32_peak_gflops"] > 0
    assert found["copy_gb_per_second"] > 0
    assert found["add_recorded_microseconds"] > 0 and found["add_microseconds"] > 0
    (folder,) = (options.out / "ch04_cuda" / "matmul").iterdir()
    assert (folder / "roofline.png").stat().st_size > 5_000


# How images arrive.


def test_every_source_gives_the_same_images(few, options):
    config = input_pipeline.Config(batch_size=len(few.train), run=options)
    device = torch.device("cpu")
    pixels, labels = next(
        input_pipeline.from_loader(input_pipeline.usual_samples(few.train), config.batch_size, device)
    )
    ours, our_labels = next(input_pipeline.resident(few.train, config.batch_size, device))
    assert labels.shape == our_labels.shape == (len(few.train),)
    theirs = (pixels * input_pipeline.STD + input_pipeline.MEAN) * 255
    order, our_order = theirs.sum((1, 2, 3)).argsort(), ours.sum((1, 2, 3)).argsort()
    torch.testing.assert_close(theirs[order].sum((1, 2, 3)), 128 * ours[our_order].sum((1, 2, 3)), rtol=1e-4, atol=1)
    assert torch.equal(labels.bincount(), our_labels.bincount())


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # where another test has loaded JAX
@pytest.mark.parametrize("network", ["mlp", "cnn", "lstm"])
def test_sources_are_compared_interleaved(few, options, network):
    settings = {"network": network, "batch_size": 64, "loader_batch_size": 16, "workers": 1}
    config = input_pipeline.Config(**settings, rounds=1, seconds=0.01, run=options)
    found = input_pipeline.train(config, few)
    for way in ("workers", "tensors", "resident"):
        ratio = found[f"{way}_images_per_second"] / found["dataloader_images_per_second"]
        assert found[f"{way}_ratio"] == pytest.approx(ratio), "of the one round that there was"


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # where another test has loaded JAX
def test_the_loader_has_a_batch_size_of_its_own(few, options, monkeypatch):
    sizes = {}

    def trainer(stream, *_, fused=True, bf16=False, **__):
        sizes[fused, bf16] = len(next(stream)[1])
        return lambda: 1.0

    monkeypatch.setattr(input_pipeline, "trainer", trainer)
    config = input_pipeline.Config(batch_size=64, loader_batch_size=16, workers=1, rounds=1, seconds=0.01, run=options)
    input_pipeline.train(config, few)
    assert sizes[False, False] == 16
    assert sizes[True, False] == 64


def test_a_sample_is_normalised_as_torchvision_does(few):
    sample, label = input_pipeline.usual_samples(few.train)[5]
    expected = (few.train.pixels[5] / 255 - input_pipeline.MEAN) / input_pipeline.STD
    torch.testing.assert_close(sample, expected)
    assert label == few.train.labels[5]


# Places.


def test_every_place_trains_the_same_network(few, options, monkeypatch):
    places = [Variant("mlp", "cpu", 1, "fp32"), Variant("mlp", "cpu", 2, "fp32")]
    monkeypatch.setattr(compare, "variants", lambda _: places)
    found = compare.train(compare.Config(networks=("mlp",), epochs=2, batch_size=64, run=options), few)
    assert found["mlp_cpu1_fp32_test_accuracy"] == pytest.approx(found["mlp_cpu2_fp32_test_accuracy"], abs=0.02)
    assert found["mlp_cpu1_fp32_ratio"] == 1
    assert found["mlp_cpu1_fp32_test_accuracy"] > 0.3


def test_a_record_of_a_gpu_is_shown_as_recorded(few, options, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    compare.show_record()
    assert "none was recorded" in capsys.readouterr().out
    record = {
        "device": "cuda:0: NVIDIA H100, bf16 (native)",
        "versions": {"torch": "2.14.1"},
        "date": "2026-11-21",
        "metrics": {"mlp_cuda0_bf16_epoch_seconds": {"mean": 0.125, "sd": 0.0, "values": [0.125]}},
    }
    (tmp_path / "gpu").mkdir()
    (tmp_path / f"{compare.RECORD}.json").write_text(json.dumps(record))
    compare.show_record()
    said = capsys.readouterr().out
    assert "on cuda:0: NVIDIA H100, bf16 (native), torch 2.14.1, 2026-11-21; not measured here" in said
    assert "mlp, cuda0, bf16: 0.12 s an epoch" in said or "mlp, cuda0, bf16: 0.13 s an epoch" in said


# Crossover and estimate.


def test_maps_tell_where_the_faster_place_wins(options, few):
    config = crossover.Config(networks=("mlp",), batch_sizes=(4, 8), rounds=1, run=options)
    found = crossover.train(config, few)
    assert len([name for name in found if name.endswith("_ratio")]) == 3 * 2
    ratios = torch.tensor([[0.5, 1.5], [0.9, 0.8]])
    assert crossover.first_win(ratios, [75, 300], (8, 32)) == "batch 32 at width 75, no batch at width 300"


def test_the_line_through_two_timings(monkeypatch, options):
    seconds = {"32": [0.0005 + 32 * 2e-5] * 3, "256": [0.0005 + 256 * 2e-5] * 3}
    monkeypatch.setattr(crossover, "by_turns", lambda *_, **__: seconds)
    place = crossover.Place("one thread", torch.device("cpu"), 1)
    overhead, image = crossover.cost("mlp", crossover.Config(run=options), place, bf16=False)
    assert overhead == pytest.approx(0.0005)
    assert image == pytest.approx(2e-5)


def test_an_estimate_stands_beside_the_measured_epoch(options, few):
    found = crossover.train(crossover.Config(networks=("mlp",), estimate=True, rounds=1, run=options), few)
    error = found["mlp_estimated_seconds"] / found["mlp_measured_seconds"] - 1
    assert found["mlp_estimate_error"] == pytest.approx(error)


# What a change is worth, and processes.


def test_changes_are_compared_with_the_plain_step(options, capsys):
    config = asynchrony.Config(batch_size=8, compile=False, rounds=1, seconds=0.01, run=options)
    found = asynchrony.train(config)
    assert found["plain_ratio"] == 1
    assert found["channels_last_ratio"] > 0
    assert found["synchronised_milliseconds"] >= found["unsynchronised_milliseconds"]
    assert "a CPU has no queue to fill ahead" in capsys.readouterr().out


@pytest.mark.gpu
def test_a_recorded_graph_takes_the_same_steps():
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
def test_processes_share_a_batch_and_agree_on_its_gradient(options):
    config = data_parallel.Config(network="mlp", batch_size=64, processes=2, steps=3, run=options)
    found = data_parallel.train(config)
    assert found["sent_mb_per_step_1"] == 0
    assert found["sent_mb_per_step_2"] == pytest.approx(4e-6 * 266_610, rel=1e-6)  # half of it, twice
    assert found["gradient_difference_2"] < 1e-4
    assert found["efficiency_1"] == 1


def test_what_a_process_says_is_not_lost_in_torchruns_frame(options, monkeypatch):
    said = "error: --batch-size must be at least 5\n=====\n"
    failed = SimpleNamespace(returncode=1, stderr=said)
    monkeypatch.setattr(data_parallel, "subprocess", SimpleNamespace(run=lambda *_, **__: failed))
    with pytest.raises(ValueError, match=r"^5 processes failed: --batch-size must be at least 5$"):
        data_parallel.start(data_parallel.Config(run=options), 5)


def test_one_process_agrees_with_itself(options):
    found = data_parallel.train(
        replace(data_parallel.Config(run=options), network="mlp", batch_size=16, processes=1, steps=2)
    )
    assert found["gradient_difference_1"] < 1e-6
