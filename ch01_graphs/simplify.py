"""Simplify an expression graph: fewer operations, and numerically stable ones.

    result = simplify(probabilities.log())
    result.outputs[0]                    # log_softmax(z, dim=1), in a new graph
    result.rewrites                      # replacements: before, after, and the rule

The graph is copied in topological order. The first rule that applies to a new node replaces it; the pass is repeated
until no rule applies. Equal nodes are merged (common subexpression elimination), nodes with constant operands are
computed (constant folding), and nodes that no output depends on are removed (dead code elimination).

Some formulas are correct in exact arithmetic but fail in floating point: exp(89) overflows float32, and log(softmax(z))
is log(0) if a probability underflows. The stable rules replace them by formulas that are equal in exact arithmetic and
do not overflow. Simplify before `grad`: the gradient is then that of the stable formula.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from ch01_graphs.expression import Expression, Operand, formula
from ch01_graphs.graph import Graph, ancestors

ELEMENTWISE = (operator.add, operator.sub, operator.mul, operator.truediv)

Rule = Callable[[Expression], Expression | None]


@dataclass(frozen=True)
class Rewrite:
    """Replacement of a formula, with the name of the rule."""

    rule: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.before}  ->  {self.after}   ({self.rule})"


@dataclass(frozen=True)
class Simplified:
    """Result of `simplify`: the given expressions in a new graph."""

    outputs: list[Expression]
    rewrites: list[Rewrite]
    nodes_before: int
    """Number of nodes that the outputs depended on."""
    nodes_after: int
    """Number of nodes that the new outputs depend on."""

    @property
    def graph(self) -> Graph:
        """Return the new graph, with the same inputs, bound values and parameter tensors."""
        return self.outputs[0].graph


def simplify(*outputs: Expression) -> Simplified:
    """Copy the graph of the outputs and apply the rules until none applies."""
    before = len(ancestors([output.node for output in outputs]))
    rewrites, found, current = [], True, list(outputs)
    while found:
        current, found = _one_pass(current)
        rewrites += found
    return Simplified(current, rewrites, before, len(ancestors([output.node for output in current])))


def _one_pass(outputs: list[Expression]) -> tuple[list[Expression], list[Rewrite]]:
    """Copy the nodes that the outputs depend on; replace each by the result of the first rule that applies."""
    old, new = outputs[0].graph, Graph(outputs[0].graph.device)
    needed = ancestors([output.node for output in outputs])
    sources = [node for node in needed if node.op == "placeholder" or node.meta.get("kind") == "parameter"]
    new.reserved = {node.meta["name"] for node in [*sources, *(node for node in needed if node.meta.get("named"))]}
    copies: dict[fx.Node, Expression] = {}
    known: dict[tuple, Expression] = {}
    rewrites = []
    for node in old.ir.nodes:
        if node not in needed:  # dead code
            continue
        key = (node.op, node.target, repr(map_arg((node.args, node.kwargs), lambda n: copies[n].node)))
        if key not in known:
            with new.backward_nodes(node.meta["backward"]):
                copy = _copy(node, old, new, copies)
                rule, simpler = _first_rule(copy)
            if rule:
                rewrites.append(Rewrite(rule, formula(copy), formula(simpler)))
            if node.meta.get("named") and simpler.node.op == "call_function" and not simpler.node.meta.get("named"):
                simpler.named(node.meta["name"])
            known[key] = simpler
        else:
            rewrites.append(Rewrite("common subexpression", node.meta["name"], known[key].name))
        copies[node] = known[key]
    new.bound.update(old.bound)
    for node, gradient in old.gradients.items():
        if node in copies and gradient.node in copies:
            new.gradients[copies[node].node] = copies[gradient.node]
    return [copies[output.node] for output in outputs], rewrites


def _copy(node: fx.Node, old: Graph, new: Graph, copies: dict[fx.Node, Expression]) -> Expression:
    """Copy a node to the new graph; its operands are replaced by their copies."""
    name = node.meta["name"]
    if node.op == "placeholder":
        return new.tensor(name, node.meta["value"].shape, node.meta["value"].dtype)
    if node.op == "get_attr":
        kind = node.meta["kind"]
        return new.hold(name if kind == "parameter" else new.free_name("constant"), old.values[name], kind)
    args, kwargs = map_arg((node.args, node.kwargs), copies.__getitem__)  # pyright: ignore
    return new.apply(node.target, *args, **kwargs)  # pyright: ignore[reportArgumentType]


def _first_rule(y: Expression) -> tuple[str, Expression]:
    for rule in RULES:
        simpler = rule(y)
        if simpler is not None:
            return rule.__name__.replace("_", " "), simpler
    return "", y


def call(y: Operand) -> tuple[Any, ...]:
    """Return the function and arguments of a node; an empty tuple for inputs, parameters, constants and numbers."""
    if not isinstance(y, Expression) or y.node.op != "call_function":
        return ()
    args, kwargs = map_arg((y.node.args, y.node.kwargs), lambda n: Expression(y.graph, n))  # pyright: ignore
    return (y.node.target, *args, *kwargs.values())  # pyright: ignore[reportAttributeAccessIssue]


def constant_value(x: Operand) -> torch.Tensor | None:
    """Return the tensor of a constant, None for other nodes."""
    if isinstance(x, Expression) and x.node.meta.get("kind") == "constant":
        return x.graph.values[x.name]
    return None


# Rules: each takes a node and returns a replacement or None. The function name is printed as the name of the rule.


def stable_logarithm(y: Expression) -> Expression | None:
    """Replace logarithms of values that may underflow to 0 or overflow to infinity."""
    match call(y):
        case [torch.log, x]:
            match call(x):
                case [torch.exp, z]:
                    return z
                case [torch.softmax, z, dim]:
                    return z.log_softmax(dim)
                case [torch.sigmoid, z]:
                    return z.logsigmoid()
                case [torch.sum, e, dim, keepdim] if call(e)[:1] == (torch.exp,):
                    return call(e)[1].logsumexp(dim, keepdim)
                case [operator.add, 1, e] | [operator.add, e, 1] if call(e)[:1] == (torch.exp,):
                    return -(-call(e)[1]).logsigmoid()  # log(1 + e^z) = -log(1 / (1 + e^z)) = -log s(-z)
                case [operator.sub, 1, s] if call(s)[:1] == (torch.sigmoid,):
                    return (-call(s)[1]).logsigmoid()  # 1 - s(z) = s(-z)
        case [operator.sub, Expression() as z, total]:
            match call(total):
                case [torch.logsumexp, x, (dim,), True] if x.node is z.node:
                    return z.log_softmax(dim)
    return None


def stable_quotient(y: Expression) -> Expression | None:
    """Replace e^z / sum(e^z), e^z / (1 + e^z) and 1 / (1 + e^-z), in which the exponentials may overflow."""
    match call(y):
        case [operator.truediv, e, total] if call(e)[:1] == (torch.exp,):
            match call(total):
                case [torch.sum, f, (dim,), True] if f.node is e.node:
                    return call(e)[1].softmax(dim)
                case [operator.add, 1, f] | [operator.add, f, 1] if f.node is e.node:
                    return call(e)[1].sigmoid()
        case [operator.truediv, 1, total]:
            match call(total):
                case [operator.add, 1, e] | [operator.add, e, 1] if call(e)[:1] == (torch.exp,):
                    return _negated(call(e)[1]).sigmoid()
    return None


def _negated(x: Expression) -> Expression:
    match call(x):
        case [operator.neg, z]:
            return z
    return -x


def neutral_element(y: Expression) -> Expression | None:
    """Remove neutral elements and double negation: x + 0, x - 0, x * 1, x / 1, x ** 1, -(-x); 0 - x becomes -x."""
    match call(y):
        case [operator.add, x, 0] | [operator.add, 0, x] | [operator.sub, x, 0]:
            return x
        case [operator.mul, x, 1] | [operator.mul, 1, x] | [operator.truediv, x, 1] | [operator.pow, x, 1]:
            return x
        case [operator.sub, 0, x]:
            return -x
        case [operator.neg, x] if call(x)[:1] == (operator.neg,):
            return call(x)[1]
    return None


def same_shape(y: Expression) -> Expression | None:
    """Remove reshapes, expansions, transpositions and reductions without effect; merge successive reshapes."""
    match call(y):
        case [torch.reshape | torch.broadcast_to, x, _] if x.shape == y.shape:
            return x
        case [torch.sum | torch.mean | torch.amax, x, (), _] if not x.shape:
            return x
        case [torch.reshape, x, shape] if call(x)[:1] == (torch.reshape,):
            return call(x)[1].reshape(*shape)
        case [torch.transpose, x, *dims]:
            match call(x):
                case [torch.transpose, z, *before] if set(before) == set(dims):
                    return z
    return None


def late_expansion(y: Expression) -> Expression | None:
    """Expand after an arithmetic operation instead of before it; the operation broadcasts its operands."""
    match call(y):
        case [function, *operands] if function in ELEMENTWISE:
            small = [call(x)[1] if call(x)[:1] == (torch.broadcast_to,) else x for x in operands]
            if any(a is not b for a, b in zip(small, operands, strict=True)):
                return y.graph.apply(function, *small).expand(*y.shape)
    return None


def plain_number(y: Expression) -> Expression | None:
    """Replace a constant tensor with one element by a number, if the shape of the result stays the same."""
    match call(y):
        case [function, a, b] if function in (*ELEMENTWISE, operator.pow):
            for constant, other in ((a, b), (b, a)):
                value = constant_value(constant)
                if value is not None and value.numel() == 1 and getattr(other, "shape", None) == y.shape:
                    number = value.item()
                    return y.graph.apply(function, *((number, b) if constant is a else (a, number)))
    return None


def product_of_numbers(y: Expression) -> Expression | None:
    """Combine numeric factors: (x * 2) * 3 becomes x * 6."""
    x, factor = _factor(y)
    z, inner = _factor(x)
    return z * (factor * inner) if factor is not None and inner is not None else None


def _factor(y: Expression) -> tuple[Expression, float | None]:
    """Split x * number or x / number into x and the factor; the factor is None for other nodes."""
    match call(y):
        case [operator.mul, Expression() as x, float() | int() as number]:
            return x, number
        case [operator.mul, float() | int() as number, Expression() as x]:
            return x, number
        case [operator.truediv, Expression() as x, float() | int() as number] if number:
            return x, 1 / number
    return y, None


def constant_folding(y: Expression) -> Expression | None:
    """Compute nodes whose operands are constants, except expansions, which would take memory."""
    node = y.node
    if node.op != "call_function" or node.target is torch.broadcast_to or not node.all_input_nodes:
        return None
    if any(operand.meta.get("kind") != "constant" for operand in node.all_input_nodes):
        return None
    return y.graph.constant(y.graph.run(y))


RULES: list[Rule] = [
    stable_logarithm,
    stable_quotient,
    neutral_element,
    same_shape,
    constant_folding,
    plain_number,
    product_of_numbers,
    late_expansion,
]
