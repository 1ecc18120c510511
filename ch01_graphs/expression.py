"""Expressions: nodes of a graph with the arithmetic operators and methods of a tensor."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.nn import functional as F

from common.drawing.graphs import describe

if TYPE_CHECKING:
    from ch01_graphs.graph import Graph

Operand = Union["Expression", float]

INFIX = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.matmul: "@",
    operator.pow: "**",
    operator.gt: ">",
    operator.ge: ">=",
    operator.lt: "<",
    operator.le: "<=",
}
"""Symbols of the infix operators."""

COMPARISONS = (operator.gt, operator.ge, operator.lt, operator.le, torch.eq)

Index = Any
"""Index of a tensor: integers, slices, an integer expression, or a tuple of these."""


def embed(value: Tensor, shape: Sequence[int], index: Index) -> Tensor:
    """Scatter a value into a tensor of zeros: the adjoint of `x[index]`.

    Values with the same position are added.
    """
    zeros = torch.zeros(shape, dtype=value.dtype, device=value.device)
    positions = torch.arange(zeros.numel(), device=value.device).view(zeros.shape)[index]
    return zeros.flatten().index_add(0, positions.flatten(), value.flatten()).view(zeros.shape)


def _unary(function: Callable) -> "Callable[[Expression], Expression]":
    return lambda x: x.graph.apply(function, x)


def _infix(function: Callable) -> "Callable[[Expression, Operand], Expression]":
    return lambda left, right: left.graph.apply(function, left, right)


def _reflected(function: Callable) -> "Callable[[Expression, float], Expression]":
    return lambda right, left: right.graph.apply(function, left, right)


class Expression:
    """Node of a graph with the arithmetic operators and methods of a tensor."""

    __array_ufunc__ = None  # NumPy must return NotImplemented for `array + expression`

    def __init__(self, graph: "Graph", node: fx.Node) -> None:
        self.graph, self.node = graph, node

    @property
    def name(self) -> str:
        """Return the name of the node."""
        return self.node.meta["name"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the value."""
        return tuple(self.node.meta["value"].shape)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the value."""
        return self.node.meta["value"].dtype

    @property
    def ndim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{formula(self)}: {describe(self)}"

    def __bool__(self) -> bool:
        raise ValueError(f"{formula(self)} has no value yet, so Python cannot branch on it: use a.where(condition, b)")

    def __len__(self) -> int:
        if not self.shape:
            raise ValueError(f"{formula(self)} is a scalar: it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Expression"]:
        return (self[i] for i in range(len(self)))

    def named(self, name: str) -> "Expression":
        """Set the name of the node; return the expression."""
        self.node.meta.update(name=self.graph.claim_name(name), named=True)
        return self

    # Arithmetic. Comparisons return boolean expressions for `where`.

    __add__, __radd__ = _infix(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _infix(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _infix(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _infix(operator.truediv), _reflected(operator.truediv)
    __pow__, __rpow__ = _infix(operator.pow), _reflected(operator.pow)
    __matmul__ = _infix(operator.matmul)
    __gt__, __ge__ = _infix(operator.gt), _infix(operator.ge)
    __lt__, __le__ = _infix(operator.lt), _infix(operator.le)

    def eq(self, other: "Expression | float") -> "Expression":
        """Compare elementwise; `==` tests whether two expressions are the same object."""
        return self.graph.apply(torch.eq, self, other)

    def where(self, condition: "Expression", other: "Expression | float") -> "Expression":
        """Select this value where the condition is true, otherwise the other."""
        return self.graph.apply(torch.where, condition, self, other)

    # Elementwise functions.

    exp = _unary(torch.exp)
    log = _unary(torch.log)
    sigmoid = _unary(torch.sigmoid)
    logsigmoid = _unary(F.logsigmoid)
    tanh = _unary(torch.tanh)
    relu = _unary(torch.relu)
    __neg__ = _unary(operator.neg)

    # Reductions and softmax.

    def softmax(self, dim: int) -> "Expression":
        """Softmax along a dimension: exp(x) / sum(exp(x))"""
        return self.graph.apply(torch.softmax, self, dim=self._dimension(dim))

    def log_softmax(self, dim: int) -> "Expression":
        """Logarithm of softmax along a dimension: x - log(sum(exp(x)))"""
        return self.graph.apply(torch.log_softmax, self, dim=self._dimension(dim))

    def sum(self, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> "Expression":
        """Sum over the given dimensions, by default over all."""
        return self.graph.apply(torch.sum, self, dim=self._dimensions(dim), keepdim=keepdim)

    def mean(self, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> "Expression":
        """Mean over the given dimensions, by default over all."""
        return self.graph.apply(torch.mean, self, dim=self._dimensions(dim), keepdim=keepdim)

    def amax(self, dim: int | Sequence[int] = (), keepdim: bool = False) -> "Expression":
        """Maximum over the given dimensions, by default over all; equal maxima share the gradient evenly."""
        return self.graph.apply(torch.amax, self, dim=self._dimensions(dim), keepdim=keepdim)

    def logsumexp(self, dim: int | Sequence[int], keepdim: bool = False) -> "Expression":
        """log(sum(exp(x))) over the given dimensions, without overflow"""
        return self.graph.apply(torch.logsumexp, self, dim=self._dimensions(dim), keepdim=keepdim)

    # Shape and indexing.

    def reshape(self, *shape: int) -> "Expression":
        """Reshape; one size may be -1 and is then inferred."""
        return self.graph.apply(torch.reshape, self, shape)

    def expand(self, *shape: int) -> "Expression":
        """Broadcast to a shape without copying."""
        return self.graph.apply(torch.broadcast_to, self, shape)

    def transpose(self, dim0: int, dim1: int) -> "Expression":
        """Swap two dimensions."""
        return self.graph.apply(torch.transpose, self, self._dimension(dim0), self._dimension(dim1))

    @property
    def mT(self) -> "Expression":  # noqa: N802  # name as in torch
        """Return the transpose of a matrix, or of each matrix of a batch."""
        return self.transpose(-2, -1)

    def __getitem__(self, index: Index) -> "Expression":
        return self.graph.apply(operator.getitem, self, index)

    def _dimension(self, dim: int) -> int:
        if not -self.ndim <= dim < self.ndim:
            raise ValueError(f"dimension {dim} is out of range: {formula(self)} has shape {self.shape}")
        return dim % self.ndim

    def _dimensions(self, dim: int | Sequence[int] | None) -> tuple[int, ...]:
        dims = (dim,) if isinstance(dim, int) else dim or range(self.ndim)  # () means all, as in torch
        return tuple(self._dimension(d) for d in dims)


def formula(expression: Expression, depth: int = 3) -> str:
    """Format an expression as Python code, `log(softmax(z, dim=1))`; operands below the depth appear as names."""
    node = expression.node
    if node.op != "call_function" or depth == 0:
        return expression.name
    wrap = lambda operand: Expression(expression.graph, operand)  # noqa: E731
    args, kwargs = map_arg((node.args, node.kwargs), wrap)  # pyright: ignore
    return format_call(node.target, args, kwargs, depth - 1)  # pyright: ignore[reportArgumentType]


def format_call(function: Callable, args: Sequence, kwargs: Mapping, depth: int = 2) -> str:
    """Format a function call as Python code."""
    parts = [_format_argument(arg, depth) for arg in args]
    if function in INFIX or function in (operator.neg, operator.getitem):
        parts[0] = _parenthesised(args[0], parts[0])
    if function is operator.pow and parts[0].startswith("-"):  # -2 ** x is -(2 ** x)
        parts[0] = f"({parts[0]})"
    if function in INFIX:
        return f"{parts[0]} {INFIX[function]} {_parenthesised(args[1], parts[1])}"
    if function is operator.neg:
        return f"-{parts[0]}"
    if function is operator.getitem:
        return f"{parts[0]}[{parts[1].strip('()')}]"
    parts += [f"{name}={_format_argument(value, depth)}" for name, value in kwargs.items() if value is not False]
    return f"{function.__name__.strip('_')}({', '.join(parts)})"


def _format_argument(value: Any, depth: int) -> str:
    if isinstance(value, Expression):
        return formula(value, depth)
    if isinstance(value, tuple):
        return f"({', '.join(_format_argument(element, depth) for element in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, slice):
        bounds = ":".join("" if bound is None else str(bound) for bound in (value.start, value.stop))
        return bounds if value.step is None else f"{bounds}:{value.step}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parenthesised(value: Any, text: str) -> str:
    infix = isinstance(value, Expression) and value.node.target in (*INFIX, operator.neg) and text != value.name
    return f"({text})" if infix else text
