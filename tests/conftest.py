"""Fixtures and hooks of all tests: no network, no data of the user, no leftovers."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.config import RunOptions
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import has_bf16_kernels
from common.drawing import plots
from make_models import MODELS, train_all

pytest_plugins = ("warm_python",)

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA_DIR = Path(os.environ.get("DATA_DIR", "data")).resolve()

# A shell makes background processes ignore Ctrl-C, and the programs that the tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


SAVE = plots.save

LONGEST = [
    *("test_written_commands", "ch09/test_pipeline", "test_cuda_dry_run", "ch10/test_playground", "ch10/test_image"),
    *("test_notebooks", "ch09/test_profiles"),
    *("ch09/test_bindings", "ch10/test_export", "ch05/test_seq2seq", "ch05/test_forecast", "ch06/test_cnn"),
    *("ch05/test_sentiment", "ch08/test_vae", "test_run", "ch10/test_load", "ch03/test_rbm", "test_distributed"),
    *("ch03/test_autoencoder", "ch02/test_programs", "ch10/test_training", "ch08/test_programs", "test_killtest"),
    *("ch03/test_recommend", "ch03/test_recommender", "test_resume", "ch05/test_language_model", "ch10/test_server"),
]
"""Slowest test files. They start first, so that no worker starts one of them when the others have finished."""


def pytest_xdist_auto_num_workers():
    """Start one worker more than there are processors, since some tests wait for sockets, locks or processes."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items):
    """Start with the slowest files; skip tests that this machine cannot run, with the reason."""
    places = {ROOT / "tests" / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    no_gpu = pytest.mark.skip(reason="there is no CUDA device")
    no_data = pytest.mark.skip(reason=f"MNIST and CIFAR-10 are not in DATA_DIR ({REAL_DATA_DIR})")
    have_data = all(any((REAL_DATA_DIR / name).glob("*")) for name in ("MNIST/raw", "cifar-10-batches-bin"))
    no_bf16 = pytest.mark.skip(reason="PyTorch lacks bfloat16 operations for this processor")
    for item in items:
        if item.get_closest_marker("bf16") and not has_bf16_kernels(torch.device("cpu")):
            item.add_marker(no_bf16)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("data") and not have_data:
            item.add_marker(no_data)


INSTALLED_BY_CI = re.compile(
    "Graphviz|Chromium|playwright|buildah|debootstrap|JAX|Snakemake|dvc|kfp|pachyderm|hadolint|sacrebleu|gensim|"
    "tensorboard|jupytext|nbclient|sphinx|KaTeX|rsync",
    re.I,
)
"""Tools that .ci/run installs: a test skipped there because one is missing indicates a broken installation."""


def fail_skip_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure if CI=true and .ci/run should have installed the missing tool."""
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if INSTALLED_BY_CI.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{reason}: .ci/run should have installed it"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    fail_skip_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    fail_skip_in_ci(report)
    return report


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # the networks are small, and the machine may be busy


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_OFFLINE", "1")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def _no_matrix_products(monkeypatch):
    """Do not measure the machine in comparisons with other software, which takes seconds."""
    monkeypatch.setattr("common.peers.matrix_product_rate", lambda: 100.0)


@pytest.fixture(scope="session", autouse=True)
def _small_figures():
    """Draw figures small and without layout, which takes a third of the time."""

    def save(figure, path):
        figure.set_layout_engine(None)
        figure.savefig(path, format="png", dpi=20)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save", save)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk():
    """Let files that the tests write stay in memory: waiting for a disk thousands of times takes half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _full_figures(request, monkeypatch):
    """Draw figures as users get them in tests marked `figures`."""
    if request.node.get_closest_marker("figures"):
        monkeypatch.setattr(plots, "save", SAVE)


@pytest.fixture
def real_data(monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(REAL_DATA_DIR))


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_images("digits")


@pytest.fixture
def options(tmp_path) -> RunOptions:
    return RunOptions(device="cpu", precision="fp32", threads=1, out=tmp_path / "runs")


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder of short runs, one of each network that chapter 10 serves; made once for all workers."""
    home = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.mktemp("t")
    )
    folder = home / "trained"
    with (home / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            train_all(folder)
            (folder / "complete").touch()
    return folder


def fit_classifiers_once(patch: pytest.MonkeyPatch) -> None:
    """Let chapter 8's programs fit their classifier once per training set: its seeds are fixed, so it is the same."""
    from ch08_vae.adversarial import gan
    from ch08_vae.autoencoding import latent_sweep, vae
    from ch08_vae.diffusion import diffusion
    from ch08_vae.evaluation import compare_generators
    from ch08_vae.evaluation.classifier import fit_classifier

    fitted = {}

    def fit(data, device):
        key = data.train.pixels.numpy().tobytes(), data.train.labels.numpy().tobytes(), device
        if key not in fitted:
            fitted[key] = fit_classifier(data, device)
        return fitted[key]

    for program in (gan, latent_sweep, vae, diffusion, compare_generators):
        patch.setattr(program, "fit_classifier", fit)


def train_until(learned: Callable[[], bool], step: Callable[[], object], *, at_most: int, every: int = 5) -> None:
    """Take training steps until the task is learned; fail after `at_most` steps.

    Rounding differs between processors, and so does the number of steps: no test may depend on it.
    """
    for number in range(at_most):
        step()
        if number % every == every - 1 and learned():
            return
    pytest.fail(f"not learned within {at_most} steps")


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of small exported models, one of each network, that `make_models.py` has written."""
    return MODELS


@pytest.fixture
def command(tmp_path):
    """Return a function that runs `python -m ...` as a user would and returns the finished process."""

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
    """Return a function that calls one that must exit with code 2 and one line on stderr, and returns that line."""

    def call(function, *arguments, **named) -> str:
        with pytest.raises(SystemExit) as stop:
            function(*arguments, **named)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1, f"more than one line: {error}"
        return error

    return call
