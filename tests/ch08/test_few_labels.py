"""Few labels: labelled images, weight normalisation, losses of the GAN, bounds of M2, and both programs."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from ch08_vae.autoencoding.networks import kl_divergence, log_bernoulli
from ch08_vae.few_labels import baselines, figures, labelled, losses, m2
from ch08_vae.few_labels import semi_supervised_gan as gan
from ch08_vae.few_labels import semi_supervised_vae as vae
from ch08_vae.few_labels.networks import Classifier, GaussianNoise, make_generator
from ch08_vae.few_labels.weight_norm import WeightNormLinear
from ch08_vae.preprocessing import flat
from common.data.images.image_set import Split
from common.data.images.loading import load_images
from common.run import Run
from common.schedule import set_learning_rate
from conftest import train_until

PROGRAMS = pytest.mark.parametrize("program", [gan, vae], ids=["gan", "vae"])


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Shorten the training of the baselines."""
    monkeypatch.setattr(baselines, "STEPS", 5)
    monkeypatch.setattr(baselines, "PENALTIES", (1.0,))


# The labelled images.


@pytest.mark.parametrize("count", [10, 100, 123])
def test_labelled_images_are_balanced_and_the_others_are_unlabelled(digits, count):
    few = labelled.few_labels(digits, count, seed=3)
    counts = few.labelled.labels.bincount(minlength=10)
    assert counts.sum() == count
    assert counts.max() - counts.min() <= 1
    assert len(few.unlabelled) == len(digits.train) - count
    every = {tuple(image.flatten().tolist()) for image in digits.train.pixels}
    parts = [{tuple(image.flatten().tolist()) for image in part} for part in (few.labelled.pixels, few.unlabelled)]
    assert parts[0] | parts[1] == every
    truth = {
        tuple(image.flatten().tolist()): int(label)
        for image, label in zip(digits.train.pixels, digits.train.labels, strict=True)
    }
    for image, label in zip(few.labelled.pixels, few.labelled.labels, strict=True):
        assert truth[tuple(image.flatten().tolist())] == label


def test_the_sample_depends_on_the_seed_only(digits):
    torch.manual_seed(1)
    one = labelled.few_labels(digits, 50, seed=4)
    torch.manual_seed(2)
    two, other = labelled.few_labels(digits, 50, seed=4), labelled.few_labels(digits, 50, seed=5)
    assert torch.equal(one.labelled.pixels, two.labelled.pixels)
    assert not torch.equal(one.labelled.pixels, other.labelled.pixels)


def test_every_image_of_a_class_can_be_sampled():
    labels = torch.arange(40) % 10
    generator = torch.Generator().manual_seed(0)
    seen = {int(row) for _ in range(60) for row in labelled.sample_rows(labels, 10, generator)}
    assert seen == set(range(40))


def test_a_labelled_batch_has_no_image_twice(digits):
    few = labelled.few_labels(digits, 20, seed=0)
    generator = torch.Generator().manual_seed(0)
    pixels, labels = labelled.labelled_batch(few.labelled, 50, generator)
    assert len(pixels) == 20
    assert sorted(labels.tolist()) == few.labelled.labels.tolist()
    drawn = [labelled.labelled_batch(few.labelled, 5, generator)[1] for _ in range(40)]
    assert len({tuple(part.tolist()) for part in drawn}) > 10
    assert set(torch.cat(drawn).tolist()) == set(range(10))


@PROGRAMS
def test_bad_numbers_of_labels_are_rejected(program, options):
    with pytest.raises(ValueError, match="--labels must be at least 10, one for each class, got 9"):
        program.Config(labels=9)
    few = load_images("digits", limit=60)
    message = "--labels must be below the number of training images, 60, got 60"
    with pytest.raises(ValueError, match=message):
        program.train(program.Config(data="digits", labels=60, run=options), few)
    message = "--labels 50 needs 5 training images of class [0-9], got [0-4] of 60 images"
    with pytest.raises(ValueError, match=message):
        program.train(program.Config(data="digits", labels=50, run=options), few)


# Weight normalisation.


def test_weight_normalisation_equals_that_of_torch():
    torch.manual_seed(0)
    ours = WeightNormLinear(7, 5).double()
    with torch.no_grad():
        ours.g.uniform_(0.5, 2)
        ours.b.normal_()
    reference: Any = parametrizations.weight_norm(nn.Linear(7, 5).double())
    with torch.no_grad():
        reference.parametrizations.weight.original0.copy_(ours.g.unsqueeze(1))
        reference.parametrizations.weight.original1.copy_(ours.v)
        reference.bias.copy_(ours.b)
    pairs = [
        (ours.v, reference.parametrizations.weight.original1),
        (ours.g, reference.parametrizations.weight.original0),
        (ours.b, reference.bias),
    ]
    optimizers = [torch.optim.SGD(module.parameters(), 0.1) for module in (ours, reference)]
    x, target = torch.randn(11, 7, dtype=torch.double), torch.randn(11, 5, dtype=torch.double)
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-12, atol=1e-12)
    for module, optimizer in zip((ours, reference), optimizers, strict=True):
        F.mse_loss(module(x), target).backward()
        optimizer.step()
    for one, two in pairs:
        assert one.grad is not None
        torch.testing.assert_close(one.grad.view_as(two), two.grad, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(one.view_as(two), two, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-12, atol=1e-12)


def test_data_dependent_initialisation_standardises_every_output():
    torch.manual_seed(0)
    layer, x = WeightNormLinear(20, 6).double(), 3 + 2 * torch.randn(50, 20, dtype=torch.double)
    outputs = layer.initialise(x)
    torch.testing.assert_close(layer(x), outputs)
    torch.testing.assert_close(outputs.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(outputs.var(0, correction=0), torch.ones(6).double(), rtol=1e-12, atol=1e-12)
    again = layer.initialise(x)
    torch.testing.assert_close(again, outputs), "the initialisation does not depend on earlier g and b"


def test_all_layers_of_the_classifier_are_initialised(digits):
    torch.manual_seed(0)
    network = Classifier(input_noise=0.0, hidden_noise=0.0)
    x = flat(digits.train.pixels[:200])
    network.initialise(x)
    hidden = x
    for layer in (*network.hidden, network.output):
        outputs = layer(hidden)
        torch.testing.assert_close(outputs.std(0, correction=0), torch.ones(outputs.shape[1]), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(outputs.mean(0), torch.zeros(outputs.shape[1]), rtol=0, atol=1e-4)
        hidden = outputs.relu()
    logits, _ = network(x)
    torch.testing.assert_close(logits, outputs)


# The classifier.


@pytest.mark.parametrize("rows", [200, 2_000], ids=["from the pool", "generated"])
def test_noise_has_its_deviation_and_vanishes_in_evaluation(rows):
    torch.manual_seed(0)
    noise = GaussianNoise()
    x = torch.full((rows, 784), 5.0)
    first, second = noise(x, 0.3), noise(x, 0.3)
    for noisy in (first, second):
        assert float(noisy.mean()) == pytest.approx(5, abs=0.01)
        assert float(noisy.std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(((first - 5) * (second - 5)).mean())) < 0.001, "the noise of two calls is uncorrelated"
    assert noise(x.bfloat16(), 0.3).dtype == torch.bfloat16
    assert torch.equal(noise.eval()(x, 0.3), x)


def test_the_classifier_is_noisy_in_training_only():
    torch.manual_seed(0)
    network, x = Classifier(), torch.zeros(3, 784)
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


def test_features_are_the_last_hidden_layer_before_the_noise():
    torch.manual_seed(0)
    quiet = Classifier(input_noise=0.0, hidden_noise=0.0)
    logits, features = quiet(torch.rand(4, 784))
    torch.testing.assert_close(quiet.output(features), logits)
    loud = Classifier(input_noise=0.0, hidden_noise=2.0)
    _, features = loud(torch.rand(50, 784))
    assert float(features.detach().min()) == 0, "noise after the ReLU would give negative features"


def test_every_layer_receives_the_noise(monkeypatch):
    seen = []
    network = Classifier()
    monkeypatch.setattr(network.noisy, "forward", lambda x, deviation: seen.append((x.shape[1], deviation)) or x)
    network(torch.rand(3, 784))
    assert seen == [(784, 0.3), (1000, 0.5), (500, 0.5), (250, 0.5), (250, 0.5), (250, 0.5)]


# The losses.


def test_the_loss_equals_a_softmax_over_k_plus_1_logits():
    torch.manual_seed(0)
    on_labelled, on_real, on_generated = (4 * torch.randn(6, 10, dtype=torch.double) for _ in range(3))
    labels = torch.arange(6)

    def explicit(logits):
        return F.pad(logits, (0, 1)).softmax(1)  # the last logit is 0

    known = explicit(on_labelled)[:, :10] / explicit(on_labelled)[:, :10].sum(1, keepdim=True)
    expected = -known[torch.arange(6), labels].log().mean()
    torch.testing.assert_close(losses.class_loss(on_labelled, labels), expected)
    d_real, d_generated = 1 - explicit(on_real)[:, 10], 1 - explicit(on_generated)[:, 10]
    expected = -d_real.log().mean() / 2 - (1 - d_generated).log().mean() / 2
    torch.testing.assert_close(losses.discriminator_loss(on_real, on_generated), expected)
    torch.testing.assert_close(losses.real_probability(on_real), d_real)


def test_the_loss_is_finite_for_large_logits():
    large = torch.full((2, 10), 1e4)
    assert float(losses.discriminator_loss(large, -large)) == 0
    assert float(losses.discriminator_loss(-large, large)) == pytest.approx(1e4, rel=1e-3)


def test_the_gradient_of_feature_matching_by_hand():
    torch.manual_seed(0)
    real = torch.randn(5, 4, dtype=torch.double)
    generated = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    loss = losses.feature_matching_loss(real, generated)
    difference = real.mean(0) - generated.detach().mean(0)
    assert float(loss.detach()) == pytest.approx(float((difference**2).sum()))
    (gradient,) = torch.autograd.grad(loss, generated)
    torch.testing.assert_close(gradient, (-2 / 3 * difference).expand(3, 4))
    assert float(losses.feature_matching_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))) == 5


# The semi-supervised GAN.


@pytest.fixture
def gan_config(options):
    return gan.Config(data="digits", epochs=2, batch_size=64, run=replace(options, limit=300))


def make_gan(config, x):
    torch.manual_seed(0)
    networks = gan.Networks(config)
    networks.initialise(x)
    optimizers = gan.make_optimizers(networks)
    for optimizer in optimizers:
        set_learning_rate(optimizer, 3e-3)
    return networks, optimizers


def test_each_network_gets_the_gradient_of_its_own_loss(digits):
    """Gradients of one step in float64, with separate passes for each loss."""
    config = gan.Config(input_noise=0.0, hidden_noise=0.0)
    x = flat(digits.train.pixels[:40])
    networks, _ = make_gan(config, x)
    networks.double()
    taken = {}

    class Recorder:
        def __init__(self, name, module):
            weights = [p for p in module.parameters() if p.requires_grad]
            self.name, self.param_groups = name, [{"params": weights}]

        def step(self):
            taken[self.name] = [p.grad.clone() for p in self.param_groups[0]["params"]]

        def zero_grad(self):
            for p in self.param_groups[0]["params"]:
                p.grad = None

    recorders: Any = Recorder("classifier", networks.classifier), Recorder("generator", networks.generator)
    labels, x = torch.arange(10), x.double()
    with pytest.MonkeyPatch.context() as patch:
        noise = torch.rand(30, 100, dtype=torch.double)
        patch.setattr(torch, "rand", lambda *_, **__: noise)
        loss, matching = gan.train_step(networks, recorders, x[:10], labels, x[10:], unlabelled_weight=0.7)
    classifier, generator = networks.classifier, networks.generator
    assert all(p.grad is None for p in networks.parameters())

    generated = generator(noise)
    (on_labelled, _), (on_real, of_real) = classifier(x[:10]), classifier(x[10:])
    on_generated, of_generated = classifier(generated.detach())
    expected = F.cross_entropy(on_labelled, labels)
    expected = expected - 0.35 * (losses.real_probability(on_real).log().mean())
    expected = expected - 0.35 * (1 - losses.real_probability(on_generated)).log().mean()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-9)
    weights = recorders[0].param_groups[0]["params"]
    for one, two in zip(taken["classifier"], torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
    _, of_generated = classifier(generated)
    expected = (of_real.mean(0) - of_generated.mean(0)).square().sum()
    assert float(matching) == pytest.approx(float(expected.detach()), rel=1e-12)
    for one, two in zip(taken["generator"], torch.autograd.grad(expected, list(generator.parameters())), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_the_lengths_of_hidden_weights_are_not_trained(digits):
    config = gan.Config(batch_size=20)
    x = flat(digits.train.pixels[:30])
    networks, optimizers = make_gan(config, x)
    layers: Any = networks.classifier.hidden
    before = [layer.g.clone() for layer in layers]
    length = networks.classifier.output.g.clone()
    gan.train_step(networks, optimizers, x[:10], digits.train.labels[:10], x[10:])
    assert all(torch.equal(a, layer.g) for a, layer in zip(before, layers, strict=True))
    assert not torch.equal(length, networks.classifier.output.g)


def test_one_batch_is_learned(digits):
    """The labelled images are classified, and D separates real from generated images."""
    config = gan.Config(input_noise=0.1, hidden_noise=0.1)
    few = labelled.few_labels(digits, 20, seed=0)
    x, labels = flat(few.labelled.pixels), few.labelled.labels
    unlabelled = flat(few.unlabelled[:40])
    networks, optimizers = make_gan(config, unlabelled)
    steps = []

    def step():
        steps.append(gan.train_step(networks, optimizers, x, labels, unlabelled))
        networks.average(len(steps), config.averaging)

    def learned():
        logits, _ = networks.averaged(x)
        return bool((logits.argmax(1) == labels).all()) and float(losses.class_loss(logits, labels).detach()) < 0.1

    train_until(learned, step, at_most=400)
    measures = gan.monitor(networks, few.labelled, few)
    assert measures["error"] == 0
    assert measures["labelled_loss"] < 0.1
    assert 0 < measures["generated"] < 1


def test_the_generator_decreases_the_feature_matching_loss(digits):
    config = gan.Config(input_noise=0.0, hidden_noise=0.0)
    x = flat(digits.train.pixels[:100])
    networks, optimizers = make_gan(config, x)
    optimizers[0].param_groups[0]["lr"] = 0.0  # a fixed classifier
    matching = []

    def step():
        matching.append(float(gan.train_step(networks, optimizers, x[:10], digits.train.labels[:10], x)[1]))

    train_until(lambda: matching[-1] < matching[0] / 10, step, at_most=300)


def test_the_average_starts_at_the_initialised_weights(digits):
    networks, _ = make_gan(gan.Config(), flat(digits.train.pixels[:20]))
    for mean, weight in zip(networks.averaged.parameters(), networks.classifier.parameters(), strict=True):
        assert torch.equal(mean, weight)
        assert mean is not weight
        assert not mean.requires_grad


def test_the_average_forgets_the_first_weights_soon(digits):
    networks, _ = make_gan(gan.Config(), flat(digits.train.pixels[:20]))
    (averaged, weight) = networks.averaged.output.b, networks.classifier.output.b
    with torch.no_grad():
        weight.fill_(1.0)
        averaged.zero_()
    networks.average(1, decay=0.9)
    torch.testing.assert_close(averaged, torch.full((10,), 10 / 11))
    with torch.no_grad():
        averaged.zero_()
    networks.average(1_000, decay=0.9)
    torch.testing.assert_close(averaged, torch.full((10,), 0.1))


def test_the_learning_rate_decays_in_the_second_half():
    rates = [gan.learning_rate(step, 10, 0.5) for step in range(10)]
    assert rates == pytest.approx([0.5] * 6 + [0.4, 0.3, 0.2, 0.1])


@pytest.mark.usefixtures("_weights_only")
def test_the_learning_rate_depends_on_the_size_of_the_data_set(gan_config, monkeypatch):
    used = []
    monkeypatch.setattr(gan, "set_learning_rate", lambda _, rate: used.append(rate))
    config, data = replace(gan_config, labels=20, epochs=1), load_images("digits", limit=100)
    gan.train(config, data)
    gan.train(replace(config, learning_rate=0.01), data)
    monkeypatch.setattr(gan, "SMALL", 80)
    gan.train(config, data)
    assert used[::4] == [1e-3, 0.01, 3e-3], "two steps of two optimizers in each run"


def test_generated_images_have_the_range_of_the_pixels():
    torch.manual_seed(0)
    generator = make_generator()
    noise = torch.rand(50, 100)
    before = [buffer.clone() for buffer in generator.buffers()]
    images = gan.generate(generator, noise)
    assert images.shape == (50, 784)
    assert 0 <= images.min() <= images.max() <= 1
    assert generator.training
    assert all(torch.equal(a, b) for a, b in zip(before, generator.buffers(), strict=True))


# M2.


def make_m2():
    torch.manual_seed(0)
    return m2.M2(latent_size=3, hidden_size=8).double()


def test_the_encoder_and_decoder_receive_class_and_pixels_concatenated():
    model = make_m2()
    x, z, y = torch.rand(4, 784).double(), torch.randn(4, 3).double(), m2.one_hot(torch.tensor([1, 5, 9, 0])).double()
    weight = torch.cat([model.encode_pixels.weight, model.encode_class.weight], dim=1)
    both = F.linear(torch.cat([x, y], dim=1), weight, model.encode_pixels.bias)
    mu, logvar = model.encode(x, y)
    torch.testing.assert_close(torch.cat([mu, logvar], dim=1), model.encoder(both))
    weight = torch.cat([model.decode_latent.weight, model.decode_class.weight], dim=1)
    both = F.linear(torch.cat([z, y], dim=1), weight, model.decode_latent.bias)
    torch.testing.assert_close(model.decode(z, y), model.decoder(both))


@torch.no_grad()
def test_the_unlabelled_bound_equals_the_sum_over_classes(monkeypatch):
    model = make_m2()
    x = torch.rand(5, 784).round().double()
    epsilon = torch.randn(3).double()
    monkeypatch.setattr(torch, "randn_like", lambda like: epsilon.to(like.dtype).expand_as(like))
    logits = model.classify(x)
    found = m2.unlabelled_bound(m2.bound_of_class(model, x, m2.every_class(x.device).double()), logits)
    for image in range(5):
        q = logits[image].softmax(0)
        total = 0.0
        for label in range(10):
            y = m2.one_hot(torch.tensor([label])).double()
            mu, logvar = model.encode(x[image : image + 1], y)
            z = mu + (logvar / 2).exp() * epsilon
            reconstruction = log_bernoulli(model.decode(z.double(), y), x[image : image + 1])
            bound = reconstruction + math.log(1 / 10) - kl_divergence(mu, logvar).sum()
            total += float(q[label] * (bound.squeeze() - q[label].log()))
        assert float(found[image]) == pytest.approx(total, rel=1e-12)


def test_the_unlabelled_bound_is_log_sum_exp_for_the_best_q():
    """U(x) is largest for q(y | x) proportional to exp L(x, y), where it is log sum_y exp L(x, y)."""
    torch.manual_seed(0)
    bounds = torch.randn(10, 4, dtype=torch.double)
    best = m2.unlabelled_bound(bounds, bounds.T)
    torch.testing.assert_close(best, bounds.logsumexp(0))
    assert (m2.unlabelled_bound(bounds, torch.randn(4, 10).double()) < best).all()


def test_the_loss_of_m2_is_the_weighted_sum_of_its_terms(monkeypatch):
    model = make_m2().float()
    x, labels = torch.rand(6, 784).round(), torch.tensor([3, 7])
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    logits = model.classify(x)
    labelled_part = m2.bound_of_class(model, x[:2], m2.one_hot(labels)).mean()
    bounds = m2.bound_of_class(model, x[2:], m2.every_class(x.device))
    unlabelled_part = m2.unlabelled_bound(bounds, logits[2:]).mean()
    classification = F.cross_entropy(logits[:2], labels)
    expected = -unlabelled_part - 0.25 * labelled_part + 3 * classification
    config = vae.Config(latent_size=3, hidden_size=8)
    before = [p.detach().clone() for p in model.parameters()]
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    optimizer = vae.make_optimizer(model, config)
    loss, of_labels = vae.train_step(model, optimizer, x[:2], labels, x[2:], labelled_share=0.25, alpha=3.0)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(of_labels) == pytest.approx(float(classification.detach()), rel=1e-5)
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        big = g.abs() > 1e-4  # the sign of smaller ones depends on rounding
        torch.testing.assert_close(new.detach()[big], (old - 3e-3 * g.sign())[big], rtol=1e-3, atol=3e-5)
    assert all(p.grad is None for p in model.parameters())


def test_m2_learns_one_batch(digits):
    few = labelled.few_labels(digits, 20, seed=0)
    x, labels = flat(few.labelled.pixels).round(), few.labelled.labels
    unlabelled = flat(few.unlabelled[:20]).round()
    config = vae.Config(latent_size=5, hidden_size=64, learning_rate=3e-3)
    torch.manual_seed(0)
    model = vae.make_model(config)
    optimizer = vae.make_optimizer(model, config)
    found = []

    def step():
        found.append(vae.train_step(model, optimizer, x, labels, unlabelled, labelled_share=1.0, alpha=50.0))

    train_until(lambda: float(found[-1][0]) < 300 and float(found[-1][1]) < 0.05, step, at_most=600)
    assert float(found[0][0]) > 600
    assert bool((model.classify(x).argmax(1) == labels).all())


def test_analogies_keep_the_style_and_change_the_class():
    model = make_m2().float()
    x = torch.rand(3, 784)
    found = vae.analogies(model, x)
    assert found.shape == (3, 10, 784)
    y = m2.one_hot(model.classify(x).argmax(1))
    mu, _ = model.encode(x, y)
    for label in range(10):
        other = m2.one_hot(torch.full((3,), label))
        torch.testing.assert_close(found[:, label], model.decode(mu, other).sigmoid())


# Baselines and figures.


def test_the_plain_network_learns_the_labelled_images(digits, monkeypatch):
    monkeypatch.setattr(baselines, "STEPS", 60)
    few = labelled.few_labels(digits, 20, seed=0)
    torch.manual_seed(0)
    network = m2.M2(2, 64)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    baselines.fit_network(network, network.classify, few.labelled, flat)
    assert not network.training
    assert baselines.accuracy(network.classify, few.labelled, torch.device("cpu")) > 0.9
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("classifier") for name in changed)


def test_scikit_learn_baselines_are_tuned_on_validation_images(digits, monkeypatch):
    few = labelled.few_labels(digits, 100, seed=0)
    found = baselines.fit_scikit_learn(few.labelled, digits)
    assert found["logistic_accuracy"] > 0.7
    assert found["neighbours_accuracy"] > 0.7
    nearest = torch.cdist(flat(digits.test.pixels), flat(few.labelled.pixels)).argmin(1)
    expected = float((few.labelled.labels[nearest] == digits.test.labels).float().mean())
    monkeypatch.setattr(baselines, "NEIGHBOURS", (1, 500))
    assert baselines.fit_scikit_learn(few.labelled, digits)["neighbours_accuracy"] == pytest.approx(expected)
    # validation labels for which a constant is best
    zeros = Split(digits.valid.pixels, torch.zeros_like(digits.valid.labels))
    monkeypatch.setattr(baselines, "NEIGHBOURS", (1, 100))
    constant = baselines.fit_scikit_learn(few.labelled, replace(digits, valid=zeros))["neighbours_accuracy"]
    assert constant == pytest.approx(float((digits.test.labels == 0).float().mean()))


def test_accuracy_and_predictions(digits):
    def logits(x):
        return x[:, :10]

    expected = flat(digits.test.pixels)[:, :10].argmax(1)
    device = torch.device("cpu")
    assert torch.equal(baselines.predict(logits, digits.test, device), expected)
    assert baselines.accuracy(logits, digits.test, device) == float((expected == digits.test.labels).float().mean())


def test_figures_show_classes_and_errors(digits):
    few = labelled.few_labels(digits, 23, seed=0)
    (axes,) = figures.draw_labelled(few, digits.class_names).axes
    assert axes.get_title() == "labelled images"
    sheet = axes.images[0].get_array()
    assert sheet is not None
    assert sheet.shape == (10 * 29 - 1, 3 * 29 - 1)
    assert sheet[:, 58:][29 * 3 :].min() == 1, "classes 3 to 9 have two images"
    assert sheet[:, 58:][: 29 * 3].min() == 0
    predicted = digits.test.labels.clone()
    assert figures.draw_errors(digits.test, predicted, digits.class_names) is None
    predicted[5] = (predicted[5] + 1) % 10
    figure = figures.draw_errors(digits.test, predicted, digits.class_names)
    assert figure is not None
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [f"{digits.test.labels[5]} as {predicted[5]}"]


# Both programs.


@pytest.fixture
def small(options):
    run = replace(options, limit=200)
    return {
        gan: gan.Config(data="digits", labels=20, epochs=3, batch_size=90, run=run),
        vae: vae.Config(data="digits", labels=20, epochs=3, latent_size=4, hidden_size=16, batch_size=90, run=run),
    }


@pytest.fixture
def _weights_only(monkeypatch):
    """Train without evaluation on the test set and without figures."""
    for program in (gan, vae):
        monkeypatch.setattr(program, "report", lambda *_: None)
        monkeypatch.setattr(program, "evaluate", lambda *_: {})


@PROGRAMS
def test_a_resumed_run_has_the_same_weights(program, small, monkeypatch):
    config = small[program]
    data = load_images("digits", limit=200)
    whole = program.train(config, data)
    (reference,) = config.run.out.rglob("model.safetensors")
    elsewhere = replace(config, run=replace(config.run, out=config.run.out / "again"))
    log = Run.log

    def stop(run, **measures):
        if len(run.history) == 2:
            raise KeyboardInterrupt
        log(run, **measures)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Run, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        program.train(elsewhere, data)
    monkeypatch.setattr(Run, "log", log)
    again = program.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)), data)
    (resumed,) = elsewhere.run.out.rglob("model.safetensors")
    assert resumed.read_bytes() == reference.read_bytes()
    for name in ("accuracy", "plain_accuracy", "logistic_accuracy", "neighbours_accuracy"):
        assert again[f"test_{name}"] == whole[f"test_{name}"]
    restored, restored_config = program.restore(resumed.parent)
    assert restored_config.labels == 20
    assert not restored.training
    for name in ("labelled", "errors", "curves", "generated" if program is gan else "analogies"):
        assert (resumed.parent / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    classify = (lambda x: restored(x)[0]) if program is gan else restored.classify
    assert baselines.accuracy(classify, data.test, torch.device("cpu")) == pytest.approx(whole["test_accuracy"])


@PROGRAMS
@pytest.mark.usefixtures("_weights_only")
def test_hidden_labels_and_test_images_are_not_used(program, small):
    """Other labels of the unlabelled images, and another test set, give the same weights."""
    config = replace(small[program], epochs=1)
    data = load_images("digits", limit=200)
    rows = labelled.sample_rows(data.train.labels, 20, torch.Generator().manual_seed(config.run.seed))
    weights = []
    for other in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if other:
                hidden = data.train.labels.flip(0)
                hidden[rows] = data.train.labels[rows]
                patch.setattr(labelled, "sample_rows", lambda *_: rows)
                data = replace(data, train=Split(data.train.pixels, hidden), test=data.test[:50])
            program.train(config, data)
    for path in sorted(config.run.out.rglob("model.safetensors")):
        weights.append(path.read_bytes())
    assert weights[0] == weights[1]


@PROGRAMS
@pytest.mark.usefixtures("_weights_only")
def test_another_seed_has_other_labelled_images_and_weights(program, small):
    config = replace(small[program], epochs=1)
    data = load_images("digits", limit=200)
    for seed in (0, 1):
        program.train(replace(config, run=replace(config.run, seed=seed)), data)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one != two


@PROGRAMS
def test_the_workload_takes_the_training_step(program, small):
    work = program.workload(small[program], torch.device("cpu"))
    assert work.items == 90
    assert math.isfinite(float(work.step()))


@pytest.mark.usefixtures("_weights_only")
def test_a_last_batch_of_one_image(gan_config):
    data = load_images("digits", limit=85)
    assert math.isfinite(gan.train(replace(gan_config, epochs=1, labels=20), data)["train_seconds"])  # 64 + 1 images


@pytest.mark.parametrize(
    ("program", "settings", "message"),
    [
        (gan, {"batch_size": 1}, "--batch-size must be at least 2, for batch normalisation, got 1"),
        (gan, {"epochs": 0}, "--epochs must be a number above 0, got 0"),
        (gan, {"averaging": 1.0}, "--averaging must be at least 0 and below 1, got 1.0"),
        (gan, {"hidden_noise": -1.0}, "--hidden-noise must not be negative, got -1.0"),
        (gan, {"unlabelled_weight": math.inf}, "--unlabelled-weight must not be negative, got inf"),
        (vae, {"alpha": -0.1}, "--alpha must not be negative, got -0.1"),
        (vae, {"latent_size": 0}, "--latent-size must be a number above 0, got 0"),
        (vae, {"labelled_batch_size": 0}, "--labelled-batch-size must be a number above 0, got 0"),
    ],
)
def test_invalid_settings_are_rejected(program, settings, message):
    with pytest.raises(ValueError, match=message):
        program.Config(**settings)


def test_one_unlabelled_image_is_too_few(gan_config):
    data = load_images("digits", limit=60)
    with pytest.raises(ValueError, match="--limit must leave at least 2 unlabelled images, got 1"):
        gan.train(replace(gan_config, labels=59), labels_in_order(data))


def labels_in_order(data):
    """Return the set with 60 training images, six of each class."""
    return replace(data, train=Split(data.train.pixels, torch.arange(60) % 10))
