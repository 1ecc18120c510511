"""The deep belief network: sampling through the stack, pretraining, fine-tuning with few labels, resuming."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ch03_autoencoder_rbm.boltzmann import dbn
from ch03_autoencoder_rbm.boltzmann.dbn import Config, Network
from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, ContrastiveDivergence, downwards, upwards
from common import checkpoint
from common.data.images.image_set import Split
from common.data.images.loading import load_images
from common.schedule import one_cycle
from conftest import train_until


@pytest.fixture
def config(options):
    return Config(data="digits", hidden_sizes=(20, 15), pretraining_epochs=2, epochs=3, run=options)


@pytest.fixture
def no_figures(monkeypatch):
    """Skip the figures, which take most of the time of a short run; one test checks them."""
    monkeypatch.setattr(dbn, "report", lambda *_: None)


def make_stack(*sizes, scale=1.0):
    torch.manual_seed(2)
    stack = [RBM(below, above) for below, above in pairwise(sizes)]
    for rbm in stack:
        for buffer in rbm.buffers():
            buffer.normal_(0, scale)
    return stack


def test_forward_equals_the_formula():
    torch.manual_seed(0)
    network = Network((7, 5)).double()
    x = torch.rand(4, 784).double()
    w1, b1, w2, b2, w3, b3 = network.parameters()
    h = 1 / (1 + torch.exp(-(x @ w1.T + b1)))
    expected = (1 / (1 + torch.exp(-(h @ w2.T + b2)))) @ w3.T + b3
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def test_the_network_is_initialised_from_the_stack():
    stack = make_stack(784, 9, 6, scale=0.1)
    network = Network((9, 6))
    network.start_from(stack)
    x = torch.rand(5, 784)
    first = stack[0].hidden_probability(x)
    torch.testing.assert_close(network.layers[0](x).sigmoid(), first)
    torch.testing.assert_close(network.layers[1](first).sigmoid(), stack[1].hidden_probability(first))
    assert network(x).abs().max() == 0, "all logits must be equal before fine-tuning"
    stack[0].weight.zero_()
    assert network.state_dict()["layers.0.weight"].abs().max() > 0, "the network shares memory with the stack"


def test_upwards_samples_states_and_downwards_returns_probabilities():
    stack = make_stack(12, 8, 5)
    v = torch.rand(50, 12).lt(0.5).float()
    h = upwards(stack, v)
    assert h.shape == (50, 5)
    assert set(h.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(upwards([], v), v)
    p = downwards(stack, h)
    assert p.shape == (50, 12)
    assert 0 < p.min() < p.max() < 1
    torch.testing.assert_close(downwards(stack[:1], v[:, :8]), stack[0].visible_probability(v[:, :8]))


def test_upwards_samples_from_the_conditional_distribution():
    stack = make_stack(6, 4)
    v = torch.rand(1, 6).lt(0.5).float()
    mean = upwards(stack, v.expand(20_000, 6)).mean(0)
    torch.testing.assert_close(mean, stack[0].hidden_probability(v)[0], rtol=0, atol=0.02)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_few_labels_are_repeated_to_the_size_of_the_training_split(digits):
    pixels, labels = dbn.few_labels(digits, 100, seeded(0))
    assert len(pixels) == len(labels) == 1257
    assert torch.equal(pixels[100:200], pixels[:100])
    assert torch.equal(pixels[1200:1257], pixels[:57])
    assert torch.equal(labels[100:200], labels[:100])
    assert len(pixels.flatten(1).unique(dim=0)) == 100
    for count in (None, 1257, 10_000):
        assert torch.equal(dbn.few_labels(digits, count, seeded(0))[1], digits.train.labels)


def test_few_labels_are_sampled_with_the_random_seed(digits):
    """Seeds determine the images; images keep their labels and come from the whole training split."""
    (pixels, labels), again, other = (dbn.few_labels(digits, 100, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(pixels, again[0]) and torch.equal(labels, again[1])
    for first, label in zip(pixels[:100], labels[:100], strict=True):
        matches = (digits.train.pixels == first).flatten(1).all(1)
        assert (digits.train.labels[matches] == label).all() and matches.any()
    shared = sum(bool((other[0][:100] == image).flatten(1).all(1).any()) for image in pixels[:100])
    assert shared < 30, "two samples of 100 of 1,257 images share 8 on average"
    known = {tuple(image.flatten().tolist()) for image in digits.train.pixels[:100]}
    assert sum(tuple(image.flatten().tolist()) in known for image in pixels[:100]) < 30, "the first images were used"


def test_accuracies_belong_to_the_networks_that_they_name(digits):
    """The accuracy of a network that always predicts one class is the frequency of the class."""
    count = digits.valid.labels.bincount()
    networks, expected = [], []
    for label in (count.argmax(), count.argmin()):
        network = Network((4,))
        network.output.load_state_dict({"weight": torch.zeros(10, 4), "bias": torch.eye(10)[label]})
        networks.append(network)
        expected.append(float(count[label] / count.sum()))
    metrics = dbn.measure(networks[0], networks[1], digits.valid)
    assert expected[0] > expected[1]
    assert [metrics["accuracy"], metrics["scratch_accuracy"]] == pytest.approx(expected)


@pytest.mark.parametrize("bf16", [False, True])
def test_training_overfits_one_batch(config, digits, bf16):
    torch.manual_seed(0)
    network = Network((50, 30))
    optimizer = dbn.make_optimizer(network, replace(config, learning_rate=1e-2))
    pixels, labels = dbn.intensities(digits.train.pixels[:64]), digits.train.labels[:64]
    train_until(
        lambda: dbn.accuracy(network, digits.train.pixels[:64], labels) == 1,
        lambda: dbn.tune_step(network, optimizer, pixels, labels, bf16=bf16),
        at_most=1_000,
    )
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.usefixtures("no_figures")
def test_each_rbm_is_trained_on_the_hidden_units_of_the_one_below(config, digits, monkeypatch):
    """Layers are trained in turn, each with a learning rate that decays to zero; the layers below do not change."""
    steps = []
    step = ContrastiveDivergence.step

    def record(learner, rbm, v0, learning_rate):
        steps.append((rbm, v0, learning_rate))
        return step(learner, rbm, v0, learning_rate)

    layers, initialise = [], dbn.initialise
    monkeypatch.setattr(dbn, "initialise", lambda stack, *rest: (layers.append(len(stack)), initialise(stack, *rest)))
    monkeypatch.setattr(ContrastiveDivergence, "step", record)
    dbn.train(replace(config, batch_size=500, pretraining_rate=0.6), digits)
    assert layers == [1, 2], "each RBM is initialised once, after the RBM below was trained"
    rbms = [rbm for rbm, *_ in steps]
    assert len(steps) == 12
    assert all(rbm is rbms[0] for rbm in rbms[:6])
    assert all(rbm is rbms[6] for rbm in rbms[6:])
    assert [v0.shape[1] for _, v0, _ in steps] == [784] * 6 + [20] * 6
    assert [learning_rate for *_, learning_rate in steps] == pytest.approx(2 * [0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    for _, v0, _ in steps:
        assert set(v0.unique().tolist()) == {0.0, 1.0}
    expected = rbms[0].hidden_probability(dbn.intensities(digits.train.pixels)).mean(0)
    inputs = torch.cat([v0 for _, v0, _ in steps[6:9]]).mean(0)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=0.08)


@pytest.mark.usefixtures("no_figures")
def test_both_networks_are_tuned_and_one_is_initialised_from_the_stack(config, digits, monkeypatch):
    """Compare weights before and after each epoch; both networks have the same learning rates."""
    epochs_seen, learning_rates, tune = [], [], dbn.tune

    def record(run, labelled, networks, epoch, epochs):
        before = [network.state_dict()["layers.1.weight"].clone() for network, _ in networks]
        tune(run, labelled, networks, epoch, epochs)
        after = [network.state_dict()["layers.1.weight"].clone() for network, _ in networks]
        epochs_seen.append((before, after))

    monkeypatch.setattr(dbn, "tune", record)
    monkeypatch.setattr(dbn, "set_learning_rate", lambda optimizer, rate: learning_rates.append(rate))
    dbn.train(replace(config, batch_size=500), digits)
    (path,) = config.run.out.rglob("checkpoint.pt")
    stack = torch.load(path, weights_only=True)["parts"]["stack"]
    (scratch, tuned), _ = epochs_seen[0]
    assert torch.equal(tuned, stack["1.weight"].T)
    assert not torch.equal(scratch, stack["1.weight"].T)
    for number in (0, 1):
        for before, after in epochs_seen:
            assert not torch.equal(before[number], after[number])
    assert learning_rates == [one_cycle(step, 9, config.learning_rate) for step in range(9) for _ in range(2)]


def test_visible_biases_are_initialised_from_mean_activations(digits):
    stack = make_stack(784, 10, 4, scale=0.05)
    learner = ContrastiveDivergence(stack[1])
    dbn.initialise(stack, learner, digits.train.pixels)
    activations = stack[0].hidden_probability(dbn.intensities(digits.train.pixels)).mean(0)
    torch.testing.assert_close(stack[1].visible_bias.sigmoid(), activations, rtol=0, atol=0.05)
    assert torch.equal(learner.visible_centre, stack[1].visible_bias.sigmoid())


@pytest.mark.usefixtures("no_figures")
def test_fine_tuning_uses_only_the_sampled_labels(config, digits, monkeypatch):
    """Changing all labels except those of the 50 sampled images gives bit-identical networks."""
    few_labels, sampled = dbn.few_labels, []

    def record(data, labels, generator):
        twin = torch.Generator()
        twin.set_state(generator.get_state())
        sampled.append(torch.randperm(len(data.train), generator=twin)[:labels])
        return few_labels(data, labels, generator)

    monkeypatch.setattr(dbn, "few_labels", record)
    first = dbn.train(replace(config, labels=50), digits)
    labels = (digits.train.labels + 1) % 10
    labels[sampled[0]] = digits.train.labels[sampled[0]]
    second = dbn.train(replace(config, labels=50), replace(digits, train=Split(digits.train.pixels, labels)))
    assert torch.equal(*sampled)
    assert first["test_accuracy"] == second["test_accuracy"]
    one, two = (dbn.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_training_learns_and_restores(config, digits):
    config = replace(config, hidden_sizes=(100, 50), pretraining_epochs=20, epochs=30, learning_rate=3e-3)
    metrics = dbn.train(config, digits)
    assert metrics["test_accuracy"] > 0.9
    assert metrics["test_scratch_accuracy"] > 0.85
    network, restored = dbn.restore(next(config.run.out.rglob("model.safetensors")).parent)
    assert restored == config
    assert dbn.accuracy(network, digits.test.pixels, digits.test.labels) == metrics["test_accuracy"]
    (folder,) = config.run.out.glob("*/dbn/*")
    for name in ("filters", "samples", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 70
    layers = [rows[:20], rows[20:40]]
    for number, layer in enumerate(layers, start=1):
        name = f"valid_pseudo_likelihood_{number}"
        assert layer[-1][name] > layer[0][name]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_an_interrupted_run_resumes_to_the_same_weights(config, digits, monkeypatch, stop_after):
    """Interrupt the training of the first RBM, of the second RBM, or the fine-tuning."""
    dbn.train(config, digits)
    save = checkpoint.save_checkpoint

    def stop(path, progress, *rest):
        if progress.epoch == stop_after:
            save(path, progress, *rest)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.run.save_checkpoint", stop)
        patch.setattr("common.run.CHECKPOINT_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            dbn.train(config, digits)
    dbn.train(replace(config, run=replace(config.run, resume=True)), digits)
    one, two = (torch.load(p, weights_only=True)["parts"] for p in sorted(config.run.out.rglob("checkpoint.pt")))
    for part in ("stack", "tuned", "scratch"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    one, two = (dbn.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("limit", [1, 5])
def test_training_works_with_few_images(config, limit):
    metrics = dbn.train(replace(config, epochs=1), load_images("digits", limit=limit))
    assert 0 <= metrics["test_accuracy"] <= 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_sizes", (), r"--hidden-sizes needs at least one layer, got \(\)"),
        ("hidden_sizes", (5, 0), "--hidden-sizes must be a number above 0, got 0"),
        ("labels", 0, "--labels must be a number above 0, got 0"),
        ("pretraining_rate", math.inf, "--pretraining-rate must be a number above 0, got inf"),
        ("momentum", -0.5, "--momentum must be at least 0 and below 1, got -0.5"),
    ],
)
def test_errors_of_invalid_settings_name_the_flag(field, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Config(**{field: value})
