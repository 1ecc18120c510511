"""Simulate a CUDA device on a machine without one: run every program of chapters 1 to 8, and find misplaced tensors.

    python tests/cuda_dry_run.py                              # every program, one table
    python tests/cuda_dry_run.py ch07_dqn.mazes.maze_dqn ch08_vae.autoencoding.vae    # only these
    python tests/cuda_dry_run.py --json FILE                  # for tests/test_cuda_dry_run.py

`DryRun` extends PyTorch's FakeTensorMode: its tensors report `cuda:0` as their device, and an operator on tensors of
two devices raises FakeTensorDeviceMismatchError. The values of each tensor are kept on the CPU, so operations that
depend on values (`item`, `nonzero`, `bincount`, packed sequences, environments, sampling) work, and a complete `train`
runs.

Run it in a separate process, since it replaces parts of torch, including the CUDA device guard, permanently.
"""

# ruff: noqa: E402  # CUDA_VISIBLE_DEVICES is read when torch is imported
# This module replaces attributes of torch's classes.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportOptionalSubscript=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false, reportArgumentType=false

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import time
import traceback
import typing
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # also on a machine with a GPU
    sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import DataLoader

FakeTensor.value = None  # set for each result of an operator
CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
aten = torch.ops.aten


class DryRun(FakeTensorMode):
    """Fake tensors with values on the CPU; counts the operators on the GPU by the function that calls them.

    FakeTensorMode infers shapes and devices without values. Here shapes come from the values, devices from its rules.
    """

    avoid_device_init = True  # also if torch has found a GPU

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self.operators: Counter[tuple[str, str]] = Counter()
        """Operators on the GPU by function: (module, qualified name)."""

    def __exit__(self, *error: Any) -> None:
        """Leave the mode, but keep building `torch.tensor(..., device="cuda")` on the CPU before it is moved."""
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check the devices of an operator's tensors, compute it on the CPU, and set the device of its results."""
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a query of the device
            return super().__torch_dispatch__(func, types, args, kwargs)
        if func not in PLAIN and func.has_kernel_for_dispatch_key(COMPOSITE):  # its parts are dispatched one by one
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        PLAIN.add(func)
        leaves, form = tree_flatten((args, kwargs))
        tensors = [leaf if isinstance(leaf, FakeTensor) else self.fake(leaf, CPU) for leaf in leaves if is_tensor(leaf)]
        device = device_of(func, tensors, args, kwargs)
        if device.type == "cuda" or any(tensor.fake_device.type == "cuda" for tensor in tensors):
            self.operators[caller()] += 1
        given = {id(leaf.value): leaf for leaf in leaves if isinstance(leaf, FakeTensor)}
        args, kwargs = tree_unflatten([value_of(leaf) for leaf in leaves], form)
        real = compute(func, args, kwargs)
        # in inference mode, a view of a normal tensor is a normal tensor
        normal = torch.is_inference_mode_enabled() and func.is_view and not tensors[0].is_inference()
        with torch.inference_mode(False) if normal else contextlib.nullcontext():
            return self.results(func, real, device, given)

    def results(self, func: Any, real: Any, device: torch.device, given: dict[int, FakeTensor]) -> Any:
        """Make fake tensors of an operator's results; an argument that was changed in place is returned itself."""
        if type(real) is Tensor:
            return given[id(real)] if id(real) in given else self.fake(real, device)
        if func is aten._pack_padded_sequence.default:
            return self.fake(real[0], device), real[1]  # recurrent layers read the batch sizes from memory
        if isinstance(real, (tuple, list)):
            return type(real)(self.fake(part, device) if is_tensor(part) else part for part in real)
        return real

    def fake(self, real: Tensor, device: torch.device) -> FakeTensor:
        """Make a fake tensor with this value."""
        size, stride, offset = real.shape, real.stride(), real.storage_offset()
        form = torch.empty_strided(size, stride, dtype=real.dtype, device="meta")
        if offset:
            form = form.as_strided(size, stride, offset) if real.numel() == 0 else shifted(form, offset)
        made = FakeTensor(self, form, device)
        made.value = real
        return made


PLAIN: set[Any] = set()
"""Operators that are not composed of others."""
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
TWO_DEVICES = {aten.copy_.default, aten._pack_padded_sequence.default, *INDEXING}
"""Operators whose tensors may be on two devices; the result is on the device of the first."""


def is_tensor(leaf: Any) -> bool:
    """Return whether an argument is a tensor, fake or not."""
    return isinstance(leaf, Tensor)


def shifted(form: Tensor, offset: int) -> Tensor:
    """Return a meta tensor with an offset into its storage."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(form.shape, form.stride(), strict=True))
    storage = torch.empty(offset + extent, dtype=form.dtype, device="meta")
    return storage.as_strided(form.shape, form.stride(), offset)


def value_of(leaf: Any) -> Any:
    """Return the value of a fake tensor; other arguments are returned unchanged."""
    if isinstance(leaf, FakeTensor):
        assert leaf.value is not None, "this fake tensor was not made by DryRun"
        return leaf.value
    return leaf


def device_of(func: Any, tensors: Sequence[FakeTensor], args: Any, kwargs: Any) -> torch.device:
    """Return the device of an operator's results; raises an error for misplaced tensors, as PyTorch or CUDA does."""
    if kwargs.get("device") is not None:
        device = torch.device(kwargs["device"])
        device = CUDA if device == torch.device("cuda") else device  # without a number, the first one
    elif not tensors:
        device = CPU
    elif func in TWO_DEVICES:
        device = tensors[0].device
    else:
        device, _ = FakeTensor._find_common_device(func, tensors)
    generator = kwargs.get("generator")
    place = device if generator is None else GENERATOR_DEVICES.get(generator._cdata, generator.device)
    if place.type != device.type:
        raise RuntimeError(f"{func}: expected a {device.type} generator, found one on {place}")
    if func in INDEXING:
        for index in args[1]:
            if index is not None and index.device not in (CPU, device):
                raise RuntimeError(f"{func}: indices must be on the CPU or on {device}, found {index.device}")
        if len(args) > 2 and args[2].dim() > 0 and args[2].device != device:
            raise RuntimeError(f"{func}: values must be on {device}, found {args[2].device}")
    if func is aten._pack_padded_sequence.default and args[1].device != CPU:
        raise RuntimeError(f"lengths must be on the CPU, found {args[1].device}")
    if func is aten._pin_memory.default and device != CPU:
        raise RuntimeError(f"only tensors on the CPU can be pinned, found one on {device}")
    return device


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute an operator on the CPU."""
    if "device" in kwargs:
        kwargs["device"] = CPU
    if "pin_memory" in kwargs:
        kwargs["pin_memory"] = False
    if func is aten.is_pinned.default:
        return False
    if func is aten._pin_memory.default:
        return args[0].clone()
    if func.namespace == "companion_triton":  # Triton needs a GPU
        func = getattr(torch.ops.companion_python, func._opname).default
    return FUSED.get(func, func)(*args, **kwargs)


def lstm_cell(gx: Tensor, gh: Tensor, c: Tensor, *biases: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute an LSTM cell from the (B, 4H) products of input and state; only CUDA has a fused kernel for it."""
    gates = sum((bias for bias in biases if bias is not None), gx + gh)
    i, f, g, o = gates.chunk(4, dim=1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    new = f * c + i * g
    return o * new.tanh(), new, torch.cat([i, f, g, o], dim=1)


def lstm_cell_backward(
    dh: Tensor | None, dc: Tensor | None, c: Tensor, new: Tensor, gates: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of the products, of the previous cell state, and of the bias."""
    i, f, g, o = gates.chunk(4, dim=1)
    dh = torch.zeros_like(c) if dh is None else dh
    dc = (0 if dc is None else dc) + dh * o * (1 - new.tanh() ** 2)
    parts = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * new.tanh() * o * (1 - o)
    d = torch.cat(parts, dim=1)
    return d, dc * f, d.sum(0) if has_bias else None


def gru_cell(
    gx: Tensor, gh: Tensor, h: Tensor, input_bias: Tensor | None = None, hidden_bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute a GRU cell from the (B, 3H) products of input and state; the second result is for the backward pass."""
    gx = gx if input_bias is None else gx + input_bias
    gh = gh if hidden_bias is None else gh + hidden_bias
    (gx_r, gx_z, gx_n), (gh_r, gh_z, gh_n) = gx.chunk(3, dim=1), gh.chunk(3, dim=1)
    r, z = (gx_r + gh_r).sigmoid(), (gx_z + gh_z).sigmoid()
    n = (gx_n + r * gh_n).tanh()
    return n + z * (h - n), torch.cat([r, z, n, h, gh_n], dim=1)


def gru_cell_backward(dh: Tensor, saved: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    """Return the gradients of both products, of the previous state, and of both biases."""
    r, z, n, h, gh_n = saved.chunk(5, dim=1)
    dn = dh * (1 - z) * (1 - n**2)
    dr, dz = dn * gh_n * r * (1 - r), dh * (h - n) * z * (1 - z)
    d_gx, d_gh = torch.cat([dr, dz, dn], dim=1), torch.cat([dr, dz, dn * r], dim=1)
    return d_gx, d_gh, dh * z, d_gx.sum(0) if has_bias else None, d_gh.sum(0) if has_bias else None


def rms_norm_backward(
    dy: Tensor, x: Tensor, shape: list[int], scale: Tensor, weight: Tensor | None, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of an RMSNorm's input and weight; only CUDA has a fused kernel for them."""
    own = tuple(range(-len(shape), 0))
    normalised, d = x * scale, dy if weight is None else dy * weight
    dx = scale * (d - normalised * (d * normalised).mean(own, keepdim=True))
    dw = (dy * normalised).sum(tuple(range(dy.dim() - len(shape)))) if wanted[1] else None
    return dx, dw


FUSED = {
    aten._fused_rms_norm_backward.default: rms_norm_backward,
    aten._thnn_fused_lstm_cell.default: lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: lstm_cell_backward,
    aten._thnn_fused_gru_cell.default: gru_cell,
    aten._thnn_fused_gru_cell_backward.default: gru_cell_backward,
}


def caller() -> tuple[str, str]:
    """Return the innermost running function of this project: (module, qualified name)."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("ch0"):
            return name, frame.f_code.co_qualname
        frame = frame.f_back
    return "", ""


# Autograd's engine requests streams from the driver. Instead, the graph that autograd has built is traversed here.


def run_backward(
    roots: Sequence[Tensor], gradients: Sequence[Tensor | None], wanted: Sequence[Tensor] | None, *, create_graph: bool
) -> list[Tensor | None]:
    """Compute gradients: add them to `.grad` of the leaves, or return those of the wanted tensors."""
    pending: Counter[Any] = Counter()  # number of nodes that have not yet passed a gradient to this node
    received, stack = {}, [edge_of(root)[0] for root in roots]
    while stack:
        node = stack.pop()
        if node not in received:
            received[node] = [None] * max(1, len(node._input_metadata))
            for following, _ in node.next_functions:
                if following is not None:
                    pending[following] += 1
                    stack.append(following)
    for root, gradient in zip(roots, gradients, strict=True):
        assert gradient is not None or root.numel() == 1, "grad can be implicitly created only for scalar outputs"
        add(received, edge_of(root), torch.ones_like(root) if gradient is None else gradient)
    targets = None if wanted is None else {edge_of(tensor): index for index, tensor in enumerate(wanted)}
    found: list[Tensor | None] = [None] * len(wanted or [])
    ready = [node for node in dict.fromkeys(edge_of(root)[0] for root in roots) if not pending[node]]
    with torch.set_grad_enabled(create_graph):
        while ready:
            node = ready.pop()
            passed = call(node, received[node], leaves=wanted is None)
            if targets is not None:
                for number, gradient in enumerate(received[node]):
                    if (node, number) in targets:
                        found[targets[node, number]] = gradient
            for edge, gradient in zip(node.next_functions, passed, strict=True):
                if edge[0] is not None:
                    if gradient is not None:
                        add(received, edge, gradient)
                    pending[edge[0]] -= 1
                    if not pending[edge[0]]:
                        ready.append(edge[0])
    return found


def edge_of(tensor: Tensor) -> tuple[Any, int]:
    """Return the node that receives a tensor's gradient, and the number of its input."""
    edge = torch.autograd.graph.get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def add(received: dict[Any, list[Tensor | None]], edge: tuple[Any, int], gradient: Tensor) -> None:
    """Add a gradient to those that a node has received, in shape and type of the tensor that it belongs to."""
    node, number = edge
    if node._input_metadata:
        form = node._input_metadata[number]
        if gradient.shape != form.shape:
            gradient = gradient.sum_to_size(form.shape)
        if gradient.dtype != form.dtype:
            gradient = gradient.to(form.dtype)
    before = received[node][number]
    received[node][number] = gradient if before is None else before + gradient


def call(node: Any, gradients: list[Tensor | None], *, leaves: bool) -> Sequence[Tensor | None]:
    """Compute the gradients of a node's inputs from those of its outputs; a leaf accumulates its gradient."""
    if hasattr(node, "variable"):
        (gradient,), leaf = gradients, node.variable
        if leaves and gradient is not None:
            if leaf.grad is None:
                leaf.grad = gradient.detach().clone()
            else:
                leaf.grad += gradient
        return []
    if all(gradient is None for gradient in gradients):
        return [None] * len(node.next_functions)
    if isinstance(node, torch.autograd.function.BackwardCFunction):  # a custom function in Python
        forms = node._input_metadata
        filled = [
            torch.zeros(form.shape, dtype=form.dtype, device=form.device) if gradient is None else gradient
            for gradient, form in zip(gradients, forms, strict=True)
        ]
        passed = node.apply(*filled)
    else:
        passed = node(*gradients)
    passed = passed if isinstance(passed, tuple) else (passed,)
    return passed[: len(node.next_functions)]


def backward(tensors: Any, grad_tensors: Any = None, *_: Any, create_graph: bool = False, **__: Any) -> None:
    """Replace torch.autograd.backward and Tensor.backward."""
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    gradients = [grad_tensors] if isinstance(grad_tensors, Tensor) else list(grad_tensors or [None] * len(roots))
    run_backward(roots, gradients, None, create_graph=create_graph)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, **options: Any) -> tuple[Tensor | None, ...]:
    """Replace torch.autograd.grad."""
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    gradients = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs or [None] * len(roots))
    found = run_backward(roots, gradients, wanted, create_graph=options.get("create_graph", False))
    if options.get("materialize_grads"):
        found = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]
    return tuple(found)


# Replacements of functions that call the driver or read a tensor's memory.


def move(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Replace nn.Module._apply: parameters are changed in place if possible, buffers are replaced.

    As in PyTorch, a tensor that is a plain attribute is not moved.
    """
    for child in module.children() if recurse else ():
        child._apply(convert)
    for name, parameter in module._parameters.items():
        if parameter is None:
            continue
        with torch.no_grad():
            moved = convert(parameter)
        if (moved.dtype, moved.stride()) == (parameter.dtype, parameter.stride()):
            parameter.fake_device, parameter.value = moved.device, value_of(moved)
            if parameter.grad is not None:
                parameter.grad.fake_device = moved.device
        else:
            module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = convert(buffer)
    return module


GENERATOR_DEVICES: dict[int, torch.device] = {}
"""Devices that generators report, by address, since operators receive generators in another wrapper."""


class Generator(torch.Generator):
    """A generator that reports a device but draws on the CPU."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        """Create a CPU generator for any device."""
        self = super().__new__(cls)
        GENERATOR_DEVICES[self._cdata] = torch.device(device)
        return self

    @property
    def device(self) -> torch.device:
        """The reported device."""
        return GENERATOR_DEVICES[self._cdata]


class Stream:
    """A stream or a CUDA graph that does nothing, since all operations are synchronous."""

    def wait_stream(self, other: "Stream") -> None:
        """Wait for nothing."""

    def replay(self) -> None:
        """Do nothing: the captured step has already run."""


def to_numpy(tensor: FakeTensor, *, force: bool = False) -> Any:
    """Replace Tensor.numpy, which reads memory; raises TypeError for tensors on the GPU."""
    if tensor.device.type != "cpu" and not force:
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() first.")
    with unset_fake_temporarily():
        return tensor.value.numpy()


def to_list(tensor: FakeTensor) -> Any:
    """Replace Tensor.tolist."""
    with unset_fake_temporarily():
        return tensor.value.tolist()


def pad_packed(data: Tensor, sizes: Tensor, batch_first: bool, padding: float, length: int) -> tuple[Tensor, Tensor]:
    """Replace the C++ function of pad_packed_sequence, which writes the lengths to memory."""
    steps = [F.pad(step, (0, 0, 0, int(sizes[0]) - len(step)), value=padding) for step in data.split(sizes.tolist())]
    padded = F.pad(torch.stack(steps), (0, 0, 0, 0, 0, max(0, length - len(steps))), value=padding)
    lengths = torch.tensor([sum(size > row for size in sizes.tolist()) for row in range(int(sizes[0]))])
    return padded.transpose(0, 1) if batch_first else padded, lengths


def format_tensor(tensor: FakeTensor, form: str) -> str:
    """Replace Tensor.__format__, which formats single numbers."""
    return format(tensor.item() if tensor.dim() == 0 and form else repr(tensor), form)


def copy_of(tensor: FakeTensor, memo: dict[int, Any]) -> FakeTensor:
    """Replace Tensor.__deepcopy__, which would also copy the mode."""
    if id(tensor) not in memo:
        copied = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        if isinstance(tensor, nn.Parameter):
            copied._is_param = True
        memo[id(tensor)] = copied
    return memo[id(tensor)]


def save_model(model: nn.Module, path: str) -> None:
    """Replace safetensors' save_model, which reads memory."""
    with unset_fake_temporarily():
        torch.save({name: value_of(tensor) for name, tensor in model.state_dict().items()}, path)


@contextlib.contextmanager
def simulated_device() -> Iterator[DryRun]:
    """Replace functions that call the driver, permanently, and make tensors fake within the block."""
    import safetensors.torch

    import common.run
    from common import device
    from common.drawing import graphs

    drawing = (graphs.module_picture, graphs.save)
    for module in [module for name, module in sys.modules.items() if name.startswith(("ch0", "common"))]:
        for name, value in list(vars(module).items()):
            if value in drawing:
                setattr(module, name, lambda *_, **__: None)  # tracing uses its own fake tensors

    device.present_devices = lambda: ["cpu", "cuda:0"]
    torch.cuda.set_device = lambda _: None
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_name = lambda *_: "simulated GPU"
    torch.cuda.mem_get_info = lambda *_: (1 << 36, 1 << 36)
    torch.cuda.is_bf16_supported = lambda *_: True
    for module in (torch.amp.autocast_mode, torch.cuda.amp.common):
        module.amp_definitely_not_available = lambda: False
    torch.cuda.Stream = torch.cuda.CUDAGraph = Stream
    torch.cuda.current_stream = lambda *_: Stream()
    torch.cuda.stream = torch.cuda.graph = lambda *_, **__: contextlib.nullcontext()
    torch.accelerator.synchronize = lambda *_: None
    device.Timer.__exit__ = lambda self, *_: setattr(self, "seconds", 60.0)  # timed code is not repeated
    torch.random.fork_rng = lambda *_, **__: contextlib.nullcontext()
    torch.backends.cudnn.enabled = False  # cuDNN would query the driver for recurrent layers
    torch.Generator = Generator
    torch.autograd.grad = grad
    torch.autograd.backward = Tensor.backward = backward
    nn.Module._apply = move
    make_loader = DataLoader.__init__
    DataLoader.__init__ = lambda self, *arguments, **options: make_loader(  # no worker processes
        self, *arguments, **options | {"num_workers": 0, "persistent_workers": False}
    )
    nn.utils.rnn._VF._pad_packed_sequence = pad_packed
    FakeTensor.numpy = to_numpy
    FakeTensor.__deepcopy__ = copy_of
    FakeTensor.__format__ = format_tensor
    FakeTensor.tolist = to_list
    safetensors.torch.save_model = save_model
    common.run.save_checkpoint = lambda *_: None  # pickles memory
    common.run.Run.figure = lambda *_: None  # figures are drawn but not written, which takes most of the time
    with DryRun() as mode:
        yield mode


@dataclasses.dataclass
class Outcome:
    """Result of one part of a program."""

    program: str
    part: str
    error: str = ""
    """The exception and the place where it was raised; empty if there was none."""
    rejected: bool = False
    """Whether the program reports that it runs only on a CPU."""
    operators: int = 0
    """Number of operators on the GPU."""
    functions: tuple[str, ...] = ()
    """The project's functions that called them."""
    seconds: float = 0.0


def run(mode: DryRun, module: ModuleType, part: str, work: Callable[[], object]) -> Outcome:
    """Run a part of a program and return its outcome."""
    mode.operators.clear()
    outcome = Outcome(module.__name__, part)
    start = time.process_time()
    try:
        work()
    except Exception as error:  # any error is listed in the table
        outcome.rejected = isinstance(error, ValueError) and "--device must be cpu" in str(error)
        where = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(ROOT / "ch"))]
        place = (
            f" at {Path(where[-1].filename).relative_to(ROOT)}:{where[-1].lineno}: {where[-1].line}" if where else ""
        )
        outcome.error = f"{type(error).__name__}: {error}{place}"
        if os.environ.get("TRACEBACK"):
            traceback.print_exc()
    outcome.seconds = time.process_time() - start
    print(f"{module.__name__} {part}: {outcome.error or f'{outcome.seconds:.1f} s'}", file=sys.stderr, flush=True)
    outcome.operators = mode.operators.total()
    outcome.functions = tuple(sorted(f"{module}.{name}" for module, name in mode.operators))
    return outcome


SMALL = {
    "batch_size": 16,
    "buffer_size": 20,
    "images": 16,
    "large_tests": 2,
    "sizes": (16,),
    "steps": 3,
    "environment_steps": 60,
    "tests": 4,
    "environments": 8,
    "folds": 2,
    "warm_up": 10,
}


ADJUSTED: dict[str, dict[str, Any]] = {
    "ch01_graphs.numerics": {"points": 21},
    "ch05_rnn.series.forecast": {"limit": 300},
    "ch06_cnn.architectures.classics": {"network": "lenet"},
    "ch08_vae.few_labels.semi_supervised_gan": {"labels": 10},  # of 60 images
    "ch08_vae.few_labels.semi_supervised_vae": {"labels": 10},
    "ch06_cnn.transfer.transfer": {"weights": "half"},  # torch.load cannot read the published weights in this mode
}
"""Settings for single programs, in addition to SMALL."""
RUN_OTHERS = {
    "ch04_cuda.start_up",
    *("ch05_rnn.language.budgets", "ch05_rnn.memory.restarts", "ch06_cnn.segmentation.cross_validation"),
    "ch06_cnn.style.style_features",
    *("ch07_dqn.mazes.learning_curves", "ch07_dqn.agents.learning_bands", "ch07_dqn.agents.peers"),
}
"""Programs that only run programs of other modules."""


def small(module: ModuleType, folder: Path) -> Any:
    """Return a program's Config on the GPU, with small settings."""
    from ch01_graphs import regression
    from small_settings import CONSTANTS
    from test_written_commands import shortened

    regression.time_steps.__kwdefaults__["steps"] = 3
    config = shortened(module.Config(), folder)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, device="cuda", limit=60))
    adjusted = ADJUSTED.get(module.__name__, {})
    for name, constants in CONSTANTS.items():
        for constant, value in constants.items():
            owner = pkgutil.resolve_name(name)
            assert hasattr(owner, constant), f"{name} has no {constant}"
            setattr(owner, constant, value)
    for name in sorted(SMALL.keys() & vars(config).keys()):
        with contextlib.suppress(ValueError):  # the program rejects this number
            config = dataclasses.replace(config, **{name: SMALL[name]})
    run = {name: adjusted[name] for name in adjusted.keys() & vars(config.run).keys()}
    own = {name: value for name, value in adjusted.items() if name not in run}
    dependent = {field: None for name in own for field in defaults_that_depend_on(name, config)}
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **run), **dependent | own)


def other_settings(module: ModuleType, config: Any) -> Iterator[tuple[str, Any]]:
    """Change one choice or switch at a time; yield the flag and the Config of each allowed change."""
    kinds = typing.get_type_hints(module.Config)
    for field in dataclasses.fields(config):
        now, kind = getattr(config, field.name), kinds[field.name]
        if field.name in ("data", "compile", "run"):
            continue
        values = (not now,) if isinstance(now, bool) else typing.get_args(kind) if is_choice(kind) else ()
        dependent = dict.fromkeys(defaults_that_depend_on(field.name, config))
        for value in values:
            if value != now:
                with contextlib.suppress(ValueError):  # the program rejects this combination
                    yield (
                        f"--{field.name.replace('_', '-')} {value}",
                        dataclasses.replace(config, **dependent, **{field.name: value}),
                    )


def defaults_that_depend_on(name: str, config: Any) -> list[str]:
    """List the fields with a default that depends on another field and is in use (see config.default_by)."""
    from common.config import deciding_fields, default_of

    dependent = [field for field in dataclasses.fields(config) if name in deciding_fields(field)]
    return [field.name for field in dependent if getattr(config, field.name) == default_of(field, config)]


def is_choice(kind: Any) -> bool:
    """Return whether the type of a field is a Literal."""
    return typing.get_origin(kind) is typing.Literal


def take_other_steps(module: ModuleType, config: Any) -> None:
    """Take the benchmark's step with every other setting; raises RuntimeError, naming the setting, if one fails."""
    for flag, changed in other_settings(module, config):
        try:
            module.workload(changed, CUDA).step()
        except ValueError:  # the program has no step to time with this setting
            continue
        except Exception as error:
            raise RuntimeError(f"{flag}: {type(error).__name__}: {error}") from error


def dry_run(modules: Sequence[ModuleType]) -> list[Outcome]:
    """Train each program with small settings on the simulated GPU; take its benchmark's step in several settings."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, simulated_device() as mode:
        for module in modules:
            config = small(module, Path(folder))
            outcomes.append(run(mode, module, "train", lambda: module.train(config)))  # noqa: B023
            if hasattr(module, "workload"):
                outcomes.append(run(mode, module, "workload", lambda: module.workload(config, CUDA).step()))  # noqa: B023
                outcomes.append(run(mode, module, "settings", lambda: take_other_steps(module, config)))  # noqa: B023
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Render the outcomes as a Markdown table."""
    lines = ["| program | part | operators on the GPU | functions that call them | |", "|---|---|---:|---|---|"]
    for outcome in outcomes:
        names = ", ".join(name.rpartition(".")[2] for name in outcome.functions)
        result = outcome.error or f"{outcome.seconds:.1f} s"
        lines.append(f"| {outcome.program} | {outcome.part} | {outcome.operators:,} | {names} | {result} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    from test_house import PROGRAMS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="*", help="modules, for example ch07_dqn.mazes.maze_dqn; by default all")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    modules = [importlib.import_module(name) for name in options.programs] or [
        module for module in PROGRAMS if module.__name__ < "ch09" and module.__name__ not in RUN_OTHERS
    ]
    with contextlib.redirect_stdout(sys.stderr):
        outcomes = dry_run(modules)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]), encoding="utf-8")
    else:
        print(table(outcomes))


if __name__ == "__main__":
    main()
