"""Activation functions, losses and weight initialisation: comparison with PyTorch, and mathematical properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch02_nn import activations, initialisation, losses
from ch02_nn.activations import ACTIVATIONS
from ch02_nn.initialisation import INITIALISATIONS
from ch02_nn.losses import LOSSES


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_activation_and_derivative_match_torch(name, dtype):
    activation = ACTIVATIONS[name]
    z = torch.cat([torch.linspace(-12, 12, 2_001), torch.tensor([-1e4, -100.0, -0.0, 0.0, 100.0, 1e4])]).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    value, slope = activation.function(z), activation.derivative(z)
    torch.testing.assert_close(value, activation.library(z), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(slope, activations.library_derivative(activation, z), rtol=tolerance, atol=tolerance)
    assert value.dtype == slope.dtype == dtype
    assert value.isfinite().all() and slope.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"step"}))
def test_derivative_matches_central_differences(name):
    """(f(z + h) - f(z - h)) / 2h, independent of autograd."""
    z = torch.tensor([-3.1, -0.7, -0.2, 0.3, 0.9, 2.7], dtype=torch.float64)
    f, h = ACTIVATIONS[name].function, 1e-5
    torch.testing.assert_close(ACTIVATIONS[name].derivative(z), (f(z + h) - f(z - h)) / (2 * h), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"step"}))
def test_autograd_of_the_function_matches_the_derivative_for_large_inputs(name):
    """An overflow in an unused branch of `where` would give NaN; only 1 / (1 + e^-z) overflows, for z below -709."""
    divides = name in ("sigmoid", "silu")
    far = 300.0 if divides else 1e4
    z = torch.tensor([-far, -30.0, -0.3, 0.4, 30.0, far], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name].function(z).sum(), z)
    torch.testing.assert_close(slope, ACTIVATIONS[name].derivative(z.detach()), rtol=1e-9, atol=1e-12)
    z = torch.tensor([-1e4], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name].function(z).sum(), z)
    assert bool(slope.isnan()) == divides, "only sigmoid and silu overflow"
    assert ACTIVATIONS[name].derivative(z.detach()).isfinite().all()


def test_activations_by_hand():
    z = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    assert activations.step(z).tolist() == [0, 1, 1]
    assert activations.leaky_relu(z).tolist() == pytest.approx([-0.02, 0, 3])
    assert activations.elu(z).tolist() == pytest.approx([math.exp(-2) - 1, 0, 3])
    assert activations.softplus(z).tolist() == pytest.approx([math.log(1 + math.exp(v)) for v in (-2, 0, 3)])
    assert activations.gelu(z).tolist() == pytest.approx([v * (1 + math.erf(v / 2**0.5)) / 2 for v in (-2, 0, 3)])


def test_small_values_of_saturating_functions_are_accurate():
    z = torch.tensor([-40.0], dtype=torch.float64)
    assert float(activations.softplus(z)) == pytest.approx(math.exp(-40), rel=1e-12)
    assert float(activations.sigmoid_derivative(-z)) == pytest.approx(math.exp(-40), rel=1e-12)
    tiny = torch.tensor([1e-12], dtype=torch.float64)
    assert float(activations.tanh(tiny)) == pytest.approx(1e-12, rel=1e-12)
    assert float(activations.elu(-tiny)) == pytest.approx(-1e-12, rel=1e-11)


def regression_pair(scale):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)


def class_pair(scale):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 4, 0, 2])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 1e3, 1e6])
def test_loss_and_gradient_match_torch(name, scale):
    loss = LOSSES[name]
    outputs, targets = class_pair(scale) if name == "cross-entropy" else regression_pair(scale)
    if name == "binary-cross-entropy":
        targets = targets.sigmoid()
    leaf = outputs.clone().requires_grad_()
    expected = loss.library(leaf, targets)
    (gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(loss.function(outputs, targets), expected.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(loss.gradient(outputs, targets), gradient, rtol=1e-10, atol=1e-14)


def test_cross_entropies_are_finite_for_extreme_logits():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-3e38, 3e38, 0.0]])
    labels = torch.tensor([1, 1])
    assert float(losses.cross_entropy(logits, labels)) == pytest.approx(1e4)
    assert losses.cross_entropy_gradient(logits, labels).tolist() == [[0.5, -0.5, 0], [0, 0, 0]]
    z, y = torch.tensor([1e30, -1e30, 200.0, -200.0]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    assert float(losses.binary_cross_entropy(z, y)) == pytest.approx(100.0)
    assert losses.binary_cross_entropy_gradient(z, y).tolist() == pytest.approx([0, 0, 0.25, -0.25])


def test_huber_is_quadratic_up_to_delta_and_linear_above():
    outputs, targets = torch.tensor([0.5, 3.0, -4.0]), torch.zeros(3)
    assert float(losses.huber(outputs, targets, 2.0)) == pytest.approx((0.125 + 4.0 + 6.0) / 3)
    assert losses.huber_gradient(outputs, targets, 2.0).mul(3).tolist() == pytest.approx([0.5, 2, -2])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(-10_000, 10_000))
def test_log_softmax_is_normalised_and_invariant_to_a_shift(rows, columns, shift):
    logits = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    p = losses.log_softmax(logits).exp()
    torch.testing.assert_close(p.sum(1), torch.ones(rows, dtype=torch.float64))
    torch.testing.assert_close(losses.log_softmax(logits + shift), F.log_softmax(logits, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "message"),
    [
        (
            "mse",
            torch.zeros(4, 1),
            torch.zeros(4),
            r"outputs have shape \(4, 1\), targets \(4,\): the shapes must be equal",
        ),
        ("mae", torch.zeros(4), torch.zeros(4, dtype=torch.int64), "targets torch.int64: both must be floating point"),
        ("huber", torch.zeros(0), torch.zeros(0), r"outputs of shape \(0.*\) are empty"),
        ("binary-cross-entropy", torch.zeros(4, 2), torch.zeros(4), "the shapes must be equal"),
        ("cross-entropy", torch.zeros(4, 2), torch.zeros(4), "labels are torch.float32: they must be class indices"),
        ("cross-entropy", torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64), r"need \(B, K\) and \(B,\)"),
        ("cross-entropy", torch.zeros(4), torch.zeros(4, dtype=torch.int64), r"need \(B, K\) and \(B,\)"),
        (
            "cross-entropy",
            torch.zeros(2, 2),
            torch.tensor([0, 2]),
            "label 2 is out of range: it must be between 0 and 1",
        ),
        ("cross-entropy", torch.zeros(2, 2), torch.tensor([-1, 1]), "label -1 is out of range"),
        (
            "cross-entropy",
            torch.zeros(2, 2, dtype=torch.int64),
            torch.tensor([0, 1]),
            "logits are torch.int64: they must be floating point",
        ),
        ("cross-entropy", torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), r"outputs of shape \(0.*\) are empty"),
    ],
)
def test_errors_of_losses_are_one_line(name, outputs, targets, message):
    for function in (LOSSES[name].function, LOSSES[name].gradient):
        with pytest.raises(ValueError, match=message) as error:
            function(outputs, targets)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("zeros", 0.0),
        ("small-normal", 1e-4),
        ("unit-normal", 1.0),
        ("glorot-normal", 2 / 1_000),
        ("glorot-uniform", 2 / 1_000),
        ("glorot-normal-tanh", torch.nn.init.calculate_gain("tanh") ** 2 * 2 / 1_000),
        ("he-normal", 2 / 700),
    ],
)
def test_initial_weights_have_the_documented_variance(name, variance):
    weight = torch.empty(300, 700, dtype=torch.float64)
    INITIALISATIONS[name](weight, torch.Generator().manual_seed(0))
    assert float(weight.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(weight.mean())) < 5 * math.sqrt(variance / weight.numel()) + 1e-12
    if name == "glorot-uniform":
        assert 0.99 < float(weight.abs().max()) / math.sqrt(6 / 1_000) <= 1


def test_initial_weights_depend_only_on_the_generator():
    for fill in INITIALISATIONS.values():
        one, two = torch.empty(2, 20, 30)
        fill(one, torch.Generator().manual_seed(4))
        fill(two, torch.Generator().manual_seed(4))
        assert torch.equal(one, two)


def test_activations_and_gradients_match_autograd():
    torch.manual_seed(0)
    weights = [torch.randn(6, 6, dtype=torch.float64).div(2).requires_grad_() for _ in range(4)]
    x, d = torch.randn(2, 5, 6, dtype=torch.float64)
    found = initialisation.signals([weight.detach() for weight in weights], x, d, ACTIVATIONS["tanh"])
    layers, a = [], x
    for weight in weights:
        a = torch.tanh(a @ weight.mT)
        a.retain_grad()
        layers.append(a)
    a.backward(d)
    for ours, theirs, back in zip(found.activations, layers, found.gradients, strict=True):
        torch.testing.assert_close(ours, theirs.detach())
        torch.testing.assert_close(back, theirs.grad)


def test_with_relu_he_keeps_the_magnitudes_and_glorot_does_not(options):
    metrics = initialisation.train(initialisation.Config(width=128, samples=128, run=options))
    assert 0.3 < metrics["he_normal_activation"] < 3
    assert 0.3 < metrics["he_normal_gradient"] < 3
    assert metrics["glorot_normal_activation"] == pytest.approx(2**-10 * 0.83, rel=0.6), (
        "ReLU halves the variance in each layer"
    )
    assert metrics["small_normal_activation"] < 1e-15
    assert metrics["unit_normal_gradient"] > 1e15
    assert metrics["zeros_activation"] == metrics["zeros_gradient"] == 0
    (folder,) = options.out.glob("*/initialisation/*")
    assert {"deviations.png", "activations.png"} <= {path.name for path in folder.iterdir()}


def test_with_tanh_the_gain_keeps_the_activations_and_increases_the_gradients(options):
    found = initialisation.train(initialisation.Config(activation="tanh", width=128, samples=128, run=options))
    gains = ("glorot_normal", "he_normal", "glorot_normal_tanh")  # 1, sqrt 2 where I = O, and 5/3
    activations, gradients = ([found[f"{name}_{what}"] for name in gains] for what in ("activation", "gradient"))
    assert activations[0] < 0.25 < 0.45 < activations[1] < activations[2] < 0.75
    assert gradients[0] < 0.5 < 1.5 < gradients[1] < gradients[2]


def test_an_overflow_in_initial_is_one_line(options):
    with pytest.raises(FloatingPointError, match="unit-normal overflows float64: lower --depth or --width"):
        initialisation.train(initialisation.Config(width=32, samples=8, depth=300, run=options))


def test_inputs_and_weights_are_independent(options, monkeypatch):
    """Two generators with the same seed would sample equal inputs and weights."""
    seen = []
    monkeypatch.setattr(
        initialisation, "signals", lambda w, x, d, f: seen.append((w[0], x, d)) or initialisation.Signals([x], [d])
    )
    initialisation.train(initialisation.Config(width=64, samples=64, depth=1, run=options))
    for weight, x, d in seen:
        for noise in (x, d):
            if float(weight.abs().sum()) > 0:
                correlation = torch.corrcoef(torch.stack([weight.flatten(), noise.flatten()]))[0, 1]
                assert abs(float(correlation)) < 0.1


def test_activations_match_torch_and_are_drawn(options):
    metrics = activations.train(activations.Config(run=options))
    assert len(metrics) == len(ACTIVATIONS) == 11
    assert max(metrics.values()) < 1e-14
    (folder,) = options.out.glob("*/activations/*")
    assert (folder / "activations.png").read_bytes()[:4] == b"\x89PNG"
