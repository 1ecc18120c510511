"""Simplify an expression graph: less to compute, and no overflow on the way.

    result = simplify(probabilities.log())
    result.outputs[0]                    # log_softmax(z, dim=1), in a new graph
    result.rewrites                      # what was replaced by what, and by which rule

The graph is written down anew, operands before results. Each new node is offered to the rules; where one applies, what
it gives takes the node's place, and the whole is repeated until no rule applies. Two nodes that compute the same become
one, what depends on constants alone is computed now, and what no output needs is left behind.

What a formula says and what floating-point numbers make of it differ: exp(89) overflows float32, log(0) is -inf, and
log(softmax(z)) of a confident network is one of these. The stable rules replace such formulas by ones that are equal in
exact arithmetic and keep their digits in floating point. Simplify before `grad`: the gradient is then stable too.
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
    """One replacement, and the rule that made it."""

    rule: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.before}  ->  {self.after}   ({self.rule})"


@dataclass(frozen=True)
class Simplified:
    """The given expressions, in a simpler graph of their own."""

    outputs: list[Expression]
    rewrites: list[Rewrite]
    nodes_before: int
    nodes_after: int
    """How many nodes the outputs need."""

    @property
    def graph(self) -> Graph:
        """Give the new graph; inputs have kept their names and what was bound to them, parameters their tensors."""
        return self.outputs[0].graph


def simplify(*outputs: Expression) -> Simplified:
    """Write a graph down anew, simpler, until no rule applies any more."""
    before = len(ancestors([output.node for output in outputs]))
    rewrites, found, current = [], True, list(outputs)
    while found:
        current, found = _once(current)
        rewrites += found
    return Simplified(current, rewrites, before, len(ancestors([output.node for output in current])))


def _once(outputs: list[Expression]) -> tuple[list[Expression], list[Rewrite]]:
    """Write down what the outputs need, each node replaced by the first rule that applies to it."""
    old, new = outputs[0].graph, Graph(outputs[0].graph.device)
    needed = ancestors([output.node for output in outputs])
    given = [node for node in needed if node.op == "placeholder" or node.meta.get("kind") == "parameter"]
    new.reserved = {node.meta["name"] for node in [*given, *(node for node in needed if node.meta.get("named"))]}
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
    """Write a node down in the new graph, its operands replaced by theirs."""
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
    """Take a node apart into its function, its operands and its settings; nothing for what is no function's result."""
    if not isinstance(y, Expression) or y.node.op != "call_function":
        return ()
    args, kwargs = map_arg((y.node.args, y.node.kwargs), lambda n: Expression(y.graph, n))  # pyright: ignore
    return (y.node.target, *args, *kwargs.values())  # pyright: ignore[reportAttributeAccessIssue]


def constant_value(x: Operand) -> torch.Tensor | None:
    """Give the tensor of a constant, None for everything else."""
    if isinstance(x, Expression) and x.node.meta.get("kind") == "constant":
        return x.graph.values[x.name]
    return None


# Rules. Each takes a node and gives what may stand in its place, or None. Its name is what the reader is shown.


def stable_logarithm(y: Expression) -> Expression | None:
    """The logarithm of something that may underflow to 0 or overflow to infinity"""
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
    """e^z / sum(e^z), and 1 / (1 + e^-z): infinity over infinity, or one over infinity"""
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
    """Adding 0, multiplying by 1 and their like: x + 0, x - 0, x * 1, x / 1, x ** 1, -(-x), 0 - x"""
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
    """Reshaping, expanding, transposing and adding up that change nothing"""
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
    """Arithmetic broadcasts by itself: what was expanded before it is expanded after it, or not at all"""
    match call(y):
        case [function, *operands] if function in ELEMENTWISE:
            small = [call(x)[1] if call(x)[:1] == (torch.broadcast_to,) else x for x in operands]
            if any(a is not b for a, b in zip(small, operands, strict=True)):
                return y.graph.apply(function, *small).expand(*y.shape)
    return None


def plain_number(y: Expression) -> Expression | None:
    """A constant tensor with one element becomes a number, where the result keeps its shape"""
    match call(y):
        case [function, a, b] if function in (*ELEMENTWISE, operator.pow):
            for constant, other in ((a, b), (b, a)):
                value = constant_value(constant)
                if value is not None and value.numel() == 1 and getattr(other, "shape", None) == y.shape:
                    number = value.item()
                    return y.graph.apply(function, *((number, b) if constant is a else (a, number)))
    return None


def product_of_numbers(y: Expression) -> Expression | None:
    """Collect factors, (x * 2) * 3 = x * 6"""
    x, factor = _factor(y)
    z, inner = _factor(x)
    return z * (factor * inner) if factor is not None and inner is not None else None


def _factor(y: Expression) -> tuple[Expression, float | None]:
    """Split a product or quotient by a number into the rest and the factor."""
    match call(y):
        case [operator.mul, Expression() as x, float() | int() as number]:
            return x, number
        case [operator.mul, float() | int() as number, Expression() as x]:
            return x, number
        case [operator.truediv, Expression() as x, float() | int() as number] if number:
            return x, 1 / number
    return y, None


def constant_folding(y: Expression) -> Expression | None:
    """What depends on constants alone is computed now; expanding stays, it costs no memory"""
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
