"""Chapter 1: construction and checks of graphs; values and gradients compared with torch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch01_graphs.autodiff import Variable
from ch01_graphs.expression import embed, formula
from ch01_graphs.gradient import RULES, grad
from ch01_graphs.graph import RESERVED_NAMES, Graph
from ch01_graphs.machine import compiled
from ch01_graphs.simplify import simplify

F64 = torch.float64
M, N, V, S = (3, 4), (4, 2), (4,), ()

# Each case: the shapes of the operands, and a function that accepts both tensors and expressions.
OPERATORS = {
    "add": ([M, V], lambda a, b: a + b),
    "add number": ([M], lambda a: 2.0 + a + 1),
    "sub": ([M, V], lambda a, b: a - b),
    "number sub": ([M], lambda a: 2.0 - a),
    "mul": ([M, (3, 1)], lambda a, b: a * b),
    "scalar mul": ([S, M], lambda a, b: a * b),
    "truediv": ([M, V], lambda a, b: a / b),
    "number truediv": ([V], lambda a: 2.0 / a),
    "pow": ([M, V], lambda a, b: a**b),
    "pow number": ([M], lambda a: a**3),
    "pow one": ([M], lambda a: a**1),
    "number pow": ([M], lambda a: 3.0**a),
    "neg": ([M], lambda a: -a),
    "matmul": ([M, N], lambda a, b: a @ b),
    "matrix vector": ([M, V], lambda a, b: a @ b),
    "vector matrix": ([V, N], lambda a, b: a @ b),
    "vector vector": ([V, V], lambda a, b: a @ b),
    "batch matmul": ([(2, 3, 4), (4, 2)], lambda a, b: a @ b),
    "batches matmul": ([(2, 3, 4), (2, 4, 2)], lambda a, b: a @ b),
    "broadcast batches": ([(5, 1, 3, 4), (2, 4, 2)], lambda a, b: a @ b),
    "batch vector": ([(2, 3, 4), V], lambda a, b: a @ b),
    "vector batch": ([V, (2, 4, 3)], lambda a, b: a @ b),
    "exp": ([M], lambda a: a.exp()),
    "log": ([M], lambda a: a.log()),
    "sigmoid": ([M], lambda a: (a - 1).sigmoid()),
    "logsigmoid": ([M], lambda a: call(a - 1, "logsigmoid")),
    "tanh": ([M], lambda a: (a - 1).tanh()),
    "relu": ([M], lambda a: (a - 1).relu()),
    "softmax": ([M], lambda a: a.softmax(1)),
    "softmax of columns": ([M], lambda a: a.softmax(-2)),
    "log_softmax": ([M], lambda a: a.log_softmax(1)),
    "logsumexp": ([M], lambda a: a.logsumexp(1)),
    "logsumexp kept": ([M], lambda a: a.logsumexp((0, 1), keepdim=True)),
    "sum": ([M], lambda a: a.sum()),
    "sum of no dimension is of all": ([M], lambda a: a.sum(())),
    "sum of columns": ([M], lambda a: a.sum(0)),
    "sum kept": ([M], lambda a: a.sum(-1, keepdim=True)),
    "mean": ([M], lambda a: a.mean()),
    "mean of no dimension is of all": ([M], lambda a: a.mean([], keepdim=True)),
    "mean of rows": ([(2, 3, 4)], lambda a: a.mean((0, 2))),
    "amax": ([M], lambda a: a.amax()),
    "amax of rows": ([M], lambda a: a.amax(1, keepdim=True)),
    "reshape": ([M], lambda a: a.reshape(2, -1)),
    "expand": ([(3, 1)], lambda a: a.expand(2, 3, 4)),
    "transpose": ([(2, 3, 4)], lambda a: a.transpose(0, -1)),
    "mT": ([M], lambda a: a.mT),
    "index": ([M], lambda a: a[1]),
    "index last": ([M], lambda a: a[-1, 2]),
    "slice": ([M], lambda a: a[:2, 1:]),
    "slice with step": ([M], lambda a: a[::2, :3]),
    "index twice": ([M], lambda a: a[[0, 0, 2]]),
    "where": ([M, M], lambda a, b: a.where(a > b, b * 2)),
    "where number": ([M], lambda a: a.where(a > 1.0, 0.5)),
    "where broadcast": ([V, M], lambda a, b: a.where(b <= a, b)),
}


def call(x, name):
    """Call a method of an expression, or for tensors the function in torch.nn.functional."""
    return getattr(x, name)() if hasattr(x, name) else getattr(torch.nn.functional, name)(x)


def numbers(*shapes):
    """Sample positive tensors."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(shape, generator=generator, dtype=F64) * 2 + 0.1 for shape in shapes]


def graph_of(function, values):
    """Build the graph of a function and bind the values to its inputs."""
    graph = Graph()
    inputs = [graph.tensor(f"x{i}", value.shape, F64) for i, value in enumerate(values)]
    for x, value in zip(inputs, values, strict=True):
        graph.let(x, value)
    return graph, inputs, function(*inputs)


def scalarised(function):
    """Sum the elements of the result with different weights, to detect a transposed gradient."""

    def loss(*xs):
        y = function(*xs)
        flat = y.reshape(-1)
        weights = torch.linspace(0.5, 1.5, flat.shape[0], dtype=F64)
        return (flat * (weights if isinstance(flat, torch.Tensor) else flat.graph.constant(weights))).sum()

    return loss


def torch_derivatives(loss, values):
    """Return value, gradients, and the gradients of a weighted sum of the squared gradients, by autograd."""
    xs = [value.clone().requires_grad_() for value in values]
    first = torch.autograd.grad(loss(*xs), xs, create_graph=True, materialize_grads=True)
    weighted = torch.stack([((g * (i + 1)) ** 2).sum() for i, g in enumerate(first)]).sum()
    second = (
        torch.autograd.grad(weighted, xs, materialize_grads=True) if weighted.requires_grad else [x * 0 for x in xs]
    )
    return [loss(*values), *(g.detach() for g in first), *(g.detach() for g in second)]


def graph_derivatives(loss, values, simplified=False):
    """Return the same by graphs."""
    graph, inputs, y = graph_of(loss, values)
    first = grad(y, inputs)
    weighted = (first[0] ** 2).sum()
    for i, g in enumerate(first[1:], start=2):
        weighted = weighted + ((g * i) ** 2).sum()
    outputs = [y, *first, *grad(weighted, inputs)]
    if simplified:
        outputs = simplify(*outputs).outputs
        graph = outputs[0].graph
    return list(graph.run(*outputs))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("simplified", [False, True], ids=["as-written", "simplified"])
def test_operator_matches_value_gradient_and_second_derivative_of_torch(name, simplified):
    shapes, function = OPERATORS[name]
    values, loss = numbers(*shapes), scalarised(function)
    expected, got = torch_derivatives(loss, values), graph_derivatives(loss, values, simplified)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_operator_cases_cover_every_rule():
    used = set()
    for shapes, function in OPERATORS.values():
        graph, inputs, y = graph_of(scalarised(function), numbers(*shapes))
        grad(y, inputs)
        used |= {node.target for node in graph.ir.nodes}
    assert set(RULES) <= used


# Random expressions: a list of operations, each applied to earlier values.

UNARY = [
    lambda a: a.tanh(),
    lambda a: a.sigmoid(),
    lambda a: (a * a + 1.0).log(),
    lambda a: (a * 0.3).exp(),
    lambda a: a.relu(),
    lambda a: a.softmax(1),
    lambda a: a.log_softmax(0),
    lambda a: -a,
    lambda a: a**2,
    lambda a: 1.0 / (1.0 + (-a).exp()),
    lambda a: a.mean(1, keepdim=True) + a,
    lambda a: a.amax(0) - a,
    lambda a: a[1:2] * a,
    lambda a: (a.softmax(1)).log(),
    lambda a: a.where(a > 0.1, a * 0.5),
    lambda a: a.reshape(9).reshape(3, 3),
]
BINARY = [
    lambda a, b: a + b,
    lambda a, b: a - b * 2,
    lambda a, b: a * b,
    lambda a, b: a / (b * b + 1.0),
    lambda a, b: a @ b,
    lambda a, b: a.mT @ b * 0.5,
    lambda a, b: a.where(a > b, b),
    lambda a, b: (a.sum(0) * b).tanh(),
]
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(UNARY), st.integers(0, 20)),
        st.tuples(st.sampled_from(BINARY), st.integers(0, 20), st.integers(0, 20)),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS, st.integers(0, 2**20))
def test_random_expression_graphs_agree_with_autograd(operations, seed):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(3, 3, generator=generator, dtype=F64) * 0.7 for _ in range(2)]

    def loss(*xs):
        results = list(xs)
        for operation, *operands in operations:
            results.append(operation(*(results[-1 - i % len(results)] for i in operands)))
        return (results[-1] * results[0]).sum()

    expected = torch_derivatives(loss, values)
    for simplified in (False, True):
        for ours, theirs in zip(graph_derivatives(loss, values, simplified), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7 * (1 + float(theirs.abs().max())))


def micrograd(a, b):
    """Expression of micrograd's README (github.com/karpathy/micrograd), which also lists the results."""
    c = a + b
    d = a * b + b**3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    return g + 10.0 / f


def test_graph_reproduces_the_example_of_micrograd():
    graph = Graph()
    a, b = graph.scalar("a", F64), graph.scalar("b", F64)
    g = micrograd(a, b)
    graph.let(a, -4.0)
    graph.let(b, 2.0)
    values = [round(float(value), 4) for value in graph.run(g, *grad(g, [a, b]))]
    assert values == [24.7041, 138.8338, 645.5773]


def test_dynamic_tape_reproduces_the_example_of_micrograd():
    a, b = Variable(-4.0), Variable(2.0)
    g = micrograd(a, b)
    g.backward()
    assert [round(float(x), 4) for x in (g.value, a.gradient, b.gradient)] == [24.7041, 138.8338, 645.5773]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20))
def test_dynamic_tape_agrees_with_autograd(seed):
    generator = torch.Generator().manual_seed(seed)
    X, w, b = (torch.randn(*shape, generator=generator, dtype=F64) for shape in ((5, 3), (3, 2), (2,)))

    def loss(x, w, b):
        h = (x @ w + b).tanh() * 2.0 - 0.5
        return ((h.exp() / (1.0 + h**2) + (h**2 + 1.0).log()).relu() - b).sum() / 5.0

    theirs = [t.clone().requires_grad_() for t in (X, w, b)]
    loss(*theirs).backward()
    ours = [Variable(t) for t in (X, w, b)]
    y = loss(*ours)
    y.backward()
    torch.testing.assert_close(y.value, loss(X, w, b))
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.gradient, yours.grad)


def test_dynamic_tape_accumulates_gradients_needs_a_scalar_and_supports_deep_graphs():
    x = Variable([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    y.backward()
    assert x.gradient.tolist() == [4.0, 8.0]
    with pytest.raises(ValueError, match=r"backward needs a scalar, but this value has shape \(2,\)"):
        x.backward()
    deep = Variable(1.0)
    top = deep
    for _ in range(5_000):
        top = top + 0.0
    top.backward()
    assert float(deep.gradient) == 1.0


def test_gradient_is_zero_for_inputs_that_the_loss_does_not_depend_on():
    graph = Graph()
    x, y = graph.vector("x", 2, F64), graph.vector("y", 3, F64)
    graph.let(x, [1.0, 2.0])
    dx, dy = grad((x * x).sum(), [x, y])
    (ddx,) = grad(grad(x.sum(), [x])[0].sum(), [x])
    assert graph.run(dx).tolist() == [2.0, 4.0]
    assert graph.run(dy).tolist() == [0.0, 0.0, 0.0]
    assert graph.run(ddx).tolist() == [0.0, 0.0]


def value_and_gradients(function, values, simplified):
    """Return the result and its gradients, by the graph and by torch."""
    xs = [value.clone().requires_grad_() for value in values]
    theirs = torch.autograd.grad(scalarised(function)(*xs), xs, materialize_grads=True)
    graph, inputs, y = graph_of(function, values)
    outputs = [y, *grad(scalarised(lambda *_: y)(*inputs), inputs)]
    if simplified:
        outputs = simplify(*outputs).outputs
        graph = outputs[0].graph
    ours = graph.run(*outputs)
    return ours, [function(*values), *theirs]


def assert_equals_torch(function, values, atol=0.0):
    for simplified in (False, True):
        ours, theirs = value_and_gradients(function, values, simplified)
        for mine, yours in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, yours, rtol=1e-12, atol=atol, equal_nan=True)


@pytest.mark.parametrize("name", OPERATORS)
def test_rules_match_torch_at_zeros_ties_and_both_signs(name):
    shapes, function = OPERATORS[name]
    generator = torch.Generator().manual_seed(5)
    values = [torch.randint(-2, 3, shape, generator=generator).to(F64) for shape in shapes]
    assert_equals_torch(function, values, atol=1e-15)
    assert_equals_torch(function, [value * 0 for value in values], atol=1e-15)


SPECIAL_VALUES = torch.tensor([-1e3, -2.0, -1.0, -0.5, -1e-300, -0.0, 0.0, 1e-300, 1e-8, 0.5, 1.0, 2.0, 1e3], dtype=F64)

ELEMENTWISE = {
    "exp": lambda a: a.exp(),
    "log": lambda a: a.log(),
    "sigmoid": lambda a: a.sigmoid(),
    "logsigmoid": lambda a: call(a, "logsigmoid"),
    "tanh": lambda a: a.tanh(),
    "relu": lambda a: a.relu(),
    "neg": lambda a: -a,
    "number truediv": lambda a: 2.0 / a,
    **{f"pow {b:g}": lambda a, b=b: a**b for b in (0, 1, 2, 3, 0.5, 1.5, -1, -2)},
    **{f"{b:g} pow": lambda a, b=b: b**a for b in (0.0, 0.5, 1.0, 2.0, -2.0)},
    "where": lambda a: a.where(a > 0.0, 2 * a),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_rules_match_torch_at_special_values(name):
    assert_equals_torch(ELEMENTWISE[name], [SPECIAL_VALUES])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "where"])
def test_rules_of_two_operands_match_torch_at_all_pairs_of_special_values(name):
    """For example 0^0, whose gradient with respect to the base is 0, and divisions by 0 and -0."""
    assert_equals_torch(
        OPERATORS[name][1], [part.flatten() for part in torch.meshgrid(SPECIAL_VALUES, SPECIAL_VALUES, indexing="ij")]
    )


def test_mixed_derivative_of_a_power_with_exponent_zero():
    """The derivative of b a^(b-1) with respect to b is 1/a at b = 0."""
    graph = Graph()
    a, b = graph.scalar("a", F64), graph.scalar("b", F64)
    graph.let(a, 4.0)
    graph.let(b, 0.0)
    (mixed,) = grad(grad(a**b, [a])[0], [b])
    assert float(graph.run(mixed)) == 0.25


def test_second_derivatives_at_zero_match_torch():
    """The second derivative of x^1 at 0 is 0, not NaN; the gradient of relu at 0 is 0."""
    zeros = [torch.zeros(3, dtype=F64)]
    for function in (lambda a: a**1, lambda a: a.relu()):
        loss = scalarised(function)
        for ours, theirs in zip(graph_derivatives(loss, zeros), torch_derivatives(loss, zeros), strict=True):
            assert torch.equal(ours, theirs)


def test_equal_maxima_share_the_gradient_evenly():
    graph, (x,), y = graph_of(lambda a: a.amax(), [torch.tensor([1.0, 3.0, 3.0], dtype=F64)])
    assert graph.run(*grad(y, [x])).tolist() == [0.0, 0.5, 0.5]


def test_index_by_an_expression():
    graph = Graph()
    logits, labels = graph.matrix("logits", 3, 4, F64), graph.vector("labels", 3, torch.int64)
    rows = graph.constant(torch.arange(3))
    loss = -logits.log_softmax(1)[rows, labels].mean()
    value = torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.tensor([1, 0, 3])
    expected = torch.nn.functional.cross_entropy(value, target)
    expected.backward()
    graph.let(logits, value.detach())
    graph.let(labels, target)
    got, gradient = graph.run(loss, *grad(loss, [logits]))
    torch.testing.assert_close(got, expected.detach())
    torch.testing.assert_close(gradient, value.grad)


def test_embed_scatters_values_and_adds_duplicates():
    value = torch.tensor([1.0, 2.0, 4.0])
    assert embed(value, (4,), [1, 1, 3]).tolist() == [0, 3, 0, 4]
    assert embed(value, (2, 3), 1).tolist() == [[0, 0, 0], [1, 2, 4]]


# Errors.


@pytest.fixture
def graph():
    return Graph()


def sine_of(x):
    return grad(x.graph.apply(torch.sin, x), [x])


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda g: g.matrix("W", 2, 2) @ g.vector("x", 3), r"node 'matmul' = W @ x: .*\(W is 2x2 float32, x is vector"),
        (lambda g: g.vector("x", 2) + g.vector("y", 3), r"node 'add' = x \+ y: .*x is vector of 2 float32, y is"),
        (
            lambda g: g.vector("x", 2) + g.vector("y", 2, F64),
            r"node 'add' = x \+ y: the operands must have the same dtype",
        ),
        (
            lambda g: g.matrix("W", 2, 2) @ g.matrix("V", 2, 2, F64),
            r"node 'matmul' = W @ V: the operands must have the same dtype",
        ),
        (lambda g: g.vector("k", 2, torch.int64).exp(), r"node 'exp' = exp\(k\): the operands must be floating point"),
        (
            lambda g: g.vector("x", 6).reshape(4, 2),
            r"node 'reshape' = reshape\(x, \(4, 2\)\): shape '\[4, 2\]' is inval",
        ),
        (lambda g: g.vector("x", 6).softmax(1), r"dimension 1 is out of range: x has shape \(6,\)"),
        (lambda g: g.vector("x", 6)[6], r"node 'getitem' = x\[6\]: index 6 is out of bounds"),
        (lambda g: g.vector("x", 2) + Graph().vector("y", 2), "belong to different graphs"),
        (lambda g: g.vector("x", 2) + torch.ones(2), r"a tensor cannot be an operand: use graph.constant\(tensor\)"),
        (lambda g: g.vector("x", 2).where(g.vector("y", 2), 0.0), "the condition must be a comparison"),
        (lambda g: g.vector("x", -1), r"input 'x': the shape must contain integers of at least 0, got \(-1,\)"),
        (lambda g: g.scalar("two words"), "'two words' is not a valid node name"),
        (lambda g: g.scalar("lambda"), "'lambda' is not a valid node name"),
        (lambda g: g.scalar("forward"), "'forward' is not a valid node name"),
        *((lambda g, name=name: g.scalar(name), f"'{name}' is not a valid node name") for name in RESERVED_NAMES),
        (lambda g: g.vector("x", 2).exp().named("torch"), "'torch' is not a valid node name"),
        (lambda g: g.scalar("x") + g.scalar("x"), "already has a node named 'x'"),
        (lambda g: bool(g.scalar("x") > 0), r"x > 0 has no value yet"),
        (lambda g: len(g.scalar("x")), "x is a scalar: it has no length"),
        (lambda g: grad(g.vector("x", 2), []), r"grad needs a scalar, but x has shape \(2,\)"),
        (
            lambda g: grad(g.scalar("x"), [Graph().scalar("y")]),
            "the loss and the expressions belong to different graphs",
        ),
        (lambda g: sine_of(g.scalar("x")), r"no gradient rule for sin\(x\): add one to RULES"),
        (lambda g: g.let(g.vector("x", 2), [1.0, 2.0, 3.0]), "'x' is vector of 2 float32, its value is vector of 3"),
        (lambda g: g.let(g.scalar("x"), torch.tensor(1.0, dtype=F64)), "'x' is scalar float32, its value is scalar fl"),
        (lambda g: g.let("z", 1.0), r"the graph has no input 'z' \(inputs: none\)"),
        (lambda g: g.run(g.scalar("x") * 2), "no value for input x: call let first"),
    ],
)
def test_error_messages(graph, mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake(graph)


def test_an_error_does_not_change_the_graph(graph):
    W, x = graph.matrix("W", 2, 2), graph.vector("x", 3)
    before = len(graph.ir.nodes)
    with pytest.raises(ValueError, match="matmul"):
        W @ x
    assert len(graph.ir.nodes) == before
    assert (W @ graph.vector("y", 2)).name == "matmul"


@pytest.mark.parametrize("names", [("a", "pow_1"), ("pow", "pow_1"), ("pow_1", "pow"), ("sum_1", "sum")])
def test_an_input_with_the_name_of_a_generated_variable_keeps_its_value(graph, names):
    """In the generated code, fx names both the node pow of a² and an input pow `pow_1`."""
    first = graph.scalar(names[0])
    second = None if names[0] == "a" else graph.scalar(names[1])
    square = first**2
    result = square + (graph.scalar(names[1]) if second is None else second) + square.sum()
    graph.let(names[0], 3.0)
    graph.let(names[1], 100.0)
    assert float(graph.run(result)) == 118.0
    values = {name: graph.bound[name] for name in names}
    assert float(compiled(result)(**values)[0]) == 118.0


def test_compiled_function_checks_the_inputs_of_its_first_call(graph):
    x = graph.vector("x", 2)
    double = compiled(x * 2)
    with pytest.raises(ValueError, match="the function needs inputs x, got y"):
        double(y=torch.ones(2))
    with pytest.raises(ValueError, match="input 'x' is vector of 2 float32"):
        double(x=torch.ones(3))
    assert double(x=torch.ones(2))[0].tolist() == [2.0, 2.0]


def test_expressions_are_formatted_as_python(graph):
    x, y = graph.matrix("x", 2, 3), graph.matrix("y", 2, 3)
    assert formula((x + y) * -x) == "(x + y) * (-x)"
    assert formula((-2.0) ** x) == "(-2) ** x"
    assert formula((x - 1.5) ** 2 / y) == "((x - 1.5) ** 2) / y"
    assert formula(x.softmax(1).log()) == "log(softmax(x, dim=1))"
    assert formula(x[0, 1:].sum()) == "sum(x[0, 1:], dim=(0,))"
    assert formula(x.sum(1, keepdim=True)) == "sum(x, dim=(1,), keepdim=True)"
    assert formula((x.exp() + 1).log().tanh().exp()) == "exp(tanh(log(add_1)))"
    assert repr((x @ y.mT).named("h")) == "x @ transpose(y, 0, 1): 2x2 float32"


def test_parameters_copy_their_initial_value_and_can_be_updated_in_place(graph):
    w = graph.parameter("w", [1.0, 2.0])
    y = w * 2
    graph.value(w).add_(1)
    assert graph.run(y).tolist() == [4.0, 6.0]
    given = torch.ones(2)
    graph.parameter("v", given)
    given.zero_()
    assert graph.values["v"].tolist() == [1.0, 1.0]


def test_a_vector_can_be_unpacked(graph):
    x = graph.vector("x", 3)
    graph.let(x, [1.0, 2.0, 4.0])
    a, b, c = x
    assert float(graph.run(a + b * c)) == 9.0


def test_gradient_of_a_power_with_a_number_as_base():
    graph, (x,), y = graph_of(lambda a: 2.0**a, [torch.tensor(3.0, dtype=F64)])
    assert float(graph.run(*grad(y, [x]))) == pytest.approx(8 * math.log(2), rel=1e-14)


@pytest.mark.parametrize("base", [0.0, 0, -2.0])
def test_gradient_of_a_power_with_a_base_without_logarithm_matches_torch(base):
    """The gradient is 0 for base 0 and NaN for a negative base."""
    values = [torch.tensor([0.0, 1.0, 2.0], dtype=F64)]
    loss = scalarised(lambda a: base**a)
    for ours, theirs in zip(graph_derivatives(loss, values)[:2], torch_derivatives(loss, values)[:2], strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
