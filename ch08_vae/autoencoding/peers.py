"""Comparison with the VAE of pytorch/examples: images per second, and the loss after equal work and equal time.

    python -m ch08_vae.train peers
    python -m ch08_vae.train peers --peer equivalent      # a loop written here instead of the published file

The same: 784-400-20-400-784, the training images, grey levels, batches of 128, number of threads, loss on the test
images (`grey_loss`, not a log-likelihood). Different: ours is the program `vae` with `--binarisation none`, which keeps
all images in memory, has SiLU instead of ReLU, a one-cycle learning rate, fused Adam, and bfloat16 where it is faster.

A measurement is one epoch. The loss is measured after the same number of epochs (`ours`), and after as many epochs as
ours trains in the time of the peer (`equal_time`).
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.examples_vae import Example, equivalent, published, published_file
from ch08_vae.autoencoding.networks import initialise_output_bias
from ch08_vae.preprocessing import binarised, fixed
from common import distributed
from common.benchmark import rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.data.source import DataUnavailable
from common.device import Timer, has_native_bf16
from common.peers import ROUNDS, Variant, compare
from common.progress import print_table, say
from common.run import Run

MOST_EPOCHS = 1_000
"""Largest number of epochs of ours, however long the peer takes."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    peer: Literal["auto", "published", "equivalent"] = "auto"
    """Peer: the published file of pytorch/examples, or an equivalent loop; auto is the published file if available."""
    epochs: int = 10
    """Number of epochs of the peer; the default is that of pytorch/examples."""
    batch_size: int = 128
    """Batch size."""
    learning_rate: float = 4e-3
    """Peak learning rate of ours; that of the peer is 1e-3."""
    rounds: int = ROUNDS
    """Rounds of measurement after a warm-up; every variant trains one epoch in each."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "rounds")


def make_peer(config: Config, data: ImageSet, scratch: Path, device: torch.device) -> Example:
    """Load the published file, or make the equivalent loop if the Config says so or the file is not available."""
    if config.peer != "equivalent":
        try:
            path = published_file()
            return published(path, data, scratch, batch_size=config.batch_size, seed=config.run.seed, device=device)
        except DataUnavailable as error:
            if config.peer == "published":
                raise
            say("notice", f"an equivalent loop replaces the file of pytorch/examples: {error}")
    return equivalent(data.train, batch_size=config.batch_size, device=device)


def our_settings(config: Config, epochs: int) -> vae.Config:
    """Return the settings of the program `vae` for the network and the data of the peer."""
    return vae.Config(
        data=config.data,
        hidden=(400,),
        binarisation="none",
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warm_up=0.0,
        run=config.run,
    )


def epoch_of_ours(config: Config, data: ImageSet, device: torch.device, *, bf16: bool) -> float:
    """Train a new network for one epoch with the program's training step; return the number of images."""
    model = vae.make_model(our_settings(config, 1)).to(device)
    initialise_output_bias(model, data.train.pixels)
    optimizer = vae.make_optimizer(model, config.learning_rate)
    for (images,) in Batches(
        data.train.pixels, batch_size=config.batch_size, device=device, generator=torch.Generator()
    ):
        vae.train_step(model, optimizer, binarised(images, "none"), bf16=bf16)
    return len(data.train)


def epoch_of_peer(peer: Example, data: ImageSet) -> float:
    """Train the peer for one more epoch; return the number of images."""
    peer.train_epoch()
    return len(data.train)


def train_ours(config: Config, data: ImageSet, folder: Path, epochs: int) -> dict[str, float]:
    """Run the program `vae`; return its epochs, training time and loss on the test images."""
    options = replace(config.run, out=folder, resume=False)
    result = vae.train(replace(our_settings(config, epochs), run=options), data)
    return {"epochs": float(epochs), "train_seconds": result["train_seconds"], "grey_loss": result["test_grey_loss"]}


def train_peer(config: Config, data: ImageSet, run: Run, peer: Example) -> dict[str, float]:
    """Train the peer; return its epochs, training time and loss on the test images."""
    with Timer(run.device) as timer:
        for _ in range(config.epochs):
            peer.train_epoch()
    loss = peer.test_loss(fixed(data.test.pixels, "none", run.device))
    return {"epochs": float(config.epochs), "train_seconds": timer.seconds, "grey_loss": loss}


def equal_time_epochs(peer: dict[str, float], ours: dict[str, float]) -> int:
    """Return the number of whole epochs that ours trains in the training time of the peer, from 1 to MOST_EPOCHS."""
    epochs = int(peer["train_seconds"] / (ours["train_seconds"] / ours["epochs"]))
    return min(MOST_EPOCHS, max(1, epochs))


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train both, then measure their epochs interleaved; return losses, images per second and ratios."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run, TemporaryDirectory() as scratch:
        require(distributed.world_size() == 1, "peers compares within one process", distributed.world_size())
        peer = make_peer(config, data, Path(scratch), run.device)
        results = {
            peer.name: train_peer(config, data, run, peer),
            "ours": train_ours(config, data, run.folder / "ours", config.epochs),
        }
        epochs = equal_time_epochs(results[peer.name], results["ours"])
        results["equal_time"] = train_ours(config, data, run.folder / "equal_time", epochs)
        rows = [[name.replace("_", " "), *result.values()] for name, result in results.items()]
        print_table(["", "epochs", "training seconds", "loss on the test images"], rows)

        def ours(title: str, *, bf16: bool) -> Variant:
            return Variant(
                title, partial(rate, partial(epoch_of_ours, config, data, run.device, bf16=bf16), 1e-9, run.device)
            )

        variants = {"fp32": ours("ours, fp32", bf16=False)}
        if has_native_bf16(run.device):
            variants["bf16"] = ours("ours, bf16", bf16=True)
        peers = {peer.name: Variant(peer.title, partial(rate, partial(epoch_of_peer, peer, data), 1e-9, run.device))}
        measures = compare(run, variants, peers, "images_per_second", config.rounds)
        losses = {f"{name}_{what}": value for name, result in results.items() for what, value in result.items()}
        return run.finish(run=losses | measures)
