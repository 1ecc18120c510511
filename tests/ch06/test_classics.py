"""Ten classic networks: parameter counts, training loop and table of results; the throughput program."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ch06_cnn.architectures import classics, preactivation, resnet, stochastic_depth
from ch06_cnn.architectures.classics import NETWORKS, Config
from ch06_cnn.architectures.densenet import DenseNet
from ch06_cnn.architectures.stochastic_depth import StochasticDepthResNet
from ch06_cnn.architectures.wide_resnet import WideResNet
from ch06_cnn.convolution import throughput
from ch06_cnn.preprocessing import scaled
from common.data.images.loading import load_images
from conftest import train_until


@pytest.fixture(scope="module")
def shapes():
    return load_images("shapes", limit=40)


@pytest.fixture
def config(options):
    return Config(data="shapes", network="lenet", epochs=1, batch_size=20, run=options)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def densenet_size(growth=12, depth=6):
    """Parameters of DenseNet: two per channel in batch normalisation; a layer has a 1x1 and a 3x3 convolution."""
    channels = 2 * growth
    total = 27 * channels
    for block in range(3):
        if block > 0:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
        for _ in range(depth):
            total += 2 * channels + channels * 4 * growth + 8 * growth + 9 * 4 * growth * growth
            channels += growth
    return total + 2 * channels + (channels + 1) * 10


def resnet_size():
    """Parameters of ResNet-18: two 3x3 convolutions per block, and a 1x1 if the shape changes, with batch-norm."""
    total, channels = 27 * 64 + 2 * 64, 64
    for width in (64, 128, 256, 512):
        total += 9 * channels * width + 3 * 9 * width * width + 4 * 2 * width
        total += channels * width + 2 * width if width != channels else 0
        channels = width
    return total + 513 * 10


def preactivation_size():
    """Parameters of the pre-activation ResNet-18: as ResNet-18, but the batch norms have the channels before."""
    total, channels = 27 * 64, 64
    for width in (64, 128, 256, 512):
        total += 9 * channels * width + 3 * 9 * width * width + 2 * channels + 3 * 2 * width
        total += channels * width if width != channels else 0
        channels = width
    return total + 2 * 512 + 513 * 10


def wide_size(depth, widening):
    """Parameters of WRN-d-k: n = (d - 4) / 6 blocks per group; a 1x1 convolution where the shape changes."""
    total, channels, blocks = 27 * 16, 16, (depth - 4) // 6
    for width in (16 * widening, 32 * widening, 64 * widening):
        total += channels * width if width != channels else 0
        total += 9 * channels * width + (2 * blocks - 1) * 9 * width * width
        total += 2 * channels + (2 * blocks - 1) * 2 * width
        channels = width
    return total + 2 * channels + (channels + 1) * 10


def thin_size(blocks):
    """Parameters of a ResNet with 6 n + 2 layers; a 1x1 convolution where the shape changes."""
    total, channels = 27 * 16 + 2 * 16, 16
    for width in (16, 32, 64):
        total += 9 * channels * width + (2 * blocks - 1) * 9 * width * width + 2 * blocks * 2 * width
        total += channels * width + 2 * width if width != channels else 0
        channels = width
    return total + 65 * 10


# Sums over the layers in the papers: (kernel size squared x input channels + bias) x filters.
SIZES = {
    "lenet": (5 * 5 * 3 + 1) * 6 + (5 * 5 * 6 + 1) * 16 + 401 * 120 + 121 * 84 + 85 * 10,
    "vgg": 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256**2 + 256 * 512 + 3 * 512**2) + 2 * (64 + 128 + 512 + 2048) + 5130,
    "resnet": resnet_size(),
    "preactivation": preactivation_size(),
    "stochastic-depth": thin_size(9),
    "wide": wide_size(16, 4),
    "densenet": densenet_size(),
}


@pytest.mark.parametrize("name", list(SIZES))
def test_parameter_counts_equal_the_sums_over_the_layers(name):
    assert parameters(NETWORKS[name]()) == SIZES[name]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_returns_ten_logits_and_every_weight_has_a_gradient(name):
    torch.manual_seed(0)
    model = classics.make_model(Config(network=name))
    for module in model.modules():
        if isinstance(module, stochastic_depth.Block):
            module.survival = 1.0  # a dropped block has no gradient
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_operations_of_one_image():
    """LeNet by hand: two operations per multiply-add."""
    model = NETWORKS["lenet"]()
    by_hand = 2 * (28 * 28 * 6 * 75 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10)
    assert classics.cost(model) == {"parameters": 62_006, "megaflops": by_hand / 1e6}
    assert model.training


def test_a_dense_layer_appends_to_its_input():
    x = torch.randn(1, 24, 4, 4)
    layer = DenseNet().features[1].eval()
    y = layer(x)
    assert y.shape == (1, 36, 4, 4)
    assert torch.equal(y[:, :24], x)


# Pre-activation, wide ResNet, stochastic depth.


def test_a_preactivation_block_passes_on_its_input_unchanged():
    """Without a residual, y = x, also where x is negative; a block of ResNet-18 applies ReLU."""
    block: Any = preactivation.Block(8, 8, 1)
    x = torch.randn(2, 8, 4, 4)
    nn.init.zeros_(block.residual[-1].weight)
    assert torch.equal(block(x), x)
    plain: Any = resnet.Block(8, 8, 1)
    nn.init.zeros_(plain.residual[-1].weight)
    torch.testing.assert_close(plain(x), x.relu())


def test_a_preactivation_block_is_its_equation():
    torch.manual_seed(0)
    block: Any = preactivation.Block(4, 6, 2).double()
    x = torch.randn(5, 4, 8, 8).double()
    first, second = block.residual[0], block.residual[4]

    def normalised(y):
        return (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()

    active = normalised(x).relu()
    hidden = nn.functional.conv2d(active, first.weight, stride=2, padding=1)
    residual = nn.functional.conv2d(normalised(hidden).relu(), second.weight, padding=1)
    torch.testing.assert_close(block(x), nn.functional.conv2d(active, block.shortcut.weight, stride=2) + residual)


@pytest.mark.parametrize(("depth", "widening"), [(10, 1), (16, 2), (22, 1)])
def test_depth_and_width_of_a_wide_resnet(depth, widening):
    model = WideResNet(depth=depth, widening=widening, dropout=0.3)
    assert parameters(model) == wide_size(depth, widening)
    three = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    ones = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]
    # The depth is the number of convolutions, with those of three shortcuts; without widening the first has none.
    assert len(three) + len(ones) == depth - (widening == 1)
    assert three[-1].out_channels == 64 * widening
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.3] * ((depth - 4) // 2)
    assert {module.p for module in WideResNet().modules() if isinstance(module, nn.Dropout)} == {0.0}


def stochastic(survival, blocks=2) -> Any:
    torch.manual_seed(0)
    return StochasticDepthResNet(blocks=blocks, survival=survival).double()


def test_survival_probabilities_decrease_linearly():
    blocks = [module for module in stochastic(0.5, 9).modules() if isinstance(module, stochastic_depth.Block)]
    assert [block.survival for block in blocks] == pytest.approx([1 - 0.5 * number / 27 for number in range(1, 28)])
    assert sum(block.survival for block in blocks) == pytest.approx((3 * 27 - 1) / 4), "the mean number of blocks"


@pytest.mark.parametrize("training", [True, False])
def test_with_survival_probability_1_it_is_the_plain_network(training):
    model, x = stochastic(1.0).train(training), torch.randn(3, 3, 32, 32).double()
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [resnet.Block(16, 16, 1), resnet.Block(16, 16, 1), resnet.Block(16, 32, 2), resnet.Block(32, 32, 1)]
    plain = nn.Sequential(*layers, resnet.Block(32, 64, 2), resnet.Block(64, 64, 1)).double().train(training)
    plain.load_state_dict(model.features.state_dict())
    expected = model.classifier(plain(x).mean((2, 3)))
    assert torch.equal(model(x), expected)
    model(x).square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(model.features.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_evaluation_uses_the_expected_residual(monkeypatch):
    """In training a block is kept or dropped as a whole; in evaluation the sum before the ReLU is the expected one."""
    torch.manual_seed(0)
    block: Any = stochastic_depth.Block(6, 6, 1, survival=0.3).double()
    x = torch.randn(4, 6, 5, 5).double()
    calls = []
    block.residual.register_forward_hook(lambda *_: calls.append(1))
    block.residual.eval()  # fixed statistics of batch normalisation
    outputs = {}
    for drawn in (0.29, 0.31):
        monkeypatch.setattr(torch, "rand", lambda *_, drawn=drawn: torch.tensor(drawn))
        outputs[drawn] = block(x)
    assert len(calls) == 1, "the residual of a dropped block was computed"
    kept, dropped = x + block.residual(x), x
    torch.testing.assert_close(outputs[0.29], kept.relu())
    torch.testing.assert_close(outputs[0.31], dropped.relu())
    torch.testing.assert_close(block.eval()(x), (0.3 * kept + 0.7 * dropped).relu())


def test_blocks_are_dropped_with_their_probability():
    torch.manual_seed(0)
    block: Any = stochastic_depth.Block(2, 2, 1, survival=0.7)
    kept = []
    block.residual = nn.Identity()
    block.residual.register_forward_hook(lambda *_: kept.append(1))
    for _ in range(2_000):
        block(torch.ones(1, 2, 1, 1))
    assert len(kept) / 2_000 == pytest.approx(0.7, abs=0.04)


def test_stochastic_depth_trains_in_one_process(config, shapes, monkeypatch):
    monkeypatch.setattr(classics.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(classics.distributed, "from_main", lambda value: value)
    with pytest.raises(ValueError, match="--network stochastic-depth trains in one process, got 2 processes"):
        classics.train(replace(config, network="stochastic-depth"), shapes)


@pytest.mark.parametrize(("name", "count"), [("lenet", 10), ("resnet", 4)])
def test_one_batch_is_overfitted(config, shapes, name, count):
    torch.manual_seed(0)
    model = classics.make_model(replace(config, network=name))
    optimizer = classics.make_optimizer(model, config.learning_rate, config.weight_decay)
    pixels, labels = scaled(shapes.train.pixels[:count]), shapes.train.labels[:count]
    assert len(labels.unique()) > 2
    train_until(
        lambda: torch.equal(model(pixels).argmax(1), labels),
        lambda: classics.train_step(model, optimizer, pixels, labels),
        at_most=300,
        every=2,
    )


def test_training_is_repeatable_and_restores(config, shapes):
    first, second = classics.train(config, shapes), classics.train(config, shapes)
    assert first["test_loss"] == second["test_loss"]
    assert first["parameters"] == 62_006
    folders = [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]
    (one, restored), (two, _) = (classics.restore(folder) for folder in folders)
    assert restored == config
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_the_loop_augments_and_shuffles_with_a_one_cycle_schedule(config, shapes, monkeypatch):
    seen, rates = [], []

    def watch(model, optimizer, pixels, labels, *, bf16):
        seen.append(pixels.clone())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()  # no gradients: the weights do not change
        return torch.tensor(1.0)

    monkeypatch.setattr(classics, "train_step", watch)
    for augment in (True, False):
        classics.train(replace(config, epochs=5, augment=augment), shapes)
    stored = {image.numpy().tobytes() for image in scaled(shapes.train.pixels)}
    augmented, plain = ([image.numpy().tobytes() for image in torch.cat(half)] for half in (seen[:10], seen[10:]))
    assert set(plain) == stored
    assert plain[:40] != plain[40:80], "every epoch has the same order"
    assert len(set(augmented) - stored) > 150, "too many of the 200 images are neither flipped nor shifted"
    assert rates[:10] == rates[10:]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05)
    assert rates[0] < 0.1 * config.learning_rate > rates[9]


def test_all_networks_are_trained_one_after_the_other_and_tabulated(config, shapes, monkeypatch, capsys):
    monkeypatch.setattr(classics, "NETWORKS", {name: NETWORKS[name] for name in ("lenet", "alexnet")})
    metrics = classics.train(replace(config, network="all"), shapes)
    assert {"lenet_test_accuracy", "alexnet_test_accuracy", "alexnet_parameters"} <= set(metrics)
    assert len(list(config.run.out.rglob("summary.json"))) == 2
    table = capsys.readouterr().out
    assert "62,006" in table
    assert f"{metrics['alexnet_parameters']:,.0f}" in table


def test_resume_requires_one_network(config):
    with pytest.raises(ValueError, match="--resume continues one network: name it with --network, got all"):
        replace(config, network="all", run=replace(config.run, resume=True))
    with pytest.raises(ValueError, match="name one network with --network, got all"):
        classics.workload(replace(config, network="all"), torch.device("cpu"))


@pytest.mark.parametrize("augment", [True, False])
def test_the_benchmark_augments_as_training_does(config, monkeypatch, augment):
    seen = []
    monkeypatch.setattr(classics, "augment", lambda images, flips, **settings: seen.append(settings) or images)
    classics.workload(replace(config, augment=augment), torch.device("cpu")).step()
    assert seen == [{"shift": 4}] * augment


@pytest.mark.parametrize("bf16", [True, False])
def test_throughput_metrics_and_figures(options, shapes, monkeypatch, bf16):
    monkeypatch.setattr(throughput, "MATRIX", 64)
    monkeypatch.setattr(throughput, "has_native_bf16", lambda device: bf16)
    monkeypatch.setattr(throughput, "SPEED_BATCH", 4)
    config = throughput.Config(data="shapes", batch_size=8, rounds=1, seconds=0.01, run=options)
    metrics = throughput.train(config, shapes)
    assert metrics["gather_ratio"] == pytest.approx(
        metrics["gather_images_per_second"] / metrics["transforms_images_per_second"]
    )
    assert ("bf16_ratio" in metrics) == bf16
    if bf16:
        ratio = metrics["bf16_images_per_second"] / metrics["memory_images_per_second"]
        assert metrics["bf16_ratio"] == pytest.approx(ratio)
    assert metrics["speed_network_rate"] == pytest.approx(
        metrics["speed_network_gflops"] / metrics["matrix_product_gflops"]
    )
    (folder,) = config.run.out.glob("*/throughput/*")
    assert {"augmentation.png", "throughput.png"} <= {path.name for path in folder.iterdir()}
    device = json.loads((folder / "summary.json").read_text())["device"]
    assert device.endswith(", fp32 and bf16"), "--precision is not used"


def test_transforms_and_scaled_give_the_same_pixels(shapes, monkeypatch):
    """Without random crop and flip, torchvision's transforms equal `scaled`."""
    from torchvision import transforms

    images = throughput.per_sample_dataset(shapes.train)
    images.transform = transforms.Compose(images.transform.transforms[2:])
    for index in range(3):
        pixels, label = images[index]
        torch.testing.assert_close(pixels, scaled(shapes.train.pixels[index : index + 1])[0], rtol=1e-5, atol=1e-5)
        assert label == int(shapes.train.labels[index])


def test_variants_return_the_number_of_images(shapes):
    device = torch.device("cpu")
    uint8_batches = iter([(shapes.train.pixels[:5], shapes.train.labels[:5])])
    assert throughput.gather(uint8_batches)() == 5
    assert throughput.transform(iter([(scaled(shapes.train.pixels[:6]), shapes.train.labels[:6])]))() == 6
    batches = iter([(shapes.train.pixels[:7], shapes.train.labels[:7])])
    assert throughput.train_from_memory(batches, device, last=False, bf16=False)() == 7
