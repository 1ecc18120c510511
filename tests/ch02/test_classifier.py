"""Backpropagation by hand, and the classifier by hand and with nn, which must give the same weights and results."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch02_nn import backprop, classifier, losses, schedules
from ch02_nn.activations import ACTIVATIONS
from ch02_nn.classifier import Classifier, Config
from ch02_nn.optimizers import OPTIMIZERS
from common.benchmark import Workload
from common.data.images.image_set import Split
from conftest import train_until


@pytest.fixture
def config(options):
    return Config(data="digits", epochs=3, run=options)


@pytest.fixture
def _no_figures(monkeypatch):
    monkeypatch.setattr(classifier, "report", lambda *_: None)


def by_autograd(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return [p.grad for p in model.parameters()]


def by_hand(model, x, labels):
    layers = [(w.detach(), b.detach()) for w, b in model.layers()]
    trace = backprop.forward(layers, x, model.activation)
    d = losses.cross_entropy_gradient(trace.pre_activations[-1], labels)
    return trace, [g for pair in backprop.backward(layers, trace, d, model.activation) for g in pair]


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"step"}))
@pytest.mark.parametrize("sizes", [(6, 3), (6, 5, 3), (6, 5, 4, 3)])
def test_gradients_by_hand_match_autograd(activation, sizes):
    torch.manual_seed(0)
    model = Classifier(sizes, activation).double()
    x, labels = torch.randn(7, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    trace, gradients = by_hand(model, x, labels)
    torch.testing.assert_close(trace.pre_activations[-1], model(x).detach(), rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(gradients, by_autograd(model, x, labels), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.integers(1, 9))
def test_gradients_by_hand_match_autograd_for_random_sizes(sizes, batch):
    model = Classifier(tuple(sizes), "tanh").double()
    x = torch.randn(batch, sizes[0], dtype=torch.float64)
    labels = torch.arange(batch) % sizes[-1]
    _, gradients = by_hand(model, x, labels)
    for ours, theirs in zip(gradients, by_autograd(model, x, labels), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 5).double(), r"layer 1 needs inputs of shape \(B, 6\), got \(2, 5\)"),
        (torch.zeros(6).double(), r"layer 1 needs inputs of shape \(B, 6\), got \(6,\)"),
        (torch.zeros(2, 6), "layer 1 needs inputs of dtype torch.float64, got torch.float32"),
    ],
)
def test_errors_of_wrong_inputs(x, message):
    model = Classifier((6, 3)).double()
    with pytest.raises(ValueError, match=message):
        backprop.forward(model.layers(), x, model.activation)


def test_error_of_a_gradient_with_a_wrong_shape():
    model = Classifier((6, 3)).double()
    trace = backprop.forward(model.layers(), torch.zeros(2, 6).double(), model.activation)
    with pytest.raises(ValueError, match=r"the gradient must have the shape of the logits, \(2, 3\), got \(3,\)"):
        backprop.backward(model.layers(), trace, torch.zeros(3).double(), model.activation)


@pytest.mark.parametrize("model", ["softmax", "mlp"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw", "rmsprop"])
def test_steps_by_hand_and_with_nn_give_the_same_weights(config, digits, model, optimizer):
    config = replace(config, model=model, optimizer=optimizer, hidden_size=16, weight_decay=0.01)
    networks = []
    for by, step in (("nn", classifier.train_step), ("hand", classifier.hand_step)):
        torch.manual_seed(3)
        network = classifier.make_model(config).double()
        rule = classifier.make_optimizer(network, replace(config, by=by))
        for first in range(0, 320, 32):
            pixels = classifier.scaled(digits.train.pixels[first : first + 32]).double()
            loss = step(network, rule, pixels, digits.train.labels[first : first + 32])
        networks.append((network, loss))
    for ours, theirs in zip(networks[0][0].parameters(), networks[1][0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        assert theirs.grad is None, "the next step would add to this gradient"
    torch.testing.assert_close(networks[0][1], networks[1][1])


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(("by", "other"), [("nn", "hand_step"), ("hand", "train_step")])
def test_training_uses_the_step_and_optimizer_of_by(config, digits, by, other, monkeypatch):
    config = replace(config, by=by, epochs=1, batch_size=500)
    monkeypatch.setattr(classifier, other, lambda *_, **__: pytest.fail(f"called {other}"))
    classifier.train(config, digits)
    rule = classifier.make_optimizer(classifier.make_model(config), config)
    assert type(rule) is (torch.optim.Adam if by == "nn" else OPTIMIZERS["adam"])


@pytest.mark.parametrize("by", ["nn", "hand"])
def test_one_batch_can_be_overfitted(config, digits, by):
    torch.manual_seed(0)
    config = replace(config, by=by)
    model = classifier.make_model(config)
    optimizer = classifier.make_optimizer(model, config)
    step = classifier.hand_step if by == "hand" else classifier.train_step
    pixels, labels = classifier.scaled(digits.train.pixels[:64]), digits.train.labels[:64]
    train_until(
        lambda: torch.equal(model(pixels).argmax(1), labels),
        lambda: step(model, optimizer, pixels, labels),
        at_most=500,
    )


@pytest.mark.usefixtures("_no_figures")
def test_training_by_hand_and_with_nn_gives_the_same_metrics(config, digits):
    metrics = [classifier.train(replace(config, by=by), digits) for by in ("nn", "hand")]
    assert metrics[0]["test_accuracy"] > 0.85
    assert metrics[0]["test_accuracy"] == pytest.approx(metrics[1]["test_accuracy"], abs=0.01)
    assert metrics[0]["test_loss"] == pytest.approx(metrics[1]["test_loss"], rel=1e-3)


def test_training_is_repeatable_and_restorable(config, digits):
    first, second = classifier.train(config, digits), classifier.train(config, digits)
    folders = [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]
    one, two = (classifier.restore(folder)[0] for folder in folders)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert first["test_loss"] == second["test_loss"]
    logits = classifier.predict(one, digits.test.pixels)
    assert classifier.measure(logits, digits.test.labels)["accuracy"] == pytest.approx(first["test_accuracy"])
    assert classifier.restore(folders[0])[1] == config
    drawn = {"confusion.png", "curves.png", "weights.png", "mistakes.png"}
    assert drawn <= {path.name for path in folders[0].iterdir()}


def test_worst_mistakes_are_misclassified_images_with_the_largest_loss_first():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 5.0], [1.0, 0.0], [0.0, 3.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert classifier.worst_mistakes(logits, labels).tolist() == [2, 1, 3]
    assert classifier.worst_mistakes(logits, labels, count=1).tolist() == [2]
    assert classifier.worst_mistakes(logits, logits.argmax(1)).tolist() == []


@pytest.mark.usefixtures("_no_figures")
def test_weights_do_not_depend_on_the_test_set(config, digits):
    config = replace(config, model="softmax", epochs=1)
    inverted = replace(digits, test=Split(255 - digits.test.pixels, digits.test.labels.flip(0)))
    for data in (digits, inverted):
        classifier.train(config, data)
    one, two = (classifier.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize("by", ["nn", "hand"])
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_run(config, digits, by, monkeypatch):
    config = replace(config, by=by, optimizer="adam")
    classifier.train(config, digits)
    calls, set_rate = [], classifier.set_learning_rate

    def stop_in_the_last_epoch(optimizer, rate):
        calls.append(rate)
        if len(calls) == 45:
            raise KeyboardInterrupt
        set_rate(optimizer, rate)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(classifier, "set_learning_rate", stop_in_the_last_epoch)
    with pytest.raises(KeyboardInterrupt):
        classifier.train(config, digits)
    monkeypatch.setattr(classifier, "set_learning_rate", set_rate)
    classifier.train(replace(config, run=replace(config.run, resume=True)), digits)
    one, two = (classifier.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one-cycle", "warm-up"])
def test_the_learning_rate_follows_the_schedule(config, digits, schedule, monkeypatch):
    seen = []
    monkeypatch.setattr(classifier, "set_learning_rate", lambda optimizer, rate: seen.append(rate))
    classifier.train(replace(config, epochs=2, batch_size=400, schedule=schedule), digits)
    assert seen == [schedules.SCHEDULES[schedule](step, 8, config.learning_rate) for step in range(8)]


@pytest.mark.usefixtures("_no_figures")
def test_with_zero_weights_all_hidden_units_stay_equal(config, digits):
    classifier.train(replace(config, initialisation="zeros", activation="sigmoid"), digits)
    (path,) = config.run.out.rglob("model.safetensors")
    weight = classifier.restore(path.parent)[0].layers()[0][0]
    assert (weight - weight[:1]).abs().max().item() < 1e-6, "the rows differ"


@pytest.mark.usefixtures("_no_figures")
def test_small_data_sets_are_trained_for_a_thousand_steps(config, digits):
    classifier.train(replace(config, epochs=None, model="softmax"), digits)
    (path,) = config.run.out.rglob("metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 50, "50 epochs of 20 batches"
    assert rows[0]["learning_rate"] > rows[-1]["learning_rate"] > 0


def test_workload_steps_decrease_the_loss(config):
    for by in ("nn", "hand"):
        work = classifier.workload(replace(config, by=by), torch.device("cpu"))
        assert isinstance(work, Workload)
        losses_seen = [work.step() for _ in range(30)]
        assert isinstance(losses_seen[0], torch.Tensor) and isinstance(losses_seen[-1], torch.Tensor)
        assert losses_seen[-1].item() < losses_seen[0].item()
        assert work.items == config.batch_size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "--hidden-size must be a number above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a number above 0"),
        ({"weight_decay": 1.0}, "--weight-decay must be at least 0 and below 1"),
    ],
)
def test_errors_of_values_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_by_hand_needs_fp32(options):
    with pytest.raises(ValueError, match="--by hand needs --precision fp32, got bf16"):
        Config(by="hand", run=replace(options, precision="bf16"))


def test_bf16_applies_to_the_forward_pass(config, digits):
    seen = []
    model = classifier.make_model(config)
    model.linears[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    optimizer = classifier.make_optimizer(model, config)
    pixels, labels = classifier.scaled(digits.train.pixels[:8]), digits.train.labels[:8]
    for bf16 in (True, False):
        classifier.train_step(model, optimizer, pixels, labels, bf16=bf16)
    assert seen == [torch.bfloat16, torch.float32]
