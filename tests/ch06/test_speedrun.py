"""The speed run: network, optimizers, time budget and all switches."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch06_cnn.preprocessing import scaled
from ch06_cnn.speedrun import speedrun
from ch06_cnn.speedrun.muon import Muon
from ch06_cnn.speedrun.speedrun import Config, Optimizers, SpeedNetwork
from ch06_cnn.speedrun.whitening import whitening_filters
from common.data.images.loading import load_images
from conftest import train_until


@pytest.fixture(scope="module")
def shapes():
    return load_images("shapes", limit=192)


@pytest.fixture
def config(options):
    return Config(data="shapes", epochs=2, batch_size=64, widths=(8, 8, 16), run=options)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(speedrun, "report", lambda *_: None)


@torch.no_grad()
def test_convolutions_start_as_the_identity_with_small_logits():
    torch.manual_seed(0)
    model = SpeedNetwork((24, 32, 48)).eval()
    images = torch.randn(2, 3, 32, 32)
    first = model.blocks[0]
    x = F.silu(model.first(images))
    assert torch.equal(first(x), x), "the convolution is not the identity"
    torch.testing.assert_close(model.blocks[7](x)[:, :24], x)
    assert float(model(images).softmax(1).max()) < 0.5
    assert not model.first.weight.requires_grad
    random = SpeedNetwork((24, 32, 48), identity=False, learn_first=True)
    assert not torch.equal(random.blocks[0](x), x)
    assert random.first.weight.requires_grad


@pytest.mark.parametrize(
    ("budget", "widths"),
    [(5, (32, 64, 128)), (60, (32, 64, 128)), (300, (32, 128, 256)), (600, (64, 256, 256)), (9999, (64, 256, 256))],
)
def test_default_widths_depend_on_the_budget(budget, widths):
    model = speedrun.make_model(Config(budget=budget))
    assert [model.blocks[i].out_channels for i in (0, 7, 14)] == list(widths)
    own = speedrun.make_model(Config(budget=budget, widths=(8, 16, 8)))
    assert own.head.in_features == 8


def test_default_learning_rate_depends_on_the_optimizer():
    assert (Config().learning_rate, Config(optimizer="sgd").learning_rate) == (0.12, 2.0)
    assert Config(optimizer="sgd", learning_rate=0.5).learning_rate == 0.5


def test_learning_rates_decay_linearly_to_zero():
    optimizers = Optimizers(SpeedNetwork((8, 8, 8)), Config())
    rates = []
    for progress in (0.0, 0.25, 1.0, 1.1):
        optimizers.set_progress(progress)
        rates.append([group["lr"] for part in optimizers.optimizers for group in part.param_groups])
    assert rates[0] == [Optimizers.BIASES, Optimizers.HEAD, 0.12]
    assert rates[1] == pytest.approx([0.75 * rate for rate in rates[0]])
    assert rates[2] == rates[3] == [0, 0, 0]


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_every_trainable_parameter_has_one_optimizer(optimizer):
    model = SpeedNetwork((8, 8, 8), learn_first=True)
    optimizers = Optimizers(model, Config(optimizer=optimizer))
    held = [p for part in optimizers.optimizers for group in part.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held})
    assert {id(p) for p in held} == {id(p) for p in model.parameters() if p.requires_grad}
    assert isinstance(optimizers.optimizers[-1], Muon) == (optimizer == "muon")


def test_flips():
    torch.manual_seed(0)
    first = torch.tensor([True, False] * 500)
    once, again = (speedrun.flip_mask(first, epoch, "alternating") for epoch in (1, 2))
    assert torch.equal(once, ~again)
    assert torch.equal(again, first)
    assert not speedrun.flip_mask(first, 1, "none").any()
    random = [speedrun.flip_mask(first, epoch, "random") for epoch in (1, 2)]
    assert 0.4 < float((random[0] == random[1]).float().mean()) < 0.6


@pytest.mark.parametrize("flip", ["alternating", "random", "none"])
def test_the_benchmark_flips_as_training_does(config, monkeypatch, flip):
    torch.manual_seed(0)
    seen = []
    monkeypatch.setattr(speedrun, "augment", lambda images, flips, **_: seen.append(flips) or images)
    step = speedrun.workload(replace(config, flip=flip), torch.device("cpu")).step
    step(), step()
    assert all(bool(flips.any()) == (flip != "none") for flips in seen)
    assert torch.equal(*seen) == (flip != "random")


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_one_batch_is_overfitted(shapes, optimizer, bf16):
    torch.manual_seed(0)
    model = SpeedNetwork((8, 16, 32))
    model.first.weight.data.copy_(whitening_filters(scaled(shapes.train.pixels)))
    optimizers = Optimizers(model, Config(optimizer=optimizer), bf16=bf16)
    pixels, labels = scaled(shapes.train.pixels[:32], bf16=bf16), shapes.train.labels[:32]
    optimizers.set_progress(0.3)  # constant learning rate
    losses = []
    train_until(
        lambda: losses[-1] < 0.3,
        lambda: losses.append(float(speedrun.train_step(model, optimizers, pixels, labels, bf16=bf16))),
        at_most=500,
    )
    assert all(p.grad is None for p in model.parameters()), "the gradients are not reset"


def test_training_step_smooths_the_labels(shapes):
    torch.manual_seed(0)
    model = SpeedNetwork((8, 8, 8))
    pixels, labels = scaled(shapes.train.pixels[:16]), shapes.train.labels[:16]
    logits = model(pixels).detach()
    optimizers = Optimizers(model, Config())
    optimizers.set_progress(1)
    loss = speedrun.train_step(model, optimizers, pixels, labels, label_smoothing=0.3)
    p = logits.log_softmax(1)
    expected = -(0.7 * p[range(16), labels] + 0.3 * p.mean(1)).mean()
    torch.testing.assert_close(loss, expected)


def weights_of(config):
    return [speedrun.restore(path.parent)[0] for path in sorted(config.run.out.rglob("model.safetensors"))]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_run_by_epochs_is_repeatable_learns_and_restores(config, shapes):
    config = replace(config, epochs=8)
    first, second = speedrun.train(config, shapes), speedrun.train(config, shapes)
    assert first["test_loss"] == second["test_loss"]
    one, two = weights_of(config)
    assert same(one, two)
    assert first["test_accuracy"] > 0.15, "chance level is 0.1"
    logits = speedrun.classify(one, shapes.test.pixels, config, bf16=False)
    right = float((logits.argmax(1) == shapes.test.labels).float().mean())
    assert right == pytest.approx(first["test_accuracy"])
    (folder, _) = sorted(config.run.out.glob("*/speedrun/*"))
    for name in ("curves", "confusion", "filters", "spectrum"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture
def calls(monkeypatch):
    """Record the arguments of every training step, without training."""
    seen = {name: [] for name in ("flips", "shift", "augmented", "pixels", "label_smoothing", "optimizers", "model")}
    augment, flip_mask = speedrun.augment, speedrun.flip_mask
    masks = []

    def watch_mask(initial, epoch, flip):
        masks.append(flip_mask(initial, epoch, flip))
        return masks[-1]

    def watch_augment(images, flips, *, shift):
        assert flips is masks[-1], "the mask is not used"
        seen["flips"].append(flips)
        seen["shift"].append(shift)
        seen["augmented"].append(augment(images, flips, shift=shift))
        return seen["augmented"][-1]

    def watch_step(model, optimizers, pixels, labels, *, label_smoothing, bf16):
        for name, value in (("pixels", pixels), ("label_smoothing", label_smoothing), ("model", model)):
            seen[name].append(value)
        seen["optimizers"].append(optimizers)
        return torch.tensor(1.0)

    monkeypatch.setattr(speedrun, "flip_mask", watch_mask)
    monkeypatch.setattr(speedrun, "augment", watch_augment)
    monkeypatch.setattr(speedrun, "train_step", watch_step)
    return seen


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("flip", ["alternating", "random", "none"])
def test_augmentation_reaches_the_step(config, shapes, calls, flip, shift):
    speedrun.train(replace(config, flip=flip, shift=shift), shapes)
    assert calls["shift"] == [shift] * 6
    assert all(bool(flips.any()) == (flip != "none") for flips in calls["flips"])
    for augmented, pixels in zip(calls["augmented"], calls["pixels"], strict=True):
        torch.testing.assert_close(pixels, scaled(augmented))


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("optimizer", "label_smoothing"), [("muon", 0.0), ("sgd", 0.3)])
def test_optimizer_and_label_smoothing_reach_the_step(config, shapes, calls, optimizer, label_smoothing):
    settings = {"optimizer": optimizer, "label_smoothing": label_smoothing, "learning_rate": 0.5, "muon_iterations": 4}
    speedrun.train(replace(config, **settings), shapes)
    assert calls["label_smoothing"] == [label_smoothing] * 6
    last = calls["optimizers"][0].optimizers[-1]
    assert isinstance(last, Muon) == (optimizer == "muon")
    group = last.param_groups[-1]
    assert all(p.ndim == 4 for p in group["params"]) and len(group["params"]) == 6
    assert calls["optimizers"][0].initial[-1][-1] == 0.5
    if optimizer == "muon":
        assert group["iterations"] == 4


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("whitening", [False, True])
def test_whitening_and_identity_set_the_initial_weights(config, shapes, calls, whitening, identity):
    speedrun.train(replace(config, whitening=whitening, identity=identity), shapes)
    model = calls["model"][0]
    filters = whitening_filters(scaled(shapes.train.pixels, channels_last=False))
    assert torch.allclose(model.first.weight, filters, atol=1e-5) == whitening
    assert model.first.weight.requires_grad != whitening
    second = model.blocks[0].weight
    assert torch.equal(second, torch.nn.init.dirac_(torch.empty_like(second))) == identity


def test_test_flip_averages_both_mirror_images(config, shapes):
    model = SpeedNetwork((8, 8, 8))
    images = shapes.test.pixels[:20]
    both = speedrun.classify(model, images, config, bf16=False)
    torch.testing.assert_close(both, speedrun.classify(model, images.flip(3), config, bf16=False))
    one = speedrun.classify(model, images, replace(config, test_flip=False), bf16=False)
    assert not torch.allclose(both, one)
    torch.testing.assert_close(one, model.eval()(scaled(images)).detach())


@pytest.mark.usefixtures("no_figures")
def test_whitening_uses_the_training_images_and_is_not_trained(config, shapes):
    speedrun.train(config, shapes)
    (model,) = weights_of(config)
    torch.testing.assert_close(model.first.weight, whitening_filters(scaled(shapes.train.pixels)))


@pytest.mark.usefixtures("no_figures")
def test_every_epoch_receives_the_same_initial_flips(config, shapes, monkeypatch):
    seen = []
    flip_mask = speedrun.flip_mask

    def watch(first, epoch, how):
        seen.append((epoch, int(first.sum())))
        return flip_mask(first, epoch, how)

    monkeypatch.setattr(speedrun, "flip_mask", watch)
    speedrun.train(replace(config, epochs=3, batch_size=96), shapes)
    assert [epoch for epoch, _ in seen] == [1, 1, 2, 2, 3, 3]
    flipped = [seen[i][1] + seen[i + 1][1] for i in (0, 2, 4)]
    assert flipped[0] == flipped[1] == flipped[2]
    assert 50 < flipped[0] < 142


@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_ends_with_the_same_weights(config, shapes, monkeypatch):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    config = replace(config, epochs=3)
    speedrun.train(config, shapes)
    step, calls = speedrun.train_step, []

    def stop_in_the_third_epoch(*arguments, **named):
        calls.append(1)
        if len(calls) == 8:  # three batches per epoch: in the middle of the third epoch
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(speedrun, "train_step", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        speedrun.train(config, shapes)
    monkeypatch.setattr(speedrun, "train_step", step)
    speedrun.train(replace(config, run=replace(config.run, resume=True)), shapes)
    one, two = weights_of(config)
    assert same(one, two)


@pytest.mark.usefixtures("no_figures")
def test_the_budget_ends_the_run_within_an_epoch(config, shapes, monkeypatch):
    """Every call of the clock adds a second; the run stops when the budget is used."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(speedrun.Run, "elapsed", lambda run: float(next(ticks)))
    progress_values = []
    monkeypatch.setattr(Optimizers, "set_progress", lambda self, progress: progress_values.append(progress))
    speedrun.train(replace(config, epochs=None, budget=9.0), shapes)
    assert progress_values == pytest.approx([0, 2 / 9, 4 / 9, 6 / 9, 8 / 9], abs=0.05), (
        "two calls of the clock per step"
    )
    (path,) = config.run.out.rglob("metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2], "three batches in the first epoch, two in the second"
    assert (path.parent / "checkpoint.pt").exists()


@pytest.mark.usefixtures("no_figures")
def test_the_budget_includes_the_preparation(config, shapes, monkeypatch):
    """A second per call of the clock, two calls per step, and five seconds of preparation."""

    class Preparation:
        seconds = 5.0

        def __init__(self, device):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    ticks = iter(range(10_000))
    monkeypatch.setattr(speedrun, "Timer", Preparation)
    monkeypatch.setattr(speedrun.Run, "elapsed", lambda run: float(next(ticks)))
    progress_values = []
    monkeypatch.setattr(Optimizers, "set_progress", lambda self, progress: progress_values.append(progress))
    speedrun.train(replace(config, epochs=None, budget=9.0), shapes)
    assert progress_values == pytest.approx([5 / 9, 7 / 9, 9 / 9]), "the budget is used after three steps"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"budget": 0}, "--budget must be a number above 0"),
        ({"widths": (8, 0, 8)}, "--widths must be a number above 0"),
        ({"label_smoothing": 1.0}, "--label-smoothing must be at least 0 and below 1, got 1"),
        ({"shift": 32}, "--shift must be between 0 and 31, got 32"),
        ({"epochs": 0}, "--epochs must be a number above 0"),
        ({"muon_iterations": 0}, "--muon-iterations must be a number above 0"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)
