"""Programs of chapter 2: descent, simple, regression, fitting, compare_optimizers and fizzbuzz."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch02_nn import classifier, compare_optimizers, descent, fitting, fizzbuzz, regression, simple
from ch02_nn.optimizers import OPTIMIZERS
from common import benchmark, cli
from common.data.images.image_set import Split
from common.run import Run
from conftest import train_until


def test_benchmark_times_the_programs_with_a_training_step(monkeypatch):
    timed = []
    monkeypatch.setattr(benchmark, "run_benchmark", lambda package, jobs: timed.append([module for module, _ in jobs]))
    cli.main(descent, classifier, fitting, fizzbuzz, extra=[compare_optimizers], arguments=["--benchmark"])
    assert timed == [[classifier, fizzbuzz]]


# Gradient descent on one weight.


def test_first_steps_of_gradient_descent_by_hand():
    steps = descent.descend(descent.Config(x=1.0, y=2.0, weight=0.0, steps=2), learning_rate=0.25)
    assert [step.weight for step in steps] == [0, 1, 1.5]
    assert [step.gradient for step in steps] == [-4, -2, -1]
    assert [step.loss for step in steps] == [4, 1, 0.25]


@settings(max_examples=50, deadline=None)
@given(st.integers(-30, 30), st.integers(1, 30), st.integers(-50, 50), st.integers(1, 60))
def test_each_step_multiplies_the_distance_by_the_same_factor(start, x, y, rate):
    config = descent.Config(x=x / 10, y=y / 10, weight=start / 10, steps=6)
    eta = rate / 50
    best, factor = config.y / config.x, 1 - 2 * eta * config.x**2
    for number, step in enumerate(descent.descend(config, eta)):
        expected = best + factor**number * (config.weight - best)
        assert step.weight == pytest.approx(expected, rel=1e-6, abs=1e-6 * (1 + abs(factor) ** number))


def test_descent_prints_the_steps_and_draws_them(options, capsys):
    metrics = descent.train(descent.Config(run=options))
    assert metrics["weight_after_1"] == pytest.approx(0.8)
    assert metrics["weight_after_10"] == pytest.approx(2 - 2 * 0.6**10)
    printed = capsys.readouterr().out
    assert "0.8" in printed
    assert printed.splitlines()[1].endswith(", fp64"), "descent computes in float64 for any --precision"
    assert len(list(options.out.rglob("descent.png"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": 0.0}, "--x must be a finite number other than 0"),
        ({"y": math.inf}, "--y must be a finite number, got inf"),
        ({"steps": 0}, "--steps must be between 1 and 1000"),
        ({"learning_rate": -1.0}, "--learning-rate must be a number above 0"),
    ],
)
def test_errors_of_descent(changes, message):
    with pytest.raises(ValueError, match=message):
        descent.Config(**changes)


def test_error_of_a_divergent_descent(options):
    with pytest.raises(FloatingPointError, match="lower --learning-rate"):
        descent.train(descent.Config(learning_rate=1e6, steps=100, run=options))


# The 4x3 net.


def test_simple_reproduces_the_predictions_of_the_book(options):
    metrics = simple.train(simple.Config(run=options))
    predictions = [f"{metrics[f'prediction_{row}']:.4f}" for row in (1, 2, 3, 4)]
    assert predictions == ["0.0138", "0.0112", "0.9909", "0.9888"]


def test_predictions_depend_little_on_the_initial_weights():
    """A hundred initialisations at once, by the formula of the gradient."""
    torch.manual_seed(0)
    w = torch.cat([simple.Net().weight.detach() for _ in range(100)], dim=1).double()
    x, y = simple.make_data("book")
    for _ in range(10_000):
        p = torch.sigmoid(x @ w)
        w -= 2 / 4 * x.T @ ((p - y) * p * (1 - p))
    p, book = torch.sigmoid(x @ w), torch.tensor([[0.0138], [0.0112], [0.9909], [0.9888]])
    assert float((p - book).abs().max()) < 1.5e-4


def predictions_of(options, **settings):
    metrics = simple.train(simple.Config(run=options, **settings))
    return [metrics[f"prediction_{row}"] for row in (1, 2, 3, 4)]


def test_sum_of_squares_equals_mean_with_four_times_the_learning_rate(options):
    total = predictions_of(options, variant="sum", steps=100)
    assert total == pytest.approx(predictions_of(options, learning_rate=4.0, steps=100), rel=1e-9)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("third-row", [0.5, 0, 0.5, 1]), ("no-square", [1, 1, 1, 1]), ("flat-targets", [0.5, 0.5, 0.5, 0.5])],
)
def test_predictions_of_the_variants_with_mistakes(options, variant, expected):
    assert predictions_of(options, variant=variant, steps=1_000) == pytest.approx(expected, abs=0.07)


def test_one_step_of_the_net_by_hand():
    """dL/dw = 2/4 X^T ((p - y) p (1 - p))"""
    torch.manual_seed(0)
    net = simple.Net().double()
    x, y = simple.make_data("book")
    w, p = net.weight.detach().clone(), net(x).detach()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    loss = simple.train_step(simple.Cost(net, "book"), optimizer, x, y)
    torch.testing.assert_close(net.weight.detach(), w - 2 / 4 * x.T @ ((p - y) * p * (1 - p)))
    assert float(loss) == pytest.approx(float(F.mse_loss(p, y)))


def test_the_graph_of_the_loss_contains_operations_shapes_and_edges(options):
    simple.train(simple.Config(steps=10, run=options))
    (path,) = options.out.rglob("graph.dot")
    text = path.read_text()
    for line in ("x\\n4x3 float64", "mean\\nscalar float64", '"net_weight" -> "matmul"', '"y" -> "sub"'):
        assert line in text
    assert text.count("->") == 7
    assert len(list(options.out.rglob("graph.png"))) == 1


def test_a_resumed_run_of_simple_gives_the_same_weights_and_table(options, monkeypatch, capsys):
    config = simple.Config(steps=1_000, run=options)
    simple.train(config)
    table = capsys.readouterr().out.partition("gradient descent")[2].partition("result")[0]
    assert [int(line.split()[0]) for line in table.splitlines() if line.strip()[:1].isdigit()] == list(
        simple.SHOWN[:10]
    )
    calls, train_step = [], simple.train_step

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 650:
            raise KeyboardInterrupt
        return train_step(*arguments)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(simple, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        simple.train(config)
    monkeypatch.setattr(simple, "train_step", train_step)
    capsys.readouterr()
    simple.train(replace(config, run=replace(options, resume=True)))
    assert capsys.readouterr().out.partition("gradient descent")[2].partition("result")[0] == table
    one, two = (simple.restore(path.parent)[0] for path in sorted(options.out.rglob("model.safetensors")))
    assert torch.equal(one.weight, two.weight)


def test_the_table_of_simple_contains_the_last_step(options, capsys):
    simple.train(simple.Config(steps=30, run=options))
    table = capsys.readouterr().out.partition("gradient descent")[2].partition("result")[0]
    steps = [int(line.split()[0]) for line in table.splitlines() if line.strip()[:1].isdigit()]
    assert steps == [1, 2, 5, 10, 20, 30]


def test_steps_of_simple_must_be_a_multiple_of_ten():
    with pytest.raises(ValueError, match="--steps must be a multiple of 10, got 15"):
        simple.Config(steps=15)


# Regression.


def test_closed_forms_find_the_true_weights():
    x, y = regression.line(500, 0.0, torch.Generator().manual_seed(0))
    a = regression.add_constant(x)
    for solve in (regression.normal_equations, regression.by_qr, regression.by_lstsq):
        torch.testing.assert_close(solve(a, y), torch.tensor(regression.TRUE_WEIGHTS, dtype=torch.float64))
    assert regression.r_squared(a, y, regression.by_qr(a, y)) == pytest.approx(1)


def test_gradient_of_regression_matches_autograd():
    x, y = regression.line(20, 0.5, torch.Generator().manual_seed(0))
    a, w = regression.add_constant(x), torch.randn(4, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(F.mse_loss(a @ w, y), w)
    torch.testing.assert_close(regression.gradient(a, y, w.detach()), expected)


def test_gradient_methods_take_the_given_number_of_steps():
    x, y = regression.line(23, 0.5, torch.Generator().manual_seed(0))
    a = regression.add_constant(x)
    assert len(list(regression.gradient_descent(a, y, 37))) == 37
    for batch_size in (1, 10, 50):
        path = list(regression.stochastic_descent(a, y, 37, batch_size, torch.Generator()))
        assert len(path) == 37


def test_all_solvers_fit_the_scaled_cubic_and_gradient_methods_fail_without_scaling(options):
    metrics = regression.train(regression.Config(run=options))
    solvers = ("normal_equations", "qr", "lstsq", "gradient_descent", "sgd", "minibatch")
    assert all(metrics[f"cubic_{solver}_r2"] >= 0.9954 for solver in solvers)
    assert all(metrics[f"line_{solver}_r2"] == pytest.approx(metrics["line_lstsq_r2"], abs=1e-4) for solver in solvers)
    assert all(metrics[f"cubic_unscaled_{solver}_r2"] < 0.96 for solver in solvers[3:])
    assert metrics["cubic_condition"] < 100 < 1e8 < metrics["cubic_unscaled_condition"]
    (folder,) = options.out.glob("*/regression/*")
    assert {"gaps.png", "cubic.png"} <= {path.name for path in folder.iterdir()}


def test_r_squared_of_the_mean_is_zero():
    y = torch.tensor([1.0, 2.0, 6.0])
    assert regression.r_squared(torch.ones(3, 1), y, torch.tensor([3.0])) == pytest.approx(0)


def test_a_constant_input_cannot_be_scaled():
    with pytest.raises(ValueError, match="input 1 is constant and cannot be scaled"):
        regression.standardised(torch.tensor([[1.0, 5.0], [2.0, 5.0]]))


def test_errors_of_too_few_samples_for_regression(options):
    with pytest.raises(ValueError, match="--samples must be at least 5 to determine 4 weights, got 4"):
        regression.Config(samples=4)
    with pytest.raises(ValueError, match="--limit must be at least 5 to determine 4 weights, got 2"):
        regression.Config(run=replace(options, limit=2))


# Fitting.


def test_ridge_matches_its_closed_form_and_does_not_penalise_the_constant():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, dtype=torch.float64) + 100
    predictor = fitting.ridge(0.3)(x, y)
    a, t = x - x.mean(0), y - y.mean()
    w = torch.linalg.solve(a.T @ a + 30 * 0.3 * torch.eye(4, dtype=torch.float64), a.T @ t)
    torch.testing.assert_close(predictor(x), a @ w + y.mean())
    torch.testing.assert_close(fitting.ridge(1e12)(x, y)(x), y.mean().expand(30), rtol=1e-6, atol=1e-6)


def test_a_polynomial_of_degree_5_interpolates_6_points():
    x, y = fitting.sine(6, 0.3, torch.Generator().manual_seed(0))
    assert fitting.rmse(fitting.polynomial(5)(x, y), x, y) < 1e-6
    assert fitting.powers(torch.tensor([[2.0]]), 3).tolist() == [[1, 2, 4, 8]]


def test_each_sample_is_predicted_once_by_a_model_fitted_without_it():
    x, y = torch.arange(11.0)[:, None], torch.arange(11.0)
    predicted = []

    def fit(training, targets):
        def predictor(new):
            assert not set(new[:, 0].tolist()) & set(training[:, 0].tolist())
            assert len(new) + len(training) == 11
            predicted.extend(new[:, 0].tolist())
            return new[:, 0] + 2

        return predictor

    assert fitting.cross_validate(fit, x, y, 4) == pytest.approx(2)
    assert sorted(predicted) == y.tolist()


@pytest.mark.parametrize("folds", [1, 12])
def test_error_of_a_wrong_number_of_folds(folds):
    with pytest.raises(ValueError, match=f"cannot split 11 samples into {folds} folds"):
        fitting.cross_validate(fitting.ridge(0), torch.zeros(11, 1), torch.zeros(11), folds)


def test_dropout_is_disabled_after_training(options):
    config = fitting.Config(steps=5, run=options)
    x, y = fitting.sine(20, 0.1, torch.Generator().manual_seed(0))
    predictor = fitting.network(0.5, 0.0, config, torch.device("cpu"))(x, y)
    assert torch.equal(predictor(x), predictor(x))


def test_initial_weights_are_the_same_in_every_fold_and_weight_decay_applies(options):
    config = fitting.Config(steps=20, run=options)
    x, y = fitting.sine(20, 0.1, torch.Generator().manual_seed(0))
    predictions = []
    for noise, decay in ((1, 0.0), (2, 0.0), (1, 50.0)):
        torch.manual_seed(noise)
        predictions.append(fitting.network(0.0, decay, config, torch.device("cpu"))(x, y)(x))
    assert torch.equal(predictions[0], predictions[1])
    assert float(predictions[2].std()) < 0.5 * float(predictions[0].std())


def test_the_degree_is_chosen_by_cross_validation(options):
    """With this seed, cross-validation chooses another degree than the test error would."""
    x, y = fitting.sine(24, 0.25, torch.Generator().manual_seed(2))
    validated = [fitting.cross_validate(fitting.polynomial(degree), x, y, 5) for degree in fitting.DEGREES]
    metrics = fitting.train(fitting.Config(steps=1, run=replace(options, seed=2)))
    grid = torch.linspace(-1, 1, 401, dtype=torch.float64)[:, None]
    errors = [
        fitting.rmse(fitting.polynomial(degree)(x, y), grid, torch.sin(torch.pi * grid[:, 0]))
        for degree in fitting.DEGREES
    ]
    assert metrics["degree"] == validated.index(min(validated)) != errors.index(min(errors))
    assert metrics["chosen_degree_rmse"] == pytest.approx(errors[int(metrics["degree"])])


def test_one_batch_of_patients_can_be_overfitted():
    x, y, _, _ = fitting.diabetes(None)
    torch.manual_seed(0)
    model = fitting.Regressor(10, 64, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    targets = ((y - y.mean()) / y.std()).float()[:16]
    losses = []
    train_until(
        lambda: losses[-1] < 1e-3,
        lambda: losses.append(float(fitting.train_step(model, optimizer, x.float()[:16], targets))),
        at_most=2_000,
    )


def test_diabetes_inputs_are_standardised_by_the_training_set():
    x, y, test_x, test_y = fitting.diabetes(None)
    assert (len(x), len(test_x)) == (354, 88) == (len(y), len(test_y))
    torch.testing.assert_close(x.mean(0), torch.zeros(10, dtype=torch.float64), atol=1e-9, rtol=0)
    assert float(test_x.mean(0).abs().max()) > 1e-3


def test_fitting_shows_underfitting_overfitting_and_regularisation(options):
    metrics = fitting.train(fitting.Config(run=options))
    assert metrics["chosen_degree_rmse"] < metrics["degree_1_rmse"] < metrics["degree_15_rmse"]
    assert metrics["degree_15_decayed_rmse"] < metrics["degree_15_rmse"]
    assert metrics["network_validated_rmse"] < 0.85 * metrics["plain_network_validated_rmse"]
    assert metrics["linear_test_rmse"] < 0.8 * metrics["mean_test_rmse"]
    (folder,) = options.out.glob("*/fitting/*")
    assert {"polynomials.png", "degrees.png", "diabetes.png"} <= {path.name for path in folder.iterdir()}


def test_fitting_is_repeatable_and_chooses_without_the_test_set(options, monkeypatch):
    monkeypatch.setattr(Run, "figure", lambda *_: None)
    config = fitting.Config(steps=10, run=options)
    first = fitting.train(config)
    assert first == fitting.train(config)
    x, y, test_x, test_y = fitting.diabetes(None)
    monkeypatch.setattr(fitting, "diabetes", lambda limit: (x, y, test_x, test_y.flip(0)))
    other = fitting.train(config)
    changed = {name for name in first if first[name] != other[name]}
    assert changed == {"linear_test_rmse", "network_test_rmse"}


# Comparison of optimizers.


def test_gradient_of_rosenbrock_matches_autograd_and_is_zero_at_the_minimum():
    points = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(compare_optimizers.rosenbrock(points).sum(), points)
    torch.testing.assert_close(compare_optimizers.rosenbrock_gradient(points.detach()), expected)
    assert compare_optimizers.rosenbrock(torch.ones(1, 2)).item() == 0
    assert compare_optimizers.rosenbrock_gradient(torch.ones(1, 2)).tolist() == [[0, 0]]
    assert compare_optimizers.rosenbrock(torch.tensor([compare_optimizers.START])).item() == pytest.approx(
        2.5**2 + 100 * 0.25**2
    )


def test_descent_with_several_learning_rates_matches_separate_runs():
    paths = compare_optimizers.descend("adam", (0.01, 0.1), 50, torch.device("cpu"))
    assert paths.shape == (51, 2, 2)
    for column, rate in enumerate((0.01, 0.1)):
        alone = torch.nn.Parameter(torch.tensor(compare_optimizers.START, dtype=torch.float64))
        rule = torch.optim.Adam([alone], lr=rate)
        for _ in range(50):
            alone.grad = compare_optimizers.rosenbrock_gradient(alone.detach())
            rule.step()
        torch.testing.assert_close(paths[-1, column], alone.detach(), rtol=1e-9, atol=1e-12)


def test_arrival_and_later_entries_above_the_goal():
    assert compare_optimizers.arrival([5, 0.5, 3, 0.5, 0.4], 1) == compare_optimizers.Arrival(1, 1)
    assert compare_optimizers.arrival([5, 3, 1, 1], 1) == compare_optimizers.Arrival(2, 0), (
        "a loss equal to the goal counts as arrival"
    )
    assert compare_optimizers.arrival([0.5, 0.5], 1) == compare_optimizers.Arrival(0, 0)
    assert compare_optimizers.arrival([5, 0.5, 2], 1) == compare_optimizers.Arrival(1, 1)
    assert compare_optimizers.arrival([5, 2], 1) == compare_optimizers.Arrival(math.inf, 0)
    assert compare_optimizers.arrival([math.nan, 0.5, math.nan], 1) == compare_optimizers.Arrival(1, 1), (
        "NaN counts as above"
    )


def test_best_rate_is_by_arrival_then_stability_then_last_loss():
    diverged = [5, math.nan, math.nan]
    assert compare_optimizers.best_rate({0.1: [[5, 4, 0.5]], 0.2: [[5, 0.5, 2]], 0.3: [diverged]}, 1) == 0.2, (
        "arrival precedes stability"
    )
    assert compare_optimizers.best_rate({0.1: [[5, 0.5, 2]], 0.2: [[5, 0.5, 0.9]]}, 1) == 0.2
    assert compare_optimizers.best_rate({0.1: [[5, 4, 3]], 0.2: [[5, 2, 2]], 0.3: [diverged]}, 1) == 0.2
    assert compare_optimizers.best_rate({0.1: [[5, 0.5, 0.5], diverged], 0.2: [[5, 4, 0.5], [5, 4, 0.5]]}, 1) == 0.2, (
        "the mean over starts counts"
    )


def test_compare_optimizers_reports_every_optimizer_and_chooses_without_the_test_set(options, digits, monkeypatch):
    monkeypatch.setattr(compare_optimizers, "RATES", (0.001, 0.03, 1.0))
    config = compare_optimizers.Config(steps=100, epochs=2, starts=1, goal=1.0, loss=1.0, run=options)
    metrics = compare_optimizers.train(config, digits)
    assert len(metrics) == 6 * len(OPTIMIZERS)
    assert metrics["nesterov_valley_arrival_steps"] < metrics["sgd_valley_arrival_steps"] <= 100
    assert all(0 < metrics[f"{rule.replace('-', '_')}_digits_arrival_steps"] <= 40 for rule in OPTIMIZERS)
    for figure in ("valley", "losses", "digits"):
        assert len(list(options.out.rglob(f"{figure}.png"))) == 1
    monkeypatch.setattr(compare_optimizers, "report", lambda *_: None)
    inverted = replace(digits, test=Split(255 - digits.test.pixels, digits.test.labels.flip(0)))
    other = compare_optimizers.train(config, inverted)
    assert all(metrics[name] == other[name] for name in metrics if name.endswith("rate"))
    assert metrics["adam_digits_arrival_steps"] != other["adam_digits_arrival_steps"]


@pytest.mark.parametrize("bf16", [False, True])
def test_compare_optimizers_trains_in_the_given_precision(digits, monkeypatch, bf16):
    seen = set()
    monkeypatch.setattr(compare_optimizers, "train_step", lambda *arguments, bf16=False: seen.add(bf16))
    few = Split(*(part[:64] for part in (compare_optimizers.halved(digits.train).pixels, digits.train.labels)))
    run = SimpleNamespace(config=compare_optimizers.Config(epochs=1), device=torch.device("cpu"), bf16=bf16)
    compare_optimizers.train_classifier("sgd", 0.1, 0, (few, few), run)  # pyright: ignore[reportArgumentType]
    assert seen == {bf16}


def test_results_use_other_starts_than_the_choice_of_the_learning_rate(options, digits, monkeypatch):
    seen = []

    def train_classifier(rule, rate, start, data, run):
        seen.append((len(data[1]), start))
        return [1.0, 0.0]

    monkeypatch.setattr(compare_optimizers, "train_classifier", train_classifier)
    monkeypatch.setattr(compare_optimizers, "report", lambda *_: None)
    for seed in (0, 1):
        compare_optimizers.train(compare_optimizers.Config(steps=2, starts=2, run=replace(options, seed=seed)), digits)
    choosing = {start for size, start in seen if size == 180}
    measuring = {start for size, start in seen if size == 360}
    assert choosing == {0, 1, 4, 5}
    assert measuring == {2, 3, 6, 7}, "no start is used twice"


# FizzBuzz.


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1_023), min_size=1, max_size=20))
def test_encoding_and_words_of_fizzbuzz(numbers):
    tensor = torch.tensor(numbers)
    digits = fizzbuzz.encode(tensor)
    assert set(digits.unique().tolist()) <= {-1.0, 1.0}
    assert [sum(2**k for k, digit in enumerate(row) if digit > 0) for row in digits.tolist()] == numbers
    words = fizzbuzz.to_words(numbers, fizzbuzz.classes(tensor).tolist())
    assert words == ["fizz" * (n % 3 == 0) + "buzz" * (n % 5 == 0) or str(n) for n in numbers]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (torch.tensor([5, 1_024]), "number 1024 is out of range: it must be between 0 and 1023"),
        (torch.tensor([-1]), "number -1 is out of range"),
        (torch.tensor([1.0]), r"numbers must be integers of shape \(B,\), got torch.float32"),
        (torch.tensor([[1]]), r"of shape \(1, 1\)"),
    ],
)
def test_errors_of_encode(numbers, message):
    with pytest.raises(ValueError, match=message):
        fizzbuzz.encode(numbers)


def test_training_and_validation_set_are_disjoint_and_exclude_the_test_set():
    numbers, valid = fizzbuzz.split(0, None)
    assert sorted(torch.cat([numbers, valid]).tolist()) == list(range(101, 1_024))
    assert not set(numbers.tolist()) & set(valid.tolist())
    assert len(fizzbuzz.split(0, 5)[0]) == 5
    assert torch.equal(numbers, fizzbuzz.split(0, None)[0])
    assert not torch.equal(numbers, fizzbuzz.split(1, None)[0])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_fizzbuzz_is_correct_for_1_to_100(options, seed, capsys):
    metrics = fizzbuzz.train(fizzbuzz.Config(run=replace(options, seed=seed)))
    assert metrics["test_accuracy"] == 1
    assert metrics["valid_accuracy"] > 0.9
    assert "wrong    none" in capsys.readouterr().out
    (path,) = options.out.rglob("model.safetensors")
    model, config = fizzbuzz.restore(path.parent)
    assert config.run.seed == seed
    logits = fizzbuzz.predict(model, torch.tensor([3, 5, 15, 16]))
    assert fizzbuzz.to_words([3, 5, 15, 16], logits.argmax(1).tolist()) == ["fizz", "buzz", "fizzbuzz", "16"]


def test_fizzbuzz_does_not_generalise_from_40_numbers(options, capsys):
    metrics = fizzbuzz.train(fizzbuzz.Config(hidden_size=256, steps=60, run=replace(options, limit=40)))
    assert metrics["test_accuracy"] < 0.9
    assert " is " in capsys.readouterr().out.partition("wrong")[2].splitlines()[0]


def test_bf16_applies_to_the_forward_pass_of_fizzbuzz():
    seen = []
    model = fizzbuzz.FizzBuzz(16)
    model.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    optimizer = fizzbuzz.make_optimizer(model, fizzbuzz.Config())
    numbers = torch.arange(101, 131)
    for bf16 in (True, False):
        fizzbuzz.train_step(model, optimizer, fizzbuzz.encode(numbers), fizzbuzz.classes(numbers), bf16=bf16)
    assert seen == [torch.bfloat16, torch.float32]
    assert all(p.grad is None for p in model.parameters()), "the next step would add to these gradients"


def test_errors_of_fizzbuzz():
    with pytest.raises(ValueError, match="--steps must be a multiple of 20"):
        fizzbuzz.Config(steps=30)
    with pytest.raises(ValueError, match="--weight-decay must be at least 0 and below 1 / --learning-rate"):
        fizzbuzz.Config(weight_decay=100.0)
