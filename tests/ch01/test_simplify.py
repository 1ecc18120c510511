"""Chapter 1: rules of `simplify`, formulas that it must not change, and its list of rewrites."""

import pytest
import torch

from ch01_graphs import numerics
from ch01_graphs.expression import formula
from ch01_graphs.gradient import grad
from ch01_graphs.graph import Graph
from ch01_graphs.simplify import simplify

F64 = torch.float64


def simplified_formula(function, shape=(2, 3)):
    """Simplify a function of a matrix x; return its formula."""
    graph = Graph()
    return formula(simplify(function(graph.tensor("x", shape))).outputs[0], depth=6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.softmax(1).log(), "log_softmax(x, dim=1)"),
        (lambda x: x.sigmoid().log(), "log_sigmoid(x)"),
        (lambda x: (1 + x.exp()).log(), "-log_sigmoid(-x)"),
        (lambda x: (x.exp() + 1).log(), "-log_sigmoid(-x)"),
        (lambda x: (1 - x.sigmoid()).log(), "log_sigmoid(-x)"),
        (lambda x: x.exp().sum(1, keepdim=True).log(), "logsumexp(x, dim=(1,), keepdim=True)"),
        (lambda x: x.exp() / x.exp().sum(1, keepdim=True), "softmax(x, dim=1)"),
        (lambda x: (x.exp() / x.exp().sum(0, keepdim=True)).log(), "log_softmax(x, dim=0)"),
        (lambda x: x - x.exp().sum(1, keepdim=True).log(), "log_softmax(x, dim=1)"),
        (lambda x: 1 / (1 + (-x).exp()), "sigmoid(x)"),
        (lambda x: 1 / (x.exp() + 1), "sigmoid(-x)"),
        (lambda x: x.exp() / (1 + x.exp()), "sigmoid(x)"),
        (lambda x: (1 / (1 + (-x).exp())).log(), "log_sigmoid(x)"),
        (lambda x: x.exp().log(), "x"),
        (lambda x: x + 0, "x"),
        (lambda x: 0 + x, "x"),
        (lambda x: x - 0, "x"),
        (lambda x: 0 - x, "-x"),
        (lambda x: x * 1.0, "x"),
        (lambda x: 1 * x, "x"),
        (lambda x: x / 1, "x"),
        (lambda x: x**1, "x"),
        (lambda x: (-x).__neg__(), "x"),
        (lambda x: x.reshape(2, 3), "x"),
        (lambda x: x.reshape(6).reshape(3, 2), "reshape(x, (3, 2))"),
        (lambda x: x.expand(2, 3), "x"),
        (lambda x: x.mT.mT, "x"),
        (lambda x: x[0, 0].sum(), "x[0, 0]"),
        (lambda x: x * 2 * 3, "x * 6"),
        (lambda x: 2 * (x / 4), "x * 0.5"),
        (lambda x: x[0].expand(2, 3) * x, "x[0] * x"),
        (lambda x: x[0].expand(2, 3) * 2, "broadcast_to(x[0] * 2, (2, 3))"),
        (lambda x: x + x.graph.constant(torch.tensor(2.0)) * 3.0, "x + 6"),
        # Similar formulas to which no rule applies.
        (lambda x: x.softmax(1), "softmax(x, dim=1)"),
        (lambda x: (2 + x.exp()).log(), "log(2 + exp(x))"),
        (lambda x: x.exp() / x.exp().sum(1), "exp(x) / sum(exp(x), dim=(1,))"),
        (lambda x: x.exp() / (x * 2).exp().sum(1, keepdim=True), None),
        (lambda x: x - x.logsumexp((0, 1), keepdim=True), None),
        (lambda x: x - (x * 2).logsumexp(1, keepdim=True), None),
        (lambda x: 1.0 - x.logsumexp(1, keepdim=True), None),
        (lambda x: x.sum(()), "sum(x, dim=(0, 1))"),
        (lambda x: x.graph.apply(torch.sum, x, dim=(), keepdim=False), None),
        (lambda x: 1 - x, "1 - x"),
        (lambda x: 1 / x, "1 / x"),
        (lambda x: 1**x, "1 ** x"),
        (lambda x: x * 0, "x * 0"),
        (lambda x: x.reshape(3, 2).mT, None),
        (lambda x: x.reshape(1, 2, 3).transpose(0, 1).transpose(1, 2), None),
        (lambda x: x * x.graph.constant(torch.full((1, 1, 1), 2.0)), "x * constant"),
    ],
)
def test_rewrites(function, expected):
    shape = (3, 3) if expected == "exp(x) / sum(exp(x), dim=(1,))" else (2, 3)
    got = simplified_formula(function, shape)
    if expected is None:
        x = Graph().tensor("x", shape)
        expected = formula(function(x), depth=6)
    assert got == expected


def test_common_subexpressions_are_merged_and_dead_code_is_removed():
    graph = Graph()
    x = graph.vector("x", 3)
    unused = (x.tanh() * 5).named("unused")
    y = (x.exp() + 1) * (x.exp() + 1)
    result = simplify(y)
    assert (result.nodes_before, result.nodes_after) == (6, 4)
    assert [rewrite.rule for rewrite in result.rewrites] == ["common subexpression"] * 2
    assert unused.name not in {node.meta["name"] for node in result.graph.ir.nodes}
    assert result.outputs[0].node.args[0] is result.outputs[0].node.args[1]


def test_constants_are_folded_and_parameters_are_kept():
    graph = Graph()
    w = graph.parameter("w", [1.0, 2.0])
    c = graph.constant([3.0, 4.0])
    result = simplify(w * ((c * c).exp() - c))
    assert result.nodes_after == 3
    kinds = {node.meta.get("kind") for node in result.graph.ir.nodes}
    assert {"parameter", "constant"} <= kinds
    assert result.graph.values["w"] is graph.values["w"], "optimizers update this tensor in place"
    expected = torch.tensor([1.0, 2.0]) * (torch.tensor([9.0, 16.0]).exp() - torch.tensor([3.0, 4.0]))
    assert torch.equal(result.graph.run(result.outputs[0]), expected)


def test_a_folded_constant_does_not_take_the_name_of_a_parameter():
    graph = Graph()
    six = graph.constant(torch.tensor([2.0])) * graph.constant(torch.tensor([3.0]))
    w = graph.parameter("constant_2", [5.0])
    result = simplify(six * w)
    assert result.graph.values["constant_2"].tolist() == [5.0]
    assert result.graph.run(*result.outputs).tolist() == [30.0]


def test_a_rewrite_is_formatted_with_its_rule():
    z = Graph().matrix("z", 2, 3)
    (first,) = simplify(z.softmax(1).log()).rewrites
    assert str(first) == "log(softmax(z, dim=1))  ->  log_softmax(z, dim=1)   (stable logarithm)"


def test_names_bound_values_and_gradients_are_kept():
    graph = Graph()
    x, w = graph.vector("add", 2, F64), graph.parameter("mul", torch.tensor([1.0, -1.0], dtype=F64))
    loss = ((x + 0) * w + 0 * x + x * w).sum().named("loss")
    (dw,) = grad(loss, [w])
    graph.let(x, [1.0, 2.0])
    result = simplify(loss, dw)
    assert result.outputs[0].name == "loss"
    assert result.graph.inputs["add"].shape == (2,)
    for ours, theirs in zip(result.graph.run(*result.outputs), graph.run(loss, dw), strict=True):
        assert torch.equal(ours, theirs)
    kept = result.graph.gradients
    assert (
        kept[next(node for node in result.graph.ir.nodes if node.meta["name"] == "mul")].node is result.outputs[1].node
    )


def test_rewritten_formulas_are_accurate_where_exp_overflows():
    """Compare values and gradients with float64 at inputs from -300 to 300."""
    x = torch.linspace(-300, 300, 61)
    for name, exact in numerics.EXACT.items():
        as_written, rewritten = numerics.evaluate_both(name, x)
        assert numerics.non_finite(as_written.gradient) > 20, name
        assert numerics.non_finite(rewritten.value) == numerics.non_finite(rewritten.gradient) == 0, name
        assert numerics.largest_error(rewritten, exact(x.double())) < 2e-7, name
        value = x.double().requires_grad_()
        (slope,) = torch.autograd.grad(exact(value).sum(), value)
        torch.testing.assert_close(rewritten.gradient.double(), slope, rtol=0, atol=1e-6)


def test_condition_numbers():
    """k = 1 / |log x| for log x, |x / (x - 1)| for x - 1, and about 1/2 for sqrt(x + 1) - sqrt(x) with large x."""
    assert numerics.condition_number(lambda x: x.log(), 1.0001) == pytest.approx(10_000.5, rel=1e-6)
    assert numerics.condition_number(lambda x: x - 1, 3.0) == pytest.approx(1.5, rel=1e-12)
    assert numerics.condition_number(numerics.PROBLEMS[3].formula, 1e6) == pytest.approx(0.5, rel=1e-4)
