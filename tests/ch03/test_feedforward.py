"""The feed-forward classifier: formulas, losses, training step, metrics, training and output files."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch03_autoencoder_rbm.digits import feedforward
from ch03_autoencoder_rbm.digits.book import book_loss
from ch03_autoencoder_rbm.digits.feedforward import Config, FeedForward
from common import schedule
from common.data.images.image_set import Split
from common.data.images.loading import load_images
from conftest import train_until


@pytest.fixture
def config(options):
    return Config(data="digits", epochs=20, run=options)


def test_layer_sizes_are_the_books():
    assert [tuple(p.shape) for p in FeedForward().parameters()] == [
        (300, 784), (300,), (100, 300), (100,), (10, 100), (10,),
    ]  # fmt: skip
    assert FeedForward()(torch.zeros(3, 784)).shape == (3, 10)


def test_forward_equals_the_formula():
    torch.manual_seed(0)
    model = FeedForward().double()
    x = torch.rand(5, 784, dtype=torch.float64)
    w1, b1, w2, b2, w3, b3 = model.parameters()
    expected = ((x @ w1.T + b1).clamp(min=0) @ w2.T + b2).clamp(min=0) @ w3.T + b3
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_every_pixel_is_exact_in_bfloat16():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = feedforward.scaled(pixels)
    assert torch.equal(scaled.bfloat16().float(), scaled)
    assert torch.equal(scaled, torch.arange(256) / 128.0 * torch.ones(1, 1))


def test_book_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0, torch.log(torch.tensor(2.0))]])  # p = 1/4, 1/4, 1/2
    loss = book_loss(logits, torch.tensor([2]))
    assert float(loss) == pytest.approx(-(0.1 / 4 + 0.1 / 4 + 0.9 / 2) / 3)


def test_gradients_of_book_loss_and_cross_entropy():
    """Compare the gradients with respect to the logit of the correct class with the docstring of book.py."""
    logits = torch.randn(4, 10, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 5, 5, 9])
    p = logits.softmax(1)[range(4), labels].detach()
    for loss, expected in ((book_loss, -0.08 * p * (1 - p) / 4), (F.cross_entropy, -(1 - p) / 4)):
        (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
        torch.testing.assert_close(gradient[range(4), labels], expected)


def test_shift_moves_the_whole_batch_by_at_most_one_pixel():
    image = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    image[:, 0, 14, 14] = 9
    generator = torch.Generator().manual_seed(0)
    positions = set()
    for _ in range(200):
        moved = feedforward.shifted(image, 1, generator)
        assert int(moved.sum()) == 18
        assert torch.equal(moved[0], moved[1])
        positions.add(tuple(moved[0, 0].nonzero()[0].tolist()))
    assert positions == {(14 + dy, 14 + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    assert feedforward.shifted(image, 0, generator) is image


def test_step_equals_adamw(config):
    """AdamW's first update from its formula (Loshchilov & Hutter 2019, algorithm 2)."""
    torch.manual_seed(0)
    model = FeedForward().double()
    before = [p.detach().clone() for p in model.parameters()]
    pixels, labels = torch.rand(8, 784, dtype=torch.float64), torch.arange(8)
    optimizer = feedforward.make_optimizer(model, replace(config, learning_rate=0.01, weight_decay=0.1))
    gradients = torch.autograd.grad(F.cross_entropy(model(pixels).float(), labels), list(model.parameters()))
    schedule.set_learning_rate(optimizer, 0.002)
    feedforward.train_step(model, optimizer, pixels, labels)
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        expected = old * (1 - 0.002 * 0.1) - 0.002 * g / (g.abs() + 1e-8)  # first step: m / sqrt(v) = g / |g|
        torch.testing.assert_close(new.detach(), expected, rtol=1e-6, atol=1e-9)
    assert all(p.grad is None for p in model.parameters()), "gradients were not reset"


def fit_one_batch(config, digits, **options):
    torch.manual_seed(0)
    model = FeedForward()
    optimizer = feedforward.make_optimizer(model, config)
    pixels, labels = feedforward.scaled(digits.train.pixels[:64]), digits.train.labels[:64]
    schedule.set_learning_rate(optimizer, 1e-3)
    return (
        lambda: feedforward.train_step(model, optimizer, pixels, labels, **options),
        lambda: model(pixels).argmax(1),
        labels,
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_training_overfits_one_batch(config, digits, bf16):
    step, guess, labels = fit_one_batch(config, digits, bf16=bf16)
    train_until(lambda: torch.equal(guess(), labels), step, at_most=500)


def test_book_loss_does_not_learn_all_classes_of_a_batch(config, digits):
    """The book's loss misses whole classes of the batch, after 200 steps."""
    step, guess, labels = fit_one_batch(config, digits, loss="book")
    for _ in range(200):
        step()
    guesses = guess()
    learned = [label for label in range(10) if bool((guesses[labels == label] == label).any())]
    assert 0 < len(learned) < 10


def test_bf16_selects_the_type_of_the_computation(config, digits):
    types = []
    model = FeedForward()
    model.layers[0].register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    optimizer = feedforward.make_optimizer(model, config)
    pixels, labels = feedforward.scaled(digits.train.pixels[:8]), digits.train.labels[:8]
    for bf16 in (True, False):
        feedforward.train_step(model, optimizer, pixels, labels, bf16=bf16)
    assert types == [torch.bfloat16, torch.float32]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_metrics_by_hand():
    logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0], [0, 9.0, 0]])
    labels = torch.tensor([0, 0, 1, 0])
    metrics = feedforward.measure(logits, labels)
    assert metrics["accuracy"] == 0.75
    assert metrics["worst_class_accuracy"] == pytest.approx(2 / 3)
    assert feedforward.class_accuracy(logits, labels).tolist() == pytest.approx([2 / 3, 1, 1])
    assert metrics["loss"] == pytest.approx(float(F.cross_entropy(logits, labels)))


def test_predictions_do_not_depend_on_the_chunks(digits):
    model = FeedForward()
    logits = feedforward.predict(model, digits.train.pixels.repeat(3, 1, 1, 1))
    assert logits.shape == (3 * 1257, 10)
    torch.testing.assert_close(logits[:1257], model(feedforward.scaled(digits.train.pixels)).detach())
    torch.testing.assert_close(logits[:1257], logits[-1257:])


def test_training_learns_is_repeatable_and_restores(config, digits):
    first, second = feedforward.train(config, digits), feedforward.train(config, digits)
    assert first["test_accuracy"] > 0.9
    one, two = (feedforward.restore(path.parent)[0] for path in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert first["test_loss"] == second["test_loss"]
    logits = feedforward.predict(one, digits.test.pixels)
    assert feedforward.measure(logits, digits.test.labels)["accuracy"] == pytest.approx(first["test_accuracy"])
    _, restored = feedforward.restore(next(config.run.out.rglob("model.safetensors")).parent)
    assert restored == config


def test_training_does_not_use_the_test_split(config, digits):
    """Training with another test split gives the same weights."""
    other_test = replace(digits, test=Split(255 - digits.test.pixels, digits.test.labels.flip(0)))
    for data in (digits, other_test):
        feedforward.train(replace(config, epochs=2), data)
    one, two = (feedforward.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    (first, *_), (second, *_) = (p.read_text().splitlines() for p in config.run.out.rglob("metrics.jsonl"))
    assert json.loads(first)["valid_loss"] == json.loads(second)["valid_loss"]


def test_learning_rate_follows_one_cycle(config, digits, monkeypatch):
    rates = []
    monkeypatch.setattr(feedforward, "set_learning_rate", lambda optimizer, rate: rates.append(rate))
    feedforward.train(replace(config, epochs=4, batch_size=500), digits)
    assert rates == [schedule.one_cycle(step, 12, config.learning_rate) for step in range(12)]


@pytest.mark.figures
def test_figures_predictions_and_images_are_written(config, digits):
    metrics = feedforward.train(replace(config, epochs=3, write_images=True), digits)
    (folder,) = config.run.out.glob("*/feedforward/*")
    for name in ("confusion", "classes", "mistakes", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert len(rows) == 360
    assert list(rows[0]) == ["index", "label", "guess", *(f"p{k}" for k in range(10))]
    accuracy = sum(row["label"] == row["guess"] for row in rows) / len(rows)
    assert accuracy == pytest.approx(metrics["test_accuracy"])
    for row in rows:
        p = [float(row[f"p{k}"]) for k in range(10)]
        assert sum(p) == pytest.approx(1, abs=1e-4)
        assert p[int(row["guess"])] == max(p)
    images = sorted((folder / "images").iterdir())
    assert len(images) == 360
    row = rows[123]
    assert (folder / "images" / f"1 - 23 - {row['label']} - {row['guess']}.jpg").exists()


def test_small_data_sets_are_trained_for_a_thousand_steps(config, digits):
    feedforward.train(replace(config, epochs=None), digits)
    (path,) = config.run.out.rglob("metrics.jsonl")
    assert len(path.read_text().splitlines()) == 200, "epochs of five batches"


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_training_works_with_few_images(options, limit):
    data = load_images("digits", limit=limit)
    metrics = feedforward.train(Config(data="digits", epochs=1, run=options), data)
    assert 0 <= metrics["test_accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.data
def test_mnist_in_two_epochs(real_data, options):
    metrics = feedforward.train(Config(data="mnist", epochs=2, run=options))
    assert metrics["test_accuracy"] > 0.965
    assert metrics["test_worst_class_accuracy"] > 0.93
