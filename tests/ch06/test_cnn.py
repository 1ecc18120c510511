"""The book's network: shapes, training step, figures, feature maps and Grad-CAM."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch06_cnn.convolution import cnn, layers, visualise
from ch06_cnn.convolution.cnn import BookNetwork, Config
from ch06_cnn.preprocessing import scaled
from common.data.images.image_set import Split
from common.data.images.loading import load_images
from conftest import train_until


@pytest.fixture(scope="module")
def shapes():
    return load_images("shapes", limit=96)


@pytest.fixture
def config(options):
    return Config(data="shapes", epochs=1, batch_size=48, run=options)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(cnn, "report", lambda *_: None)


def test_layers_of_the_network_are_those_of_the_book():
    shapes = [tuple(p.shape) for p in BookNetwork().parameters() if p.ndim > 1]
    assert shapes == [(32, 3, 5, 5), (64, 32, 5, 5), (128, 64, 5, 5), (256, 512), (10, 256)]
    drops = [module.p for module in BookNetwork().modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.2, 0.2, 0.2, 0.55]
    assert BookNetwork()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in BookNetwork(batch_norm=True).modules()) == 3


def test_training_step_equals_adamw():
    """One update by the formula (Loshchilov & Hutter 2019, algorithm 2)."""
    torch.manual_seed(0)
    model = BookNetwork(dropout=False).double()
    before = [p.detach().clone() for p in model.parameters()]
    pixels, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.arange(4)
    optimizer = cnn.make_optimizer(model, 0.01, 0.1)
    gradients = torch.autograd.grad(F.cross_entropy(model(pixels).float(), labels), list(model.parameters()))
    cnn.train_step(model, optimizer, pixels, labels)
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        expected = old * (1 - 0.01 * 0.1) - 0.01 * g / (g.abs() + 1e-8)  # first step: m / sqrt(v) = g / |g|
        torch.testing.assert_close(new.detach(), expected, rtol=1e-5, atol=1e-8)
    assert all(p.grad is None for p in model.parameters()), "the gradients are not reset"


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_norm": True}, {"network": "linear"}, {"network": "mlp"}, {"layers": "by-hand", "batch_norm": True}],
)
def test_one_batch_is_overfitted(config, shapes, settings, bf16):
    torch.manual_seed(0)
    config = replace(config, dropout=False, learning_rate=1e-3, **settings)
    model = cnn.make_model(config)
    optimizer = cnn.make_optimizer(model, config.learning_rate, config.weight_decay)
    pixels, labels = scaled(shapes.train.pixels[:16], bf16=bf16), shapes.train.labels[:16]
    assert cnn.train_step(model, optimizer, pixels, labels, bf16=bf16).dtype == torch.float32
    train_until(
        lambda: torch.equal(model(pixels.float()).argmax(1), labels),
        lambda: cnn.train_step(model, optimizer, pixels, labels, bf16=bf16),
        at_most=300,
    )


def test_training_step_computes_in_bf16_and_channels_last(config, shapes):
    seen = []
    for bf16, last in ((True, True), (False, False)):
        model = cnn.make_model(replace(config, channels_last=last))
        assert isinstance(model, BookNetwork)
        model.features[0].register_forward_hook(
            lambda _, inputs, output: seen.append(
                (output.dtype, output.is_contiguous(memory_format=torch.channels_last))
            )
        )
        optimizer = cnn.make_optimizer(model, config.learning_rate, config.weight_decay)
        pixels = scaled(shapes.train.pixels[:4], bf16=bf16, channels_last=last)
        cnn.train_step(model, optimizer, pixels, shapes.train.labels[:4], bf16=bf16)
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert seen == [(torch.bfloat16, True), (torch.float32, False)]


def test_convolutions_by_hand_compute_in_float32_under_autocast():
    model, seen = BookNetwork(kit=layers, batch_norm=True), []
    for module in model.features:
        module.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 3, 32, 32))
    assert set(seen) == {torch.float32}
    assert logits.dtype == torch.bfloat16, "the linear layers use autocast"


def test_predict_disables_dropout_and_restores_the_mode(shapes):
    model = BookNetwork(batch_norm=True)
    images = shapes.test.pixels
    first, second = cnn.predict(model, images), cnn.predict(model, images)
    assert torch.equal(first, second)
    assert model.training, "predict did not restore training mode"
    torch.testing.assert_close(first, model.eval()(scaled(images)).detach())
    cnn.predict(model, images)
    assert not model.training


def test_measures_by_hand():
    logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0], [0, 9.0, 0]])
    labels = torch.tensor([0, 0, 1, 0])
    measures = cnn.measure(logits, labels, ("dog", "cat", "bird"))
    assert measures["accuracy"] == 0.75
    assert measures["worst_class_accuracy"] == pytest.approx(2 / 3)
    assert measures["cat_accuracy"] == 1
    assert measures["bird_accuracy"] == 1, "a class without images"
    assert cnn.class_accuracy(logits, labels).tolist() == pytest.approx([2 / 3, 1, 1])
    assert measures["loss"] == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert set(cnn.measure(logits, labels)) == {"accuracy", "loss", "worst_class_accuracy"}


def runs(config):
    return [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_training_is_repeatable_restores_and_writes_its_files(config, shapes):
    config = replace(config, augment=True, batch_norm=True)
    first, second = cnn.train(config, shapes), cnn.train(config, shapes)
    assert first["test_loss"] == second["test_loss"]
    (one, restored), (two, _) = (cnn.restore(folder) for folder in runs(config))
    assert same(one, two)
    assert restored == config
    folder = runs(config)[0]
    for name in ("confusion", "classes", "mistakes", "curves", "filters", "maps", "gradcam", "augmented"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    actual, guessed = (
        [int(line) for line in (folder / f"{name}.txt").read_text().splitlines()] for name in ("testActual", "testPred")
    )
    assert actual == shapes.test.labels.tolist()
    right = sum(a == b for a, b in zip(actual, guessed, strict=True)) / len(actual)
    assert right == pytest.approx(first["test_accuracy"])
    assert guessed == cnn.predict(one, shapes.test.pixels).argmax(1).tolist()


@pytest.mark.usefixtures("no_figures")
def test_training_does_not_use_the_test_set(config, shapes):
    """Different test data give the same weights."""
    different = replace(shapes, test=Split(255 - shapes.test.pixels, shapes.test.labels.flip(0)))
    for data in (shapes, different):
        cnn.train(config, data)
    one, two = (cnn.restore(folder)[0] for folder in runs(config))
    assert same(one, two)


@pytest.mark.usefixtures("no_figures")
def test_learning_rate_follows_one_cycle_over_the_whole_training(config, shapes, monkeypatch):
    rates = []
    step = cnn.train_step

    def watch(model, optimizer, *arguments, **named):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(model, optimizer, *arguments, **named)

    monkeypatch.setattr(cnn, "train_step", watch)
    cnn.train(replace(config, network="linear", epochs=5), shapes)
    assert len(rates) == 10
    peak = rates.index(max(rates))
    assert peak in (2, 3)
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.01 * config.learning_rate


@pytest.mark.usefixtures("no_figures")
def test_every_epoch_has_a_different_order(config, shapes, monkeypatch):
    seen = []

    def watch(model, optimizer, pixels, labels, *, bf16):
        seen.extend(image.numpy().tobytes() for image in pixels)
        optimizer.step()  # without gradients nothing moves
        return torch.tensor(1.0)

    monkeypatch.setattr(cnn, "train_step", watch)
    cnn.train(replace(config, network="linear", epochs=2), shapes)
    assert sorted(seen[:96]) == sorted(seen[96:])
    assert seen[:96] != seen[96:]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("augmented", [False, True])
def test_augmented_images_reach_the_training_step(config, shapes, monkeypatch, augmented):
    made, given = [], []
    augment = cnn.augment

    def watch(images, flips, **settings):
        assert settings == {"shift": 4, "cutout": 8} and 0 < int(flips.sum()) < len(flips)
        made.append(augment(images, flips, **settings))
        return made[-1]

    def step(model, optimizer, pixels, labels, *, bf16):
        given.append(pixels)
        optimizer.step()  # without gradients nothing moves
        return torch.tensor(1.0)

    monkeypatch.setattr(cnn, "augment", watch)
    monkeypatch.setattr(cnn, "train_step", step)
    cnn.train(replace(config, augment=augmented), shapes)
    assert len(given) == 2 and len(made) == 2 * augmented
    for images, pixels in zip(made, given, strict=augmented):
        torch.testing.assert_close(pixels, scaled(images))


@pytest.mark.usefixtures("no_figures")
def test_settings_reach_the_network_and_the_optimizer(config, shapes, monkeypatch):
    seen = []
    make_optimizer = cnn.make_optimizer
    monkeypatch.setattr(cnn, "make_optimizer", lambda *a: seen.append((a[0], make_optimizer(*a))) or seen[-1][1])
    for dropout in (False, True):
        cnn.train(replace(config, dropout=dropout, learning_rate=2e-3, weight_decay=0.5), shapes)
        model, optimizer = seen.pop()
        assert sum(module.p for module in model.modules() if isinstance(module, nn.Dropout)) == pytest.approx(
            1.15 * dropout
        )
        assert optimizer.defaults["weight_decay"] == 0.5 and optimizer.param_groups[0]["max_lr"] == 2e-3


def test_the_mlp_has_more_parameters_than_the_books_network():
    model = cnn.make_model(Config(network="mlp"))
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    assert shapes == [(512, 3072), (256, 512), (10, 256)]
    counts = [sum(p.numel() for p in network.parameters()) for network in (model, BookNetwork())]
    assert counts[0] > 4 * counts[1]
    drops = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.2, 0.55]
    off = cnn.make_model(Config(network="mlp", dropout=False))
    assert not any(module.p for module in off.modules() if isinstance(module, nn.Dropout))


@pytest.mark.usefixtures("no_figures")
def test_train_accuracy_is_measured_on_training_images(config, shapes):
    data = replace(shapes, test=shapes.test[:40])
    found = cnn.train(replace(config, network="linear"), data)
    model, _ = cnn.restore(runs(config)[0])
    right = cnn.predict(model, shapes.train.pixels[:40]).argmax(1) == shapes.train.labels[:40]
    assert found["train_accuracy"] == pytest.approx(float(right.float().mean()))


def test_a_linear_network_writes_its_templates(config, shapes):
    cnn.train(replace(config, network="linear"), shapes)
    (folder,) = runs(config)
    assert (folder / "templates.png").exists()
    assert not (folder / "gradcam.png").exists()
    assert not (folder / "augmented.png").exists(), "images are augmented only with --augment"
    model, _ = cnn.restore(folder)
    assert sum(p.numel() for p in model.parameters()) == 30_730


@pytest.mark.parametrize("limit", [1, 3])
def test_training_runs_with_very_few_images(options, limit):
    metrics = cnn.train(Config(data="shapes", epochs=1, run=replace(options, limit=limit)))
    assert 0 <= metrics["test_accuracy"] <= 1


# Figures.


def test_grad_cam_by_hand():
    """One convolution and global average pooling: the map is ReLU(sum of the class's weights times feature maps)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head := nn.Linear(4, 10)
    )
    pixels, classes = torch.randn(2, 3, 8, 8), torch.tensor([3, 7])
    heat = visualise.grad_cam(model, model[0], pixels, classes)
    maps, weight = model[0](pixels).detach(), head.weight[classes].detach()
    expected = torch.einsum("bchw,bc->bhw", maps, weight).relu()
    torch.testing.assert_close(heat, expected / expected.amax((1, 2), keepdim=True))
    assert all(p.grad is None for p in model.parameters())


def test_feature_maps_are_the_outputs_of_all_relus():
    model = BookNetwork(batch_norm=True).eval()
    pixels = torch.randn(2, 3, 32, 32)
    maps = visualise.feature_maps(model.features, pixels)
    assert [tuple(m.shape) for m in maps] == [(2, 32, 30, 30), (2, 64, 13, 13), (2, 128, 4, 4)]
    torch.testing.assert_close(maps[0], model.features[1](model.features[0](pixels)).relu().detach())
    assert not model.features[2]._forward_hooks


def test_examples_are_the_first_of_each_class_that_occurs():
    assert visualise.examples(torch.tensor([2, 0, 2, 0, 3]), 5).tolist() == [1, 0, 4]


def test_rescale_maps_each_image_to_zero_one():
    spread = visualise.rescale(torch.randn(5, 3, 4, 4))
    assert spread.amin((1, 2, 3)).tolist() == [0] * 5
    assert spread.amax((1, 2, 3)).tolist() == [1] * 5
    assert visualise.rescale(torch.ones(1, 3, 2, 2)).eq(0).all()


# Convolutional against linear network.


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_convolutional_network_is_more_accurate_than_the_linear_one(options):
    data = load_images("shapes", limit=4_000)
    options = replace(options, precision="auto")
    linear = cnn.train(Config(data="shapes", network="linear", epochs=3, run=options), data)
    deep = cnn.train(Config(data="shapes", batch_norm=True, dropout=False, epochs=4, batch_size=64, run=options), data)
    assert linear["test_accuracy"] < 0.4
    assert deep["test_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "--epochs must be a number above 0, got 0"),
        ({"batch_size": 0}, "--batch-size must be a number above 0, got 0"),
        ({"learning_rate": -1.0}, "--learning-rate must be a number above 0, got -1"),
        ({"weight_decay": 1}, "--weight-decay must be at least 0 and below 1, got 1"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)


@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_ends_with_the_same_weights(config, shapes, monkeypatch):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    config = replace(config, epochs=3, augment=True, batch_size=64)
    cnn.train(config, shapes)
    step, calls = cnn.train_step, []

    def stop_in_the_third_epoch(*arguments, **named):
        calls.append(1)
        if len(calls) == 6:  # two batches per epoch: in the middle of the third epoch
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(cnn, "train_step", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        cnn.train(config, shapes)
    monkeypatch.setattr(cnn, "train_step", step)
    cnn.train(replace(config, run=replace(config.run, resume=True)), shapes)
    one, two = (cnn.restore(folder)[0] for folder in runs(config))
    assert same(one, two)
    rows = [json.loads(line)["epoch"] for line in (runs(config)[1] / "metrics.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3]
