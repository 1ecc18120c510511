"""Throughput of persistent contrastive divergence: scikit-learn's BernoulliRBM and this chapter's RBM.

    python -m ch03_autoencoder_rbm.train rbm_throughput
    python -m ch03_autoencoder_rbm.train rbm_throughput --hidden-size 100

They are timed interleaved. Both take the same step on the same binary images, without momentum and centring, with the
same numbers of hidden units, chains and Gibbs steps and the same batch size. A test checks that both compute the same
weights from the same random numbers. This chapter's RBM is also timed with sampling in bfloat16.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ch03_autoencoder_rbm.boltzmann.gibbs import ContrastiveDivergence
from ch03_autoencoder_rbm.boltzmann.rbm import make_rbm
from ch03_autoencoder_rbm.preprocessing import fixed_binary
from common import distributed
from common.benchmark import interleaved
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import Timer
from common.peers import ratios_of
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    hidden_size: int = 500
    """Number of hidden units."""
    batch_size: int = 100
    """Batch size in images, also the number of persistent chains."""
    learning_rate: float = 0.05
    """Learning rate."""
    rounds: int = 7
    """Rounds of measurement after a warm-up; every implementation is timed once in each."""
    images: int = 10_000
    """Maximum number of training images per measurement."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "batch_size", "learning_rate", "rounds", "images")


def scikit_learn(v: Tensor, config: Config) -> Callable[[], object]:
    """Make a function that trains a BernoulliRBM for one epoch on (N, P) binary images."""
    from sklearn.neural_network import BernoulliRBM
    from threadpoolctl import threadpool_limits

    images = v.numpy()
    model = BernoulliRBM(
        config.hidden_size,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        n_iter=1,
        random_state=config.run.seed,
    )

    def learn() -> None:
        with threadpool_limits(torch.get_num_threads()):  # NumPy uses all cores otherwise
            model.fit(images)

    return learn


def ours(v: Tensor, config: Config, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """Make a function that trains this chapter's RBM for one epoch on (N, P) binary images."""
    batches = Batches(v, batch_size=config.batch_size, device=device)

    def learn() -> None:
        rbm = make_rbm(v, config.hidden_size).to(device)
        learner = ContrastiveDivergence(rbm, chains=batches.batch_size, dtype=dtype)
        for (images,) in batches:
            learner.step(rbm, images, config.learning_rate)

    return learn


def speed(learn: Callable[[], object], images: int, device: torch.device) -> float:
    """Measure the throughput in images per second, over whole epochs and at least a quarter of a second."""
    done, seconds = 0, 0.0
    while seconds < 0.25:
        with Timer(device) as timer:
            learn()
        seconds += timer.seconds
        done += images
    return done / seconds


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Time the implementations interleaved; return images per second, and ratios to scikit-learn with their ranges."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16", packages=("scikit-learn",)) as run:
        require(distributed.world_size() == 1, "the comparison runs in one process", distributed.world_size())
        cpu = torch.device("cpu")
        v = fixed_binary(data.train.pixels[: config.images], "stochastic", cpu)
        implementations = {
            "sklearn": scikit_learn(v, config),
            "fp32": ours(v, config, run.device, torch.float32),
            "bf16": ours(v, config, run.device, torch.bfloat16),
        }
        speeds = interleaved(implementations, config.rounds, lambda learn: speed(learn, len(v), run.device))
        median = {name: statistics.median(values) for name, values in speeds.items()}
        report(run, median)
        baseline = speeds.pop("sklearn")
        measures = {f"{name}_images_per_second": images_per_second for name, images_per_second in median.items()}
        for name, values in speeds.items():
            measures |= ratios_of(name, values, baseline, "images_per_second")
        return run.finish(run=measures)


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the throughput of the three implementations."""
    from common.drawing import plots

    config = run.config
    title = f"PCD-1, {config.hidden_size} hidden units, batches of {config.batch_size}"
    names = ["scikit-learn, fp32", "here, fp32", "here, bf16"]
    run.figure("throughput", plots.bars(names, list(median.values()), title=title, label="images/s"))
