"""Every program of chapters 1 to 8 on a simulated CUDA device; see cuda_dry_run.py.

A separate process trains every program with small settings on fake tensors of `cuda:0`: data, forward pass, loss,
backward pass, optimizer, sampling, environments, evaluation, and tensors for figures. Then it takes the benchmark's
step, also with every other value of each choice or switch. A new program is included once its chapter's train.py lists
it.

Not covered:

- kernels: values are computed on the CPU, so neither results nor speed of CUDA kernels are tested
- cuDNN's recurrent layers (replaced by PyTorch's own), torch.compile, and launches of C++ and Triton kernels
- streams, CUDA graphs, events, pinned memory and overlapping copies: replaced by functions that do nothing
- files: checkpoints and their restoring on a GPU, weights, written figures, and diagrams of networks
- several processes (DistributedDataParallel, NCCL), DataLoader's workers, and out-of-memory errors
- evaluation and sampling with settings other than the small ones of cuda_dry_run.py, and functions that are not in the
  table
"""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch

import cuda_dry_run
from ch04_cuda import compare
from common import cli
from common.records import ledger
from conftest import ROOT
from cuda_dry_run import RUN_OTHERS
from test_house import PROGRAMS

NAMES = [module.__name__ for module in PROGRAMS if module.__name__ < "ch09" and module.__name__ not in RUN_OTHERS]
WORKLOADS = [module.__name__ for module in PROGRAMS if module.__name__ in NAMES and hasattr(module, "workload")]

ALWAYS_ON_CPU = {"ch01_graphs.expressions", "ch01_graphs.numerics", "ch02_nn.activations", "ch02_nn.descent"}
"""Programs that compute on the CPU for any --device."""
CPU_ONLY = {"ch03_autoencoder_rbm.films.baselines", "ch03_autoencoder_rbm.films.scaling"}
"""Programs that reject a GPU with a one-line error."""


def start(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "cuda_dry_run.py"), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    path = tmp_path_factory.mktemp("dry") / "outcomes.json"
    done = start("--json", path, DATA_OFFLINE="1", DATA_DIR=str(path.parent / "data"))
    assert done.returncode == 0, done.stderr[-3000:]
    return {(row["program"], row["part"]): cuda_dry_run.Outcome(**row) for row in json.loads(path.read_text())}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "part"),
    [(name, "train") for name in NAMES] + [(name, part) for name in WORKLOADS for part in ("workload", "settings")],
)
def test_programs_have_no_misplaced_tensor(outcomes, program, part):
    outcome = outcomes[program, part]
    assert outcome.rejected == (program in CPU_ONLY), outcome.error
    if not outcome.rejected:
        assert outcome.error == ""
        if part != "settings":  # a program may have no other settings
            assert (outcome.operators == 0) == (program in ALWAYS_ON_CPU)


@pytest.mark.slow
def test_the_table_lists_every_program(outcomes):
    table = cuda_dry_run.table(list(outcomes.values()))
    assert all(f"| {name} | train |" in table for name in NAMES)
    (row,) = re.findall(r"^\| ch07_dqn.mazes.maze_dqn \| train \| [\d,]+ \| .*$", table, re.M)
    assert {"act", "sample", "train_step"} <= set(re.findall(r"\w+", row)), row


EXAMPLES = """
import sys
import torch
from torch import nn
import cuda_dry_run as dry

class Network(nn.Module):
    def __init__(self, kind):
        super().__init__()
        if kind == "attribute":
            self.features = torch.eye(4)
        else:
            self.register_buffer("features", torch.eye(4))
        if kind == "matrix":
            self.matrix = torch.ones(4, 4)
        else:
            self.matrix = nn.Parameter(torch.ones(4, 4))
        self.generator = torch.Generator("cpu" if kind == "generator" else "cuda")
        self.layer = nn.Linear(4, 2)

    def forward(self, states):
        x = self.features[states] @ self.matrix
        return self.layer(x + torch.rand(x.shape, device=x.device, generator=self.generator))

def train(kind):
    model = Network(kind).to("cuda")
    loss = model(torch.tensor([0, 3, 1], device="cuda")).square().mean()
    loss.backward()
    assert model.matrix.grad.device.type == "cuda" and float(model.matrix.grad.abs().sum()) > 0
    return loss.numpy() if kind == "picture" else float(loss)

with dry.simulated_device() as mode:
    for kind in ("attribute", "matrix", "generator", "picture", "right"):
        print(dry.run(mode, sys.modules["__main__"], "train", lambda: train(kind)).error)
"""
"""Programs with one misplaced tensor each, and at last a correct one."""


def test_a_misplaced_tensor_is_detected():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    words = [sys.executable, "-W", "ignore", "-c", EXAMPLES]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    attribute, matrix, generator, picture, right = done.stdout.splitlines()
    assert attribute == "RuntimeError: aten.index.Tensor: indices must be on the CPU or on cpu, found cuda:0"
    assert matrix.startswith(("FakeTensorDeviceMismatchError: ", "RuntimeError: "))  # the second by PyTorch 2.11
    assert matrix.endswith(
        ("two devices, cuda:0 and cpu!", "for aten.mm.default, found two different devices cuda:0, cpu")
    )
    assert generator == "RuntimeError: aten.rand.generator: expected a cuda generator, found one on cpu"
    assert picture.startswith("TypeError: can't convert cuda:0 device type tensor to numpy")
    assert right == ""


def test_the_replacement_of_cudas_gru_cell_equals_torch():
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(5, 4).double()
    x, h, dh = torch.randn(3, 5).double(), torch.randn(3, 4).double(), torch.randn(3, 4).double()
    gx, gh = (x @ cell.weight_ih.mT).detach(), (h @ cell.weight_hh.mT).detach()
    new, saved = cuda_dry_run.gru_cell(gx, gh, h, cell.bias_ih.detach(), cell.bias_hh.detach())
    torch.testing.assert_close(new, cell(x, h).detach())
    d_gx, d_gh, d_h, d_input_bias, d_hidden_bias = cuda_dry_run.gru_cell_backward(dh, saved, True)
    assert d_gx is not None and d_gh is not None and d_h is not None
    inputs = x.requires_grad_(), h.requires_grad_(), cell.bias_ih, cell.bias_hh
    dx, total_dh, d_bias_ih, d_bias_hh = torch.autograd.grad(cell(x, h), inputs, dh)
    torch.testing.assert_close(d_gx @ cell.weight_ih, dx)
    torch.testing.assert_close(d_gh @ cell.weight_hh + d_h, total_dh)
    torch.testing.assert_close(d_input_bias, d_bias_ih)
    torch.testing.assert_close(d_hidden_bias, d_bias_hh)


# `make gpu`.


def gpu_commands():
    """List the commands of `make gpu`."""
    words = ["make", "--dry-run", "--no-print-directory", "gpu"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("timeout ")]


@pytest.mark.skipif(sys.platform == "win32", reason="make is not installed")
def test_make_gpu_takes_at_most_twelve_minutes_and_writes_separate_records():
    commands = gpu_commands()
    assert len(commands) >= 8
    assert sum(int(words[1]) for words in commands) <= 12 * 60
    for words in commands:
        if "record" in words:
            assert words[words.index("record") + 1].startswith("gpu/")
        if "devices" in words:
            assert words[words.index("--name") + 1].startswith("gpu/")


@pytest.mark.skipif(sys.platform == "win32", reason="make is not installed")
def test_commands_of_make_gpu_are_valid(monkeypatch, tmp_path):
    recorded = []
    monkeypatch.setattr(ledger.tables, "RESULTS", tmp_path)
    monkeypatch.setattr(ledger, "record", lambda options, command: recorded.append((options.name, command)))
    monkeypatch.setattr(ledger, "time_chapters", lambda root: recorded.append(("devices", [])) or {})
    monkeypatch.setattr(ledger, "write_json", lambda path, entry: None)
    for words in gpu_commands():
        if words[3:5] == ["-m", "common.records.ledger"]:
            monkeypatch.setattr(sys, "argv", words[4:])
            ledger.main()
    assert len(recorded) >= 7
    started = []
    for module in PROGRAMS:
        monkeypatch.setattr(module, "train", lambda config, module=module: started.append(module.__name__))
    for _, command in recorded:
        if command:
            chapter = command[0].removesuffix(".train")
            known = [module for module in PROGRAMS if module.__name__.startswith(chapter)]
            cli.main(*known, arguments=[*command[1:], "--seed", "0", "--out", "runs"])
    assert {"ch04_cuda.compare", "ch04_cuda.matmul", "ch06_cnn.speedrun.speedrun"} <= set(started)
    assert compare.RECORD in {name for name, _ in recorded}


@pytest.mark.skipif(sys.platform == "win32", reason="make is not installed")
def test_make_gpu_without_a_gpu_is_an_error(tmp_path):
    (tmp_path / "nvidia-smi").symlink_to("/bin/false")  # finds no GPU on any machine
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    environment = {**inherited, "CUDA_VISIBLE_DEVICES": "", "PATH": path}
    words = ["make", "gpu", f"GPU_PYTHON={sys.executable}"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "make gpu: no NVIDIA GPU was found on this machine"
