"""Every program of chapters 1 to 8 on a CUDA device that is not there; see cuda_dry_run.py for how.

A process of its own trains every program in small on fake tensors of `cuda:0`: data, forward pass, loss, backward pass,
optimizer, sampling, environments, evaluation, and the tensors that are drawn; then it takes the benchmark's step, with
every other value of a choice or switch. A new program takes part by being known to its chapter's train.py.

Not covered, since nothing here stands for it:

- the kernels: values are computed on the CPU, so neither a kernel's result nor its speed is seen
- cuDNN's recurrent layers (PyTorch's own recurrence takes their place), torch.compile, C++ and Triton kernels' launch
- real streams, CUDA graphs, events, pinned memory and copies that overlap: they are replaced by doing nothing
- files: checkpoints and their restoring on a GPU, weights, written figures, and pictures of networks
- several processes (DistributedDataParallel, NCCL), DataLoader's workers, and memory that runs out
- evaluation and sampling with other settings than the small ones of cuda_dry_run.py, and functions that the table does
  not name
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

NOTHING_ON_A_DEVICE = {"ch01_graphs.expressions", "ch01_graphs.numerics", "ch02_nn.activations", "ch02_nn.descent"}
"""Programs that compute on the CPU, whatever --device says."""
CPU_ONLY = {"ch03_autoencoder_rbm.films.baselines", "ch03_autoencoder_rbm.films.scaling"}
"""Programs that refuse a GPU in one line."""


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
def test_program_keeps_to_its_device(outcomes, program, part):
    outcome = outcomes[program, part]
    assert outcome.refused == (program in CPU_ONLY), outcome.error
    if not outcome.refused:
        assert outcome.error == ""
        if part != "settings":  # there may be none
            assert (outcome.operators == 0) == (program in NOTHING_ON_A_DEVICE)


@pytest.mark.slow
def test_the_table_names_every_program(outcomes):
    table = cuda_dry_run.table(list(outcomes.values()))
    assert all(f"| {name} | train |" in table for name in NAMES)
    (row,) = re.findall(r"^\| ch07_dqn.dqn \| train \| [\d,]+ \| .*$", table, re.M)
    assert {"act", "sample", "train_step"} <= set(re.findall(r"\w+", row)), row


MADE_UP = """
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
        self.dice = torch.Generator("cpu" if kind == "generator" else "cuda")
        self.layer = nn.Linear(4, 2)

    def forward(self, states):
        x = self.features[states] @ self.matrix
        return self.layer(x + torch.rand(x.shape, device=x.device, generator=self.dice))

def train(kind):
    model = Network(kind).to("cuda")
    loss = model(torch.tensor([0, 3, 1], device="cuda")).square().mean()
    loss.backward()
    assert model.matrix.grad.device.type == "cuda" and float(model.matrix.grad.abs().sum()) > 0
    return loss.numpy() if kind == "picture" else float(loss)

with dry.pretended_device() as mode:
    for kind in ("attribute", "matrix", "generator", "picture", "right"):
        print(dry.run(mode, sys.modules["__main__"], "train", lambda: train(kind)).error)
"""
"""A program with one tensor that is not where it should be, in turn, and at last with none."""


def test_a_misplaced_tensor_is_caught():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    words = [sys.executable, "-W", "ignore", "-c", MADE_UP]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    attribute, matrix, generator, picture, right = done.stdout.splitlines()
    assert attribute == "RuntimeError: aten.index.Tensor: indices must be on the CPU or on cpu, found cuda:0"
    assert matrix.startswith("FakeTensorDeviceMismatchError: ")
    assert matrix.endswith("at least two devices, cuda:0 and cpu!")
    assert generator == "RuntimeError: aten.rand.generator: expected a cuda generator, found one on cpu"
    assert picture.startswith("TypeError: can't convert cuda:0 device type tensor to numpy")
    assert right == ""


def test_a_gru_s_cell_that_stands_in_for_cuda_s_is_torch_s():
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(5, 4).double()
    x, h, dh = torch.randn(3, 5).double(), torch.randn(3, 4).double(), torch.randn(3, 4).double()
    above, beside = (x @ cell.weight_ih.mT).detach(), (h @ cell.weight_hh.mT).detach()
    new, kept = cuda_dry_run.gru_cell(above, beside, h, cell.bias_ih.detach(), cell.bias_hh.detach())
    torch.testing.assert_close(new, cell(x, h).detach())
    d_above, d_beside, d_h, d_input_bias, d_hidden_bias = cuda_dry_run.gru_cell_backward(dh, kept, True)
    assert d_above is not None and d_beside is not None and d_h is not None
    inputs = x.requires_grad_(), h.requires_grad_(), cell.bias_ih, cell.bias_hh
    dx, whole_dh, d_bias_ih, d_bias_hh = torch.autograd.grad(cell(x, h), inputs, dh)
    torch.testing.assert_close(d_above @ cell.weight_ih, dx)
    torch.testing.assert_close(d_beside @ cell.weight_hh + d_h, whole_dh)
    torch.testing.assert_close(d_input_bias, d_bias_ih)
    torch.testing.assert_close(d_hidden_bias, d_bias_hh)


# The Makefile's target for a machine with a GPU.


def gpu_commands():
    """What `make gpu` runs there, step by step."""
    words = ["make", "--dry-run", "--no-print-directory", "gpu"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("timeout ")]


@pytest.mark.skipif(sys.platform == "win32", reason="make is not there")
def test_make_gpu_takes_at_most_twelve_minutes_and_writes_records_of_its_own():
    commands = gpu_commands()
    assert len(commands) >= 8
    assert sum(int(words[1]) for words in commands) <= 12 * 60
    for words in commands:
        if "record" in words:
            assert words[words.index("record") + 1].startswith("gpu/")
        if "devices" in words:
            assert words[words.index("--name") + 1].startswith("gpu/")


@pytest.mark.skipif(sys.platform == "win32", reason="make is not there")
def test_make_gpu_s_commands_are_understood(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(ledger.tables, "RESULTS", tmp_path)
    monkeypatch.setattr(ledger, "record", lambda options, command: asked.append((options.name, command)))
    monkeypatch.setattr(ledger, "time_chapters", lambda root: asked.append(("devices", [])) or {})
    monkeypatch.setattr(ledger, "write_json", lambda path, entry: None)
    for words in gpu_commands():
        if words[3:5] == ["-m", "common.records.ledger"]:
            monkeypatch.setattr(sys, "argv", words[4:])
            ledger.main()
    assert len(asked) >= 7
    started = []
    for module in PROGRAMS:
        monkeypatch.setattr(module, "train", lambda config, module=module: started.append(module.__name__))
    for _, command in asked:
        if command:
            chapter = command[0].removesuffix(".train")
            known = [module for module in PROGRAMS if module.__name__.startswith(chapter)]
            cli.main(*known, arguments=[*command[1:], "--seed", "0", "--out", "runs"])
    assert {"ch04_cuda.compare", "ch04_cuda.matmul", "ch06_cnn.speedrun.speedrun"} <= set(started)
    assert compare.RECORD in {name for name, _ in asked}


@pytest.mark.skipif(sys.platform == "win32", reason="make is not there")
def test_make_gpu_refuses_without_a_gpu(tmp_path):
    (tmp_path / "nvidia-smi").symlink_to("/bin/false")  # finds no GPU, wherever this is
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    environment = {**outside, "CUDA_VISIBLE_DEVICES": "", "PATH": path}
    words = ["make", "gpu", f"GPU_PYTHON={sys.executable}"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "make gpu: no NVIDIA GPU was found on this machine"
