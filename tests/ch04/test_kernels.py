"""Custom operators: values, derivatives, torch.library.opcheck, and skipped implementations."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from ch04_cuda import operators
from ch04_cuda.kernels import cpp_kernels, python_kernels  # noqa: F401
from conftest import ROOT


@pytest.fixture(scope="module", params=["python", "cpp"])
def kernels(request):
    if request.param == "cpp":
        if cpp_kernels.why_absent():
            pytest.skip(str(cpp_kernels.why_absent()))
        cpp_kernels.load()
    return getattr(torch.ops, f"companion_{request.param}")


def numbers(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def test_axpb_equals_torch(kernels):
    x = numbers(3, 5)
    torch.testing.assert_close(kernels.axpb(x, 2.0, 3.0), 2 * x + 3)
    torch.testing.assert_close(kernels.axpb(x.T, 2.0, 3.0), 2 * x.T + 3)
    assert torch.autograd.gradcheck(lambda x: kernels.axpb(x, -1.5, 3.0), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_equals_torch(kernels, dtype):
    logits, labels = numbers(7, 5, dtype=dtype), torch.tensor([0, 4, 2, 2, 1, 3, 0])
    weights = torch.arange(1.0, 8.0, dtype=dtype)
    expected = F.cross_entropy(logits, labels, reduction="none")
    (gradient,) = torch.autograd.grad(expected, logits, weights)
    found = kernels.cross_entropy(logits, labels)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits, weights)[0], gradient)
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda z: kernels.cross_entropy(z, labels), logits)


def test_large_logits_do_not_overflow(kernels):
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = kernels.cross_entropy(logits, torch.tensor([2]))
    assert float(loss.detach()) == pytest.approx(1e4)
    assert torch.autograd.grad(loss.sum(), logits)[0].tolist() == [[1, 0, -1]]


def test_nan_propagates(kernels):
    logits = torch.tensor([[0.0, float("nan"), 1.0]])
    assert kernels.cross_entropy(logits, torch.tensor([0])).isnan().all()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck reads .grad of copies
def test_opcheck_passes(kernels):
    logits, labels = numbers(6, 4, dtype=torch.float32), torch.tensor([0, 3, 2, 2, 1, 3])
    torch.library.opcheck(kernels.axpb.default, (logits, 2.0, 3.0))
    torch.library.opcheck(kernels.cross_entropy.default, (logits, labels))
    torch.library.opcheck(kernels.cross_entropy_backward.default, (torch.ones(6), logits.detach(), labels))


def test_compilation_has_no_graph_breaks(kernels):
    compiled = torch.compile(lambda z, y: kernels.cross_entropy(2 * z, y).mean(), fullgraph=True, backend="aot_eager")
    logits, labels = numbers(6, 4, dtype=torch.float32), torch.tensor([0, 3, 2, 2, 1, 3])
    (gradient,) = torch.autograd.grad(compiled(logits, labels), logits)
    (expected,) = torch.autograd.grad(F.cross_entropy(2 * logits, labels), logits)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.skipif(cpp_kernels.why_absent() is not None, reason=str(cpp_kernels.why_absent()))
def test_cpp_rejects_invalid_labels_and_shapes():
    cpp_kernels.load()
    kernels = torch.ops.companion_cpp
    logits = torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match=r"labels must be between 0 and 2"):
        kernels.cross_entropy(logits, torch.tensor([0, 3]))
    with pytest.raises(RuntimeError, match=r"takes \(B, K\) logits and \(B,\) labels"):
        kernels.cross_entropy(logits, torch.tensor([0]))
    with pytest.raises(RuntimeError, match=r"labels must be int64"):
        kernels.cross_entropy(logits, torch.tensor([0, 1], dtype=torch.int32))


def test_triton_in_its_interpreter():
    pytest.importorskip("triton")
    script = """
import torch
from torch.nn import functional as F
from ch04_cuda.kernels import triton_kernels
kernels = torch.ops.companion_triton
torch.manual_seed(0)
x = torch.randn(2500, requires_grad=True)
torch.testing.assert_close(kernels.axpb(x, 2.0, 3.0), 2 * x + 3)
torch.testing.assert_close(torch.autograd.grad(kernels.axpb(x, 2.0, 3.0).sum(), x)[0], torch.full_like(x, 2))
logits, labels = torch.randn(5, 7, requires_grad=True), torch.tensor([0, 6, 3, 3, 1])
expected = F.cross_entropy(logits, labels, reduction="none")
found = kernels.cross_entropy(logits, labels)
torch.testing.assert_close(found, expected)
weights = torch.arange(1.0, 6.0)
torch.testing.assert_close(
    torch.autograd.grad(found, logits, weights)[0], torch.autograd.grad(expected, logits, weights)[0]
)
print("equal")
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr


def test_triton_kernels_compile_for_sm_80_and_sm_90(tmp_path):
    pytest.importorskip("triton")
    script = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ch04_cuda.kernels import triton_kernels as kernels
pointers = {"source": "*fp32", "target": "*fp32", "logits": "*fp32", "labels": "*i64", "losses": "*fp32"}
pointers |= {"gradient": "*fp32", "result": "*fp32"}
numbers = {"a": "fp32", "b": "fp32", "count": "i32", "classes": "i32", "block": "constexpr"}
for name, kernel in vars(kernels).items():
    if name.endswith("_kernel"):
        types = {argument: (pointers | numbers)[argument] for argument in kernel.arg_names}
        source = ASTSource(kernel, types, {"block": 1024})
        for capability in (80, 90):
            assembly = compile(source, target=GPUTarget("cuda", capability, 32)).asm
            assert f".target sm_{capability}" in assembly["ptx"]
            print(name, capability, len(assembly["cubin"]) > 0)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    expected = [
        f"{name}_kernel {capability} True"
        for name in ("axpb", "cross_entropy", "cross_entropy_backward")
        for capability in (80, 90)
    ]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.gpu
def test_triton_on_a_gpu():
    from ch04_cuda.kernels import triton_kernels  # noqa: F401

    logits, labels = torch.randn(64, 1000, device="cuda"), torch.randint(1000, (64,), device="cuda")
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(torch.ops.companion_triton.cross_entropy(logits, labels), expected)


def test_skipped_implementations_are_printed(options, capsys, monkeypatch):
    monkeypatch.setattr(cpp_kernels, "no_compiler", lambda: "no C++ compiler: c++ was not found")
    found = operators.train(operators.Config(batch_size=16, classes=10, rounds=1, seconds=0.001, run=options))
    output = capsys.readouterr().out
    assert "torch.compile: no C++ compiler: c++ was not found" in output
    assert "C++: no C++ compiler" in output
    assert "Triton: the kernels run on a GPU, not on cpu" in output
    assert found["axpb_python_ratio"] > 0
    assert found["cross_entropy_eager_ratio"] == 1


def test_operators_that_cannot_be_built_are_skipped(options, capsys, monkeypatch):
    def load():
        raise RuntimeError("kernels.cpp did not build: bad option")

    monkeypatch.setattr(cpp_kernels, "why_absent", lambda: None)
    monkeypatch.setattr(cpp_kernels, "load", load)
    assert operators.why_no_cpp(torch.device("cpu")) == "kernels.cpp did not build: bad option"
    config = operators.Config(batch_size=16, classes=10, compile=False, rounds=1, seconds=0.001, run=options)
    assert "axpb_cpp_ratio" not in operators.train(config)
    assert "skipped  C++: kernels.cpp did not build: bad option" in capsys.readouterr().out


@pytest.mark.skipif(cpp_kernels.why_absent() is not None, reason=str(cpp_kernels.why_absent()))
def test_cpp_derivative_rejects_invalid_labels_and_shapes():
    cpp_kernels.load()
    backward, logits = torch.ops.companion_cpp.cross_entropy_backward, torch.randn(2, 3)
    with pytest.raises(RuntimeError, match="labels must be between 0 and 2"):
        backward(torch.ones(2), logits, torch.tensor([0, 3]))
    with pytest.raises(RuntimeError, match=r"the gradient must be \(B,\)"):
        backward(torch.ones(3), logits, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="at least one class"):
        backward(torch.ones(2), logits[:, :0], torch.tensor([0, 1]))


def test_the_program_compares_available_implementations(options):
    config = operators.Config(batch_size=16, classes=10, compile=False, rounds=1, seconds=0.001, run=options)
    found = operators.train(config)
    assert ("cross_entropy_cpp_ratio" in found) == (cpp_kernels.why_absent() is None)
