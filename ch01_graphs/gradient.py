"""Symbolic reverse-mode differentiation: the gradients are nodes of the same graph.

    dW, db = grad(loss, [W, b])          # expressions: evaluate, draw or differentiate them

`RULES` has one entry per operator. For a result y = f(a, b) with gradient g = dL/dy, it computes the gradient with
respect to each operand: dL/da = g df/da. The nodes are visited from the loss back to the inputs, and the gradients of a
node that is used several times are added: the chain rule in reverse mode (Griewank & Walther 2008, section 3.2).
"""

# ruff: noqa: ARG001, ARG005  # all rules have the same signature

import functools
import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import fx
from torch.fx.node import map_arg
from torch.nn import functional as F

from ch01_graphs.expression import COMPARISONS, Expression, Index, Operand, embed, formula
from ch01_graphs.graph import ancestors


def grad(loss: Expression, wrt: Sequence[Expression]) -> list[Expression]:
    """Add the gradients of a scalar loss with respect to the given expressions to the graph; return them.

    The gradient is zero if the loss does not depend on an expression. Raises ValueError if the loss is not a scalar or
    an operator has no rule.
    """
    graph = loss.graph
    if loss.shape:
        raise ValueError(f"grad needs a scalar, but {formula(loss)} has shape {loss.shape}")
    if any(expression.graph is not graph for expression in wrt):
        raise ValueError("the loss and the expressions belong to different graphs")
    targets = {expression.node for expression in wrt}
    needed, on_path = ancestors([loss.node]), set[fx.Node]()
    for node in graph.ir.nodes:
        if node in needed and (node in targets or on_path.intersection(node.all_input_nodes)):
            on_path.add(node)
    with graph.backward_nodes():
        gradients = {loss.node: graph.constant(torch.ones((), dtype=loss.dtype))}
        for node in reversed([node for node in graph.ir.nodes if node in on_path]):
            if node not in gradients:  # used only in comparisons or in the condition of where
                continue
            for operand, contribution in _contributions(Expression(graph, node), gradients[node], on_path):
                before = gradients.get(operand)
                gradients[operand] = contribution if before is None else before + contribution
        graph.gradients.update(gradients)
        return [
            gradients[x.node] if x.node in gradients else graph.constant(torch.zeros(x.shape, dtype=x.dtype))
            for x in wrt
        ]


def _contributions(y: Expression, g: Expression, on_path: set[fx.Node]) -> list[tuple[fx.Node, Expression]]:
    """Apply the rules of the operator of y for the operands in `on_path`."""
    node, graph = y.node, y.graph
    if node.op != "call_function" or node.target in COMPARISONS:
        return []
    if node.target not in RULES:
        raise ValueError(f"no gradient rule for {formula(y, depth=1)}: add one to RULES")
    wrap = lambda operand: Expression(graph, operand)  # noqa: E731
    args, kwargs = map_arg((node.args, node.kwargs), wrap)  # pyright: ignore[reportArgumentType]
    contributions = []
    for rule, operand in zip(RULES[node.target], args, strict=False):  # pyright: ignore[reportArgumentType]
        if rule is not None and isinstance(operand, Expression) and operand.node in on_path:
            contributions.append((operand.node, sum_to(rule(g, y, *args, **kwargs), operand.shape)))
    return contributions


def sum_to(g: Expression, shape: tuple[int, ...]) -> Expression:
    """Sum a gradient over the dimensions that were broadcast."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    stretched = [lead + i for i, size in enumerate(shape) if size == 1 and g.shape[lead + i] != 1]
    if stretched:
        g = g.sum(stretched, keepdim=True)
    return g.sum(tuple(range(lead))) if lead else g


def keep(reduced: Expression, x: Expression, dim: tuple[int, ...]) -> Expression:
    """Restore the reduced dimensions of x with size 1, as keepdim=True."""
    return shaped(reduced, tuple(1 if i in dim else size for i, size in enumerate(x.shape)))


def shaped(x: Expression, shape: tuple[int, ...]) -> Expression:
    """Reshape, unless the shape is the same."""
    return x if x.shape == shape else x.reshape(*shape)


def matmul_left(g: Expression, y: Expression, a: Expression, b: Expression) -> Expression:
    """dL/dA = G B^T for Y = A B; a vector A is treated as a row, a vector B as a column."""
    if b.ndim == 1:
        return g.reshape(*g.shape, 1) * b
    if a.ndim > 1:
        return g @ b.mT
    return b @ g if b.ndim == 2 else (b @ g.reshape(*g.shape, 1)).reshape(*b.shape[:-1])


def matmul_right(g: Expression, y: Expression, a: Expression, b: Expression) -> Expression:
    """dL/dB = A^T G for Y = A B"""
    if a.ndim == 1:
        return a.reshape(-1, 1) * g.reshape(*g.shape[:-1], 1, g.shape[-1]) if b.ndim > 1 else g * a
    if b.ndim > 1 or a.ndim == 2:
        return a.mT @ g
    return (a.mT @ g.reshape(*g.shape, 1)).reshape(*a.shape[:-2], a.shape[-1])


def pow_base(g: Expression, y: Expression, a: Expression, b: Operand) -> Expression:
    """dL/da = g b a^(b-1) for y = a^b; 0 where b = 0 (at a = 0 the product would be 0 times infinity, NaN)"""
    if not isinstance(b, Expression):
        return g * 0.0 if b == 0 else g * b * a ** (b - 1.0)
    where = functools.partial(y.graph.apply, torch.where)
    base = where(b.eq(0.0), where(a.eq(0.0), 1.0, a), a)  # 1 where a and b are both 0
    return g * b * base ** (b - 1.0)


def pow_exponent(g: Expression, y: Expression, a: Operand, b: Expression) -> Expression:
    """dL/db = g a^b log(a) for y = a^b; 0 where a = 0 and b >= 0"""
    if not isinstance(a, Expression):
        slope = g * y * (math.log(a) if a > 0 else -math.inf if a == 0 else math.nan)
        return y.graph.apply(torch.where, b >= 0.0, 0.0, slope) if a == 0 else slope
    slope = g * y * a.log()
    return slope.where(b < 0.0, y.graph.apply(torch.where, a.eq(0.0), 0.0, slope))


def sum_rule(g: Expression, y: Expression, x: Expression, dim: tuple[int, ...], keepdim: bool) -> Expression:
    """dL/dx = g for every element of the sum"""
    return keep(g, x, dim).expand(*x.shape)


def mean_rule(g: Expression, y: Expression, x: Expression, dim: tuple[int, ...], keepdim: bool) -> Expression:
    """dL/dx = g / n for each of the n averaged elements"""
    n = math.prod(x.shape[i] for i in dim)
    return keep(g / n, x, dim).expand(*x.shape)


def amax_rule(g: Expression, y: Expression, x: Expression, dim: tuple[int, ...], keepdim: bool) -> Expression:
    """Divide the gradient evenly between equal maxima."""
    one = x.graph.constant(torch.ones((), dtype=x.dtype))
    largest = one.where(x.eq(keep(y, x, dim)), 0.0)
    return keep(g, x, dim) * largest / largest.sum(dim, keepdim=True)


def getitem_rule(g: Expression, y: Expression, x: Expression, index: Index) -> Expression:
    """Scatter the gradient to the indexed elements."""
    return x.graph.apply(embed, g, x.shape, index)


Rule = Callable[..., Expression]

# One function per operand: it maps the gradient g with respect to the result y to the gradient for the operand.
RULES: dict[Callable, tuple[Rule | None, ...]] = {
    operator.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),  # d(a + b) = da + db
    operator.sub: (lambda g, y, a, b: g, lambda g, y, a, b: -g),  # d(a - b) = da - db
    operator.mul: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),  # d(ab) = b da + a db
    operator.truediv: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),  # d(a/b) = da/b - (a/b) db/b
    operator.pow: (pow_base, pow_exponent),  # d(a^b) = b a^(b-1) da + a^b log(a) db
    operator.matmul: (matmul_left, matmul_right),  # d(AB) = dA B + A dB
    operator.neg: (lambda g, y, x: -g,),
    torch.exp: (lambda g, y, x: g * y,),  # exp' = exp
    torch.log: (lambda g, y, x: g / x,),  # log' = 1/x
    torch.sigmoid: (lambda g, y, x: g * y * (1.0 - y),),  # s' = s (1 - s)
    F.logsigmoid: (lambda g, y, x: g * (-x).sigmoid(),),  # (log s)' = 1 - s(x) = s(-x)
    torch.tanh: (lambda g, y, x: g * (1.0 - y * y),),  # tanh' = 1 - tanh^2
    torch.relu: (lambda g, y, x: g.where(x > 0.0, 0.0),),  # 1 where x > 0, else 0
    torch.softmax: (lambda g, y, x, dim: y * (g - (g * y).sum(dim, keepdim=True)),),  # dy = y (dx - y . dx)
    torch.log_softmax: (lambda g, y, x, dim: g - y.exp() * g.sum(dim, keepdim=True),),  # dy = dx - softmax(x) . dx
    torch.logsumexp: (lambda g, y, x, dim, keepdim: keep(g, x, dim) * (x - keep(y, x, dim)).exp(),),  # softmax(x)
    torch.sum: (sum_rule,),
    torch.mean: (mean_rule,),
    torch.amax: (amax_rule,),
    torch.where: (
        None,  # the condition has no gradient
        lambda g, y, condition, a, b: g.where(condition, 0.0),
        lambda g, y, condition, a, b: y.graph.apply(torch.where, condition, 0.0, g),
    ),
    torch.reshape: (lambda g, y, x, shape: g.reshape(*x.shape),),
    torch.broadcast_to: (lambda g, y, x, shape: g,),  # sum_to sums over the broadcast dimensions
    torch.transpose: (lambda g, y, x, dim0, dim1: g.transpose(dim0, dim1),),
    operator.getitem: (getitem_rule,),
    embed: (lambda g, y, value, shape, index: g[index],),
}
