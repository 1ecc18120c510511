"""Chapter 1: execution of graphs, diagrams, and the three programs."""

import dataclasses

import pytest
import torch

from ch01_graphs import expressions, numerics, regression
from ch01_graphs.draw import picture
from ch01_graphs.gradient import grad
from ch01_graphs.graph import Graph
from ch01_graphs.machine import TapeMachine, compiled, format_value
from common import cli

CONFIG = regression.Config(samples=40, features=3, epochs=2, steps=5, rounds=1)


def small_graph():
    graph = Graph()
    w, x = graph.parameter("w", [1.0, 2.0, 3.0]), graph.vector("x", 3)
    loss = ((w * x - 1) ** 2).sum().named("loss")
    (dw,) = grad(loss, [w])
    graph.let(x, [1.0, 0.5, 2.0])
    return loss, dw


# Execution.


def test_tape_machine_records_every_node():
    loss, dw = small_graph()
    records = {record.name: record for record in TapeMachine(loss, dw).records()}
    assert float(records["loss"].value) == 25.0
    assert records["loss"].gradient is not None and float(records["loss"].gradient) == 1.0
    assert records["w"].gradient is not None and records["w"].gradient.tolist() == [0.0, 0.0, 20.0]
    assert records["mul"].formula == "w * x"
    assert records["mul"].bytes == 12
    assert not records["mul"].backward
    assert records[dw.name].backward
    assert all(record.seconds > 0 for record in records.values())


def test_a_view_uses_no_memory():
    graph = Graph()
    x = graph.matrix("x", 10, 20)
    y = x.mT.named("y")
    graph.let(x, torch.ones(10, 20))
    assert [record.bytes for record in TapeMachine(y).records()] == [800, 0]


def test_generated_code_contains_the_operations():
    loss, _ = small_graph()
    code = loss.graph.program(loss).code
    assert "mul = w * x" in code
    assert "pow_1 = sub ** 2" in code
    assert "return (loss,)" in code


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (torch.tensor([12.399999999999999, 6.4], dtype=torch.float64), None, "[12.399999999999999 6.4]"),
        (torch.tensor([9.4, 3.4]), None, "[9.4 3.4]"),
        (torch.tensor([[1.0, 2.0]]), None, "[[1.0 2.0]]"),
        (torch.tensor(3.14159), 3, "3.14"),
        (torch.tensor([1, 2]), None, "[1 2]"),
        (torch.zeros(7), None, "vector of 7 float32"),
    ],
)
def test_values_are_formatted(value, digits, expected):
    assert format_value(value, digits) == expected


# Diagrams.


def test_a_diagram_contains_values_gradients_and_backward_edges():
    loss, dw = small_graph()
    drawn = picture(loss, dw, records=TapeMachine(loss, dw).records())
    assert drawn.nodes["w"] == {
        "lines": ["w", "vector of 3 float32", "= [1 2 3]", "gradient [0 0 20]"],
        "kind": "parameter",
    }
    assert drawn.nodes["x"]["kind"] == "input"
    assert drawn.nodes["sub"]["lines"][0] == "sub: - 1"
    assert drawn.nodes[dw.name]["kind"] == "gradient"
    assert not drawn.edges["w", "mul"]["backward"]
    assert drawn.edges["x", dw.name]["backward"]
    assert drawn.number_of_edges() == len({(a, b) for b in loss.graph.ir.nodes for a in b.all_input_nodes})


# Programs.


def test_expressions_reproduces_the_values_of_the_book(options, capsys):
    metrics = expressions.train(expressions.Config(run=options))
    assert metrics == {
        "sum": 4.5,
        "product_0": float(torch.tensor(9.4)),
        "product_1": float(torch.tensor(3.4)),
        "affine_0": 12.399999999999999,
        "affine_1": 6.4,
        "square_error": 2.25,
    }
    printed = capsys.readouterr().out
    assert "[12.399999999999999 6.4]" in printed
    assert "node 'matmul' = W @ x: " in printed
    (folder,) = options.out.glob("*/*/*")
    for name in (*expressions.GRAPHS, "module"):
        assert (folder / f"{name}.dot").read_text().startswith("digraph {")
        assert (folder / f"{name}.png").stat().st_size > 1_000


def test_rewritten_formulas_are_finite_but_still_round_to_zero(options):
    metrics = numerics.train(numerics.Config(points=41, run=options))
    assert metrics["rewritten_non_finite_values"] == metrics["rewritten_non_finite_gradients"] == 0
    for version in ("as_written", "rewritten"):
        for what in ("values", "gradients"):
            assert metrics[f"{version}_false_zero_{what}"] > metrics[f"{version}_rounded_to_zero_{what}"] > 0
    assert metrics["as_written_non_finite_values"] > 30
    assert metrics["as_written_non_finite_gradients"] > 60
    (folder,) = options.out.glob("*/*/*")
    assert {"values.png", "gradients.png", "magnitudes.png", "conditioning.png"} <= {p.name for p in folder.iterdir()}
    assert metrics["rewritten_largest_error"] < 1e-7


def test_false_zeros_and_values_rounded_to_zero_are_counted():
    values = torch.tensor([0.0, 0.0, 0.0, -0.0, 1.0])
    exact = torch.tensor([0.0, 1e-50, 1e-30, -1e-30, 1.0], dtype=torch.float64)
    assert numerics.false_zeros(values, exact) == 3
    assert numerics.false_zeros(values, exact, numerics.SMALLEST_NORMAL) == 2


def test_errors_match_the_condition_number_unless_the_formula_is_unstable():
    logarithm, difference = numerics.PROBLEMS[0], numerics.PROBLEMS[3]
    assert numerics.largest_float32_error(logarithm.formula, 1.001, 0.001) < 2 * numerics.expected_error(
        logarithm.formula, 1.001
    )
    assert difference.stable is not None
    expected = numerics.expected_error(difference.formula, 1e6)
    assert numerics.largest_float32_error(difference.stable, 1e6, 1e6) < 2 * expected
    assert numerics.largest_float32_error(difference.formula, 1e6, 1e6) > 1_000 * expected


@pytest.mark.parametrize("machine", ["compiled", "tape"])
def test_regression_converges_to_the_exact_solution(options, machine):
    config = regression.Config(samples=60, features=3, epochs=3, steps=100, rounds=1, machine=machine, run=options)
    metrics = regression.train(config)
    assert metrics["distance_from_exact"] < 1e-5
    assert (metrics["nodes_as_written"], metrics["nodes_simplified"]) == (19, 13)
    (folder,) = options.out.glob("*/*/*")
    assert {"graph.png", "graph_as_written.png", "speeds.png"} <= {path.name for path in folder.iterdir()}
    X, y = regression.make_data(config)
    exact = regression.closed_form(X, y)
    residual = X.double() @ exact[:-1] + exact[-1] - y.double()
    assert metrics["mse"] == pytest.approx(float((residual**2).mean()), rel=1e-5)


@pytest.mark.parametrize("kind", ["compiled", "tape"])
def test_three_steps_of_the_graph_match_autograd(kind):
    X, y = regression.make_data(CONFIG)
    w, b = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.SGD([w, b], CONFIG.learning_rate)
    for _ in range(3):
        ((X @ w + b - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    ours = regression.build(CONFIG)
    machine = regression.make_machine(ours, kind)
    for _ in range(3):
        regression.train_step(machine, ours, X, y, CONFIG.learning_rate)
    torch.testing.assert_close(ours.w, w.detach())
    torch.testing.assert_close(ours.b, b.detach())


@pytest.mark.parametrize("make", [regression.eager_step, regression.dynamic_tape_step])
def test_timed_variants_take_the_same_step_as_the_graph(make, monkeypatch):
    """Their weights are local variables: the test records the first two tensors of torch.zeros, w and b."""
    X, y = regression.make_data(CONFIG)
    created, zeros = [], torch.zeros

    def record(*shape, **options):
        created.append(zeros(*shape, **options))
        return created[-1]

    with monkeypatch.context() as patch:
        patch.setattr(torch, "zeros", record)
        step = make(CONFIG, X, y)
    ours = regression.build(CONFIG)
    for _ in range(3):
        step()
        regression.train_step(compiled(*ours.outputs), ours, X, y, CONFIG.learning_rate)
    torch.testing.assert_close(created[0].detach().flatten(), ours.w)
    torch.testing.assert_close(created[1].detach(), ours.b)


@pytest.mark.bf16
def test_bf16_applies_to_training_timing_and_evaluation(options, monkeypatch):
    seen, make_machine = set(), regression.make_machine

    def state():
        return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")

    def make_recording_machine(*arguments):
        machine = make_machine(*arguments)
        return lambda **inputs: seen.add(state()) or machine(**inputs)

    def eager(*arguments):
        return lambda: seen.add((state(), torch.is_autocast_cache_enabled()))

    monkeypatch.setattr(regression, "make_machine", make_recording_machine)
    monkeypatch.setattr(regression, "eager_step", eager)
    regression.train(dataclasses.replace(CONFIG, run=dataclasses.replace(options, precision="bf16")))
    assert seen == {torch.bfloat16, (torch.bfloat16, False)}, "the autocast cache would return outdated bf16 weights"


def test_each_variant_is_timed_once_per_round():
    speeds = regression.time_steps(dataclasses.replace(CONFIG, rounds=2), *regression.make_data(CONFIG), steps=2)
    assert {variant: len(rounds) for variant, rounds in speeds.items()} == dict.fromkeys(
        ("eager", "compiled", "tape", "dynamic_tape"), 2
    )
    assert all(speed > 0 for rounds in speeds.values() for speed in rounds)


def test_limit_reduces_the_number_of_samples(options, capsys):
    limited = dataclasses.replace(CONFIG, run=dataclasses.replace(options, limit=20))
    X, y = regression.make_data(limited)
    assert (X.shape, y.shape) == ((20, 3), (20,))
    assert regression.workload(limited, torch.device("cpu")).items == 20
    regression.train(limited)
    (folder,) = options.out.glob("*/*/*")
    assert regression.restore(folder)[1].sample_count == 20
    assert dataclasses.replace(limited, samples=10).sample_count == 10


@pytest.mark.parametrize(("program", "arithmetic"), [(numerics, "fp32"), (expressions, "fp32 and fp64")])
def test_cpu_programs_print_their_arithmetic(options, program, arithmetic, capsys):
    assert program.Config().run.device == "cpu"
    program.train(program.Config(run=dataclasses.replace(options, precision="bf16")))
    (device,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("device")]
    assert device.endswith(f", {arithmetic}")


def test_the_regression_graph_has_13_nodes():
    """Forward: X, y, w, b, matmul, add, sub, pow, mean. Backward: times 2/N, its sum, X transposed, matmul."""
    outputs = regression.build(CONFIG).outputs
    assert len(outputs[0].graph.program(*outputs).graph.nodes) == 13 + 1


def test_regression_is_repeatable_resumable_and_restorable(options, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, run=options)
    first = regression.train(config)
    again = regression.train(dataclasses.replace(config, run=dataclasses.replace(options, out=tmp_path / "again")))
    assert first["mse"] == again["mse"]
    (folder,) = options.out.glob("*/*/*")
    restored, restored_config = regression.restore(folder)
    assert restored_config == config
    X, y = regression.make_data(config)
    assert float(compiled(*restored.outputs)(X=X, y=y)[0]) == first["mse"]

    log, interrupted = regression.Run.log, dataclasses.replace(options, out=tmp_path / "interrupted")

    def stop_in_second_epoch(self, **splits):
        if self._epoch == 2:
            raise KeyboardInterrupt
        log(self, **splits)

    monkeypatch.setattr(regression.Run, "log", stop_in_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        regression.train(dataclasses.replace(config, run=interrupted))
    monkeypatch.setattr(regression.Run, "log", log)
    resumed = regression.train(dataclasses.replace(config, run=dataclasses.replace(interrupted, resume=True)))
    assert resumed["mse"] == first["mse"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["regression", "--samples", "0"], "--samples must be a number above 0"),
        (["regression", "--noise", "-1"], "--noise must not be negative"),
        (["numerics", "--points", "2"], "--points must be at least 3"),
        (["numerics", "--largest", "0"], "--largest must be above 0"),
        (["expressions", "--format", "gif"], "invalid choice 'gif'"),
    ],
)
def test_errors_of_invalid_flags(words, message, fails, tmp_path):
    error = fails(cli.main, expressions, numerics, regression, arguments=[*words, "--out", str(tmp_path)])
    assert message in error


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_workload_steps_decrease_the_loss(options, precision):
    options = dataclasses.replace(options, precision=precision)
    work = regression.workload(dataclasses.replace(CONFIG, run=options), torch.device("cpu"))
    assert (work.items, work.unit) == (40, "samples")
    losses = [float(work.step()) for _ in range(5)]  # pyright: ignore[reportArgumentType]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.slow
def test_torch_compile_computes_the_same_gradients():
    ours = regression.build(CONFIG)
    X, y = regression.make_data(CONFIG)
    expected = compiled(*ours.outputs)(X=X, y=y)
    got = compiled(*ours.outputs, inductor=True)(X=X, y=y)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
