"""The VAE of pytorch/examples: the published file, unmodified, or an equivalent loop.

The file `vae/main.py` of github.com/pytorch/examples trains 784-400-20-400-784 on MNIST: grey levels, binary
cross-entropy summed over the pixels, Adam with learning rate 1e-3, batches of 128 from a per-sample DataLoader. It is
read from `DATA_DIR/pytorch-examples/vae/main.py`, or downloaded to it; a file with another checksum is refused. If it
is not available, the loop of `equivalent` takes its place: the same network, loss, optimizer and data loader, written
here.

Dimensions: B batch, N images, P pixels (784), Z latent units (20).
"""

import contextlib
import importlib.util
import io
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ch08_vae.autoencoding.networks import kl_divergence, sample
from common.data.images.image_set import ImageSet, Split
from common.data.images.per_sample import PerSample
from common.data.source import data_dir, fetch, sha256_of_file

COMMIT = "77f55b912142e11fcfdf5b530231fb9c52f181e8"
MIRRORS = [f"https://raw.githubusercontent.com/pytorch/examples/{COMMIT}/vae/main.py"]
SHA256 = "366116e8252ac68ef1f180cce0b3c017f5a957595d863c8d4904210a80cdab6d"


@dataclass(frozen=True)
class Example:
    """The network and the loop of pytorch/examples."""

    name: str
    title: str
    model: nn.Module
    """(B, P) grey levels -> (B, P) probabilities, (B, Z) mu, (B, Z) log sigma^2"""
    loss_function: Callable[..., Tensor]
    """(B, P) probabilities, (B, P) grey levels, mu and log sigma^2 -> loss, summed over the images"""
    train_epoch: Callable[[], object]

    @torch.no_grad()
    def test_loss(self, x: Tensor) -> float:
        """Return the loss per image of (N, P) grey levels."""
        probabilities, mu, logvar = self.model(x)
        return float(self.loss_function(probabilities, x, mu, logvar)) / len(x)


def published_file() -> Path:
    """Return the published file, downloaded if necessary.

    Raises DataUnavailable if that fails, ValueError if the file on disk is another version.
    """
    path = data_dir() / "pytorch-examples" / "vae" / "main.py"
    if not path.exists():
        fetch(MIRRORS, path, SHA256)
    if sha256_of_file(path) != SHA256:
        raise ValueError(
            f"{path} is not the version {COMMIT[:8]} of pytorch/examples: delete it, or use --peer equivalent"
        )
    return path


def write_mnist(data: ImageSet, folder: Path) -> None:
    """Write the training and test images to the IDX files that torchvision's MNIST reads in a folder."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, split in (("train", data.train), ("t10k", data.test)):
        for kind, values in (("images-idx3", split.pixels.squeeze(1)), ("labels-idx1", split.labels.to(torch.uint8))):
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + values.numpy().tobytes())


@contextlib.contextmanager
def as_script(folder: Path, arguments: list[str]) -> Iterator[None]:
    """Set the current folder and the command line in the block, and discard what is printed."""
    before = sys.argv
    sys.argv = arguments
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.argv = before


def published(path: Path, data: ImageSet, folder: Path, *, batch_size: int, seed: int, device: torch.device) -> Example:
    """Load the published file as a module; it finds the images in `../data`, relative to its current folder."""
    write_mnist(data, folder / "data")
    (folder / "vae").mkdir()
    flags = ["--batch-size", str(batch_size), "--seed", str(seed), *(["--no-accel"] if device.type == "cpu" else [])]
    spec = importlib.util.spec_from_file_location("pytorch_examples_vae", path)
    assert spec is not None and spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    with as_script(folder / "vae", [str(path), *flags]):
        spec.loader.exec_module(script)
    return Example(
        "examples", "pytorch/examples", script.model, script.loss_function, epochs_of(script, folder / "vae")
    )


def epochs_of(script: ModuleType, folder: Path) -> Callable[[], object]:
    """Make a function that trains the network of the published file for one more epoch."""
    epoch = 0

    def train_epoch() -> None:
        nonlocal epoch
        epoch += 1
        with as_script(folder, sys.argv):
            script.train(epoch)

    return train_epoch


class Network(nn.Module):
    """The network of pytorch/examples: one hidden layer of 400 units in the encoder and in the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mu, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, P) grey levels -> (B, P) probabilities, (B, Z) mu, (B, Z) log sigma^2"""
        h = F.relu(self.hidden(x.flatten(1)))
        mu, logvar = self.mu(h), self.logvar(h)
        return self.decoder(sample(mu, logvar)), mu, logvar


def summed_loss(probabilities: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return binary cross-entropy plus KL divergence, summed over pixels, latent units and images."""
    return F.binary_cross_entropy(probabilities, x.flatten(1), reduction="sum") + kl_divergence(mu, logvar).sum()


def equivalent(split: Split, *, batch_size: int, device: torch.device) -> Example:
    """Make a loop that does the same as the published file."""
    from torchvision.transforms import ToTensor

    loader = DataLoader(PerSample(split, ToTensor()), batch_size=batch_size, shuffle=True)
    model = Network().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def train_epoch() -> float:
        total = 0.0
        for images, _ in loader:
            x = images.to(device)
            optimizer.zero_grad()
            probabilities, mu, logvar = model(x)
            loss = summed_loss(probabilities, x, mu, logvar)
            loss.backward()
            total += loss.item()
            optimizer.step()
        return total / len(split)

    return Example("equivalent", "equivalent of pytorch/examples", model, summed_loss, train_epoch)
