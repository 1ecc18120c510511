"""What every test shares: no network, no data of the person who runs them, no leftovers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.config import RunOptions
from common.data.images import ImageSet, load_images

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA_DIR = Path(os.environ.get("DATA_DIR", "data")).resolve()


def pytest_collection_modifyitems(items):
    """Skip, saying why, what this machine cannot run."""
    no_gpu = pytest.mark.skip(reason="there is no CUDA device")
    no_data = pytest.mark.skip(reason=f"MNIST and CIFAR-10 are not in DATA_DIR ({REAL_DATA_DIR})")
    have_data = all((REAL_DATA_DIR / name).is_dir() for name in ("MNIST/raw", "cifar-10-batches-bin"))
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("data") and not have_data:
            item.add_marker(no_data)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # the networks here are small, and the machine may be busy


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_OFFLINE", "1")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def real_data(monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(REAL_DATA_DIR))


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_images("digits")


@pytest.fixture
def options(tmp_path) -> RunOptions:
    return RunOptions(device="cpu", precision="fp32", threads=1, out=tmp_path / "runs")


@pytest.fixture
def command(tmp_path):
    """Run `python -m ...` as a person would; gives the finished process."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def fails(capsys):
    """Call something that must end with exit code 2 and one line on stderr; gives that line."""

    def call(function, *arguments, **named) -> str:
        with pytest.raises(SystemExit) as stop:
            function(*arguments, **named)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1, f"more than one line: {error}"
        return error

    return call
