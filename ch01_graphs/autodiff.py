"""Reverse-mode automatic differentiation on a dynamic tape, as in PyTorch: execute operations and record them.

    a, b = Variable(-4.0), Variable(2.0)
    c = (a * b + b**3).relu()
    c.backward()                         # a.gradient, b.gradient

Each result stores its operands and a function that maps the gradient with respect to the result to the gradients with
respect to the operands. The tape is built in every step; a `Graph` is built once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Pull = Callable[[Tensor], Sequence[Tensor]]
"""Maps the gradient g of the loss with respect to a result to the gradients with respect to its operands."""


class Variable:
    """Value with its operands and its gradient."""

    def __init__(self, value: Any, operands: Sequence[Variable] = (), pull: Pull | None = None) -> None:
        self.value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        self.gradient = torch.zeros_like(self.value)
        self.operands, self.pull = operands, pull

    def backward(self) -> None:
        """Compute the gradients of this scalar; inputs and parameters add up their gradients over calls."""
        if self.value.ndim:
            raise ValueError(f"backward needs a scalar, but this value has shape {tuple(self.value.shape)}")
        tape = self._tape()
        for result in tape:
            if result.operands:  # discard intermediate gradients of an earlier call
                result.gradient = torch.zeros_like(result.value)
        self.gradient = torch.ones_like(self.value)
        for result in reversed(tape):
            pieces = result.pull(result.gradient) if result.pull else ()
            for operand, piece in zip(result.operands, pieces, strict=True):
                operand.gradient = operand.gradient + _sum_to(piece, operand.value.shape)

    def _tape(self) -> list[Variable]:
        """List the variables that this one depends on in topological order."""
        tape, seen, waiting = list[Variable](), set[int](), [(self, False)]
        while waiting:  # no recursion: unrolled networks exceed Python's recursion limit
            variable, operands_listed = waiting.pop()
            if operands_listed:
                tape.append(variable)
            elif id(variable) not in seen:
                seen.add(id(variable))
                waiting += [(variable, True), *((operand, False) for operand in variable.operands)]
        return tape

    def __add__(self, other: Variable | float) -> Variable:
        other = _variable(other, self)
        return Variable(self.value + other.value, (self, other), lambda g: (g, g))

    def __mul__(self, other: Variable | float) -> Variable:
        other = _variable(other, self)
        return Variable(self.value * other.value, (self, other), lambda g: (g * other.value, g * self.value))

    def __pow__(self, power: float) -> Variable:
        return Variable(self.value**power, (self,), lambda g: (g * power * self.value ** (power - 1),))

    def __matmul__(self, other: Variable) -> Variable:
        """(..., N, K) @ (..., K, M) -> (..., N, M)"""
        a, b = self.value, other.value
        return Variable(a @ b, (self, other), lambda g: (g @ b.mT, a.mT @ g))

    def __neg__(self) -> Variable:
        return self * -1.0

    def __sub__(self, other: Variable | float) -> Variable:
        return self + -_variable(other, self)

    def __truediv__(self, other: Variable | float) -> Variable:
        return self * _variable(other, self) ** -1.0

    def __rsub__(self, other: float) -> Variable:
        return -self + other

    def __rtruediv__(self, other: float) -> Variable:
        return self**-1.0 * other

    __radd__, __rmul__ = __add__, __mul__

    def exp(self) -> Variable:
        """Exponential function"""
        y = self.value.exp()
        return Variable(y, (self,), lambda g: (g * y,))

    def log(self) -> Variable:
        """Natural logarithm"""
        return Variable(self.value.log(), (self,), lambda g: (g / self.value,))

    def tanh(self) -> Variable:
        """Hyperbolic tangent"""
        y = self.value.tanh()
        return Variable(y, (self,), lambda g: (g * (1 - y * y),))

    def relu(self) -> Variable:
        """max(x, 0)"""
        return Variable(self.value.relu(), (self,), lambda g: (g * (self.value > 0),))

    def sum(self) -> Variable:
        """Sum of all elements"""
        return Variable(self.value.sum(), (self,), lambda g: (g.expand_as(self.value),))


def _variable(value: Variable | float, like: Variable) -> Variable:
    return value if isinstance(value, Variable) else Variable(torch.as_tensor(value, dtype=like.value.dtype))


def _sum_to(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Sum a gradient over the dimensions that were broadcast."""
    return gradient.sum_to_size(shape) if gradient.shape != shape else gradient
