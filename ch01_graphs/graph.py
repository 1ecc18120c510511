"""Expression graphs: build a formula first, evaluate it later.

    graph = Graph()
    W = graph.parameter("W", [[0.9, 0.7], [0.4, 0.2]])
    x = graph.vector("x", 2)
    y = W @ x + 3.0                      # nothing is computed yet, but shapes and dtypes are checked
    graph.let(x, [5.0, 7.0])
    graph.run(y)                         # tensor([12.4000, 6.4000])

The nodes are those of `torch.fx`, the intermediate representation of torch.export and torch.compile, so tools for fx
graphs work here as well. An `Expression` is a node with the methods of a tensor. The same Python function therefore
computes a result if it is called with tensors, and adds nodes to the graph if it is called with expressions.
"""

import builtins
import keyword
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from ch01_graphs.expression import COMPARISONS, Expression, embed, format_call
from common.drawing.graphs import describe

RESERVED_NAMES = ("self", "torch", "device", "inf", "nan")
"""Names that have another meaning in the generated code."""


class Graph:
    """Inputs, parameters, constants and operations, in the order in which they were added."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.ir = fx.Graph()
        self.inputs: dict[str, Expression] = {}
        """Inputs by name; `let` binds values to them."""
        self.values: dict[str, Tensor] = {}
        """Tensors of parameters and constants by name; an optimizer may update parameters in place between runs."""
        self.bound: dict[str, Tensor] = {}
        """Values bound to inputs by `let`."""
        self.gradients: dict[fx.Node, Expression] = {}
        """Gradient of the loss with respect to each node, set by `grad`."""
        self.reserved: set[str] = set()
        """Names that `free_name` does not return."""
        self._names: set[str] = set()
        self._programs: dict[tuple[fx.Node, ...], fx.GraphModule] = {}
        self._backward = False

    # Inputs, parameters and constants.

    def tensor(self, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Expression:
        """Declare an input of any shape."""
        if any(not isinstance(size, int) or size < 0 for size in shape):
            raise ValueError(f"input {name!r}: the shape must contain integers of at least 0, got {tuple(shape)}")
        node = self._node("placeholder", name, (), {}, torch.empty(shape, dtype=dtype, device="meta"), name)
        self.inputs[name] = Expression(self, node)
        return self.inputs[name]

    def scalar(self, name: str, dtype: torch.dtype = torch.float32) -> Expression:
        """Declare a scalar input."""
        return self.tensor(name, (), dtype)

    def vector(self, name: str, size: int, dtype: torch.dtype = torch.float32) -> Expression:
        """Declare a vector input."""
        return self.tensor(name, (size,), dtype)

    def matrix(self, name: str, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Expression:
        """Declare a matrix input."""
        return self.tensor(name, (rows, columns), dtype)

    def parameter(self, name: str, value: Any) -> Expression:
        """Declare a parameter with an initial value, which is copied."""
        return self.hold(name, torch.as_tensor(value).detach().clone().to(self.device), "parameter")

    def constant(self, value: Any) -> Expression:
        """Add a constant tensor."""
        return self.hold(self.free_name("constant"), torch.as_tensor(value).detach().to(self.device), "constant")

    def hold(self, name: str, value: Tensor, kind: Literal["parameter", "constant"]) -> Expression:
        """Add a parameter or constant that holds this tensor, without copying it."""
        node = self._node("get_attr", name, (), {}, value.to("meta"), name)
        node.meta["kind"] = kind
        self.values[name] = value
        return Expression(self, node)

    def value(self, parameter: Expression) -> Tensor:
        """Return the tensor of a parameter or constant; an optimizer may update it in place."""
        return self.values[parameter.name]

    # Operations.

    def apply(self, function: Callable, *args: Any, **kwargs: Any) -> Expression:
        """Add a node that applies a function to expressions and other arguments.

        The function is executed on meta tensors (without data) to infer the shape and dtype of the result. Raises
        ValueError with the name of the node for incompatible shapes or dtypes.
        """
        name = self.free_name(function.__name__.strip("_"))
        operands: list[Expression] = []
        plain_args, plain_kwargs = _unwrap((args, kwargs), operands)
        try:
            self._check_operands(function, operands, args)
            value = function(*map_arg(plain_args, _meta_value), **map_arg(plain_kwargs, _meta_value))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{operand.name} is {describe(operand)}" for operand in operands)
            reason = str(error).partition("\n")[0].rstrip(".")
            raise ValueError(f"node {name!r} = {format_call(function, args, kwargs)}: {reason} ({shapes})") from None
        return Expression(self, self._node("call_function", function, plain_args, plain_kwargs, value, name))

    def _check_operands(self, function: Callable, operands: list[Expression], args: tuple) -> None:
        if any(operand.graph is not self for operand in operands):
            raise ValueError("the operands belong to different graphs")
        if function in (operator.getitem, embed):
            operands = operands[:1]
        elif function is torch.where:
            if not isinstance(args[0], Expression) or args[0].dtype != torch.bool:
                raise ValueError("the condition must be a comparison such as x > 0")
            operands = operands[1:]
        elif function not in COMPARISONS and any(not operand.dtype.is_floating_point for operand in operands):
            raise ValueError("the operands must be floating point")
        if len({operand.dtype for operand in operands}) > 1:
            raise ValueError("the operands must have the same dtype")

    def _node(self, op: str, target: Any, args: tuple, kwargs: dict, value: Tensor, name: str) -> fx.Node:
        name = self.claim_name(name)
        node = self.ir.create_node(op, target, args, kwargs, name)
        node.meta.update(name=name, value=value, backward=self._backward)
        return node

    def free_name(self, stem: str) -> str:
        """Return an unused name: the stem, or the stem with a number appended."""
        numbered = (f"{stem}_{number}" for number in range(1, len(self._names) + 2))
        return next(name for name in (stem, *numbered) if name not in self._names | self.reserved)

    def claim_name(self, name: str) -> str:
        """Reserve a name; raise ValueError if it is taken or not a valid variable of the generated code."""
        reserved = keyword.iskeyword(name) or name in RESERVED_NAMES or hasattr(fx.GraphModule, name)
        if reserved or not name.isidentifier():
            raise ValueError(
                f"{name!r} is not a valid node name: use letters, digits and _, and no name reserved by Python or fx"
            )
        if name in self._names:
            raise ValueError(f"the graph already has a node named {name!r}")
        self._names.add(name)
        return name

    @contextmanager
    def backward_nodes(self, backward: bool = True) -> Iterator[None]:
        """Mark the nodes added inside the block as nodes of a gradient (or as ordinary nodes)."""
        before, self._backward = self._backward, backward
        try:
            yield
        finally:
            self._backward = before

    # Evaluation.

    def let(self, target: Expression | str, value: Any) -> None:
        """Bind a value to an input; raise ValueError if its shape or dtype differs from the input's."""
        name = target if isinstance(target, str) else target.name
        if name not in self.inputs:
            raise ValueError(f"the graph has no input {name!r} (inputs: {', '.join(self.inputs) or 'none'})")
        self.bound[name] = check_value(self.inputs[name], value).to(self.device)

    def run(self, *outputs: Expression) -> Any:
        """Evaluate expressions with the bound values; return a tensor for one expression, a tuple for several."""
        program = self.program(*outputs)
        results = program(*self.arguments(program))
        return results[0] if len(outputs) == 1 else results

    def arguments(self, program: fx.GraphModule) -> list[Tensor]:
        """Return the values bound to the inputs of a program, in order; raise ValueError if one is missing."""
        names = [str(node.target) for node in program.graph.nodes if node.op == "placeholder"]
        missing = [name for name in names if name not in self.bound]
        if missing:
            raise ValueError(f"no value for input {', '.join(missing)}: call let first")
        return [self.bound[name] for name in names]

    def program(self, *outputs: Expression) -> fx.GraphModule:
        """Extract the nodes that the outputs depend on as a torch.fx module with generated Python `code`."""
        key = tuple(output.node for output in outputs)
        if key not in self._programs:
            self._programs[key] = self._extract(key)
        return self._programs[key]

    def _extract(self, outputs: tuple[fx.Node, ...]) -> fx.GraphModule:
        needed = ancestors(outputs)
        extracted, copies = fx.Graph(), {}
        # Inputs are copied first, because they must keep their names in the generated code; fx renames other nodes
        # whose names are taken. Inputs named like a builtin are the last of them: fx assigns these a second name.
        inputs = (node for node in self.ir.nodes if node.op == "placeholder")
        inputs = sorted(inputs, key=lambda node: hasattr(builtins, node.meta["name"]))
        for node in dict.fromkeys([*inputs, *self.ir.nodes]):
            if node in needed:
                args, kwargs = map_arg((node.args, node.kwargs), copies.__getitem__)
                # fx generates code without parentheses, but -2 ** x is -(2 ** x) in Python.
                number_base = node.target is operator.pow and not isinstance(args[0], fx.Node)
                target = torch.pow if number_base else node.target
                copies[node] = extracted.create_node(node.op, target, args, dict(kwargs), node.meta["name"])
                copies[node].meta = {**node.meta, "original": node}
        extracted.output(tuple(copies[node] for node in outputs))
        return fx.GraphModule(self.values, extracted)


def check_value(target: Expression, value: Any) -> Tensor:
    """Convert a value to a tensor for an input; raise ValueError if its shape or dtype differs."""
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=target.dtype)
    if tuple(tensor.shape) != target.shape or tensor.dtype != target.dtype:
        raise ValueError(f"input {target.name!r} is {describe(target)}, its value is {describe(tensor)}")
    return tensor


def ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Return the given nodes and all nodes that they depend on."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _unwrap(value: Any, operands: list[Expression]) -> Any:
    """Replace expressions by their nodes, also in containers; append the expressions to `operands`."""
    if isinstance(value, Expression):
        operands.append(value)
        return value.node
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(part, operands) for part in value)
    if isinstance(value, dict):
        return {name: _unwrap(part, operands) for name, part in value.items()}
    if isinstance(value, Tensor):
        raise ValueError("a tensor cannot be an operand: use graph.constant(tensor)")
    return value


def _meta_value(node: fx.Node) -> Tensor:
    return node.meta["value"]
