"""Autoencoder: 784-128-64-128-784, compresses an image to a code of 64 numbers and reconstructs it.

The baseline is principal component analysis (PCA) with 64 components.

    python -m ch03_autoencoder_rbm.train autoencoder
    python -m ch03_autoencoder_rbm.train autoencoder --noise 0.5     # denoising autoencoder

Dimensions: B batch, N images, P pixels (784), Z code (64).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.preprocessing import as_filters, intensities
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOISE_SEED = 0
"""Random seed of the noise on validation and test images, the same for all runs."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the autoencoder."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    epochs: int | None = None
    """Passes over the training split; by default 30, more on a small set (1,000 steps)."""
    batch_size: int = 256
    """Batch size in images, of all processes together."""
    learning_rate: float = 6e-3
    """Maximum learning rate of Adam; warms up and anneals in one cycle."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise added to the input pixels in [0, 1]; the target has no noise."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require(0 <= self.noise < math.inf, "--noise must not be negative", self.noise)


class Autoencoder(nn.Module):
    """Encoder and decoder with one hidden layer of 128 units each, and a code of `code_size` numbers."""

    def __init__(self, code_size: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 128), nn.SiLU(), nn.Linear(128, code_size))
        self.decoder = nn.Sequential(nn.Linear(code_size, 128), nn.SiLU(), nn.Linear(128, 784), nn.Sigmoid())

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, P) pixels -> (B, Z) code"""
        return self.encoder(pixels)

    def decode(self, code: Tensor) -> Tensor:
        """(B, Z) code -> (B, P) pixels in [0, 1]"""
        return self.decoder(code)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, P) pixels -> (B, P) reconstruction"""
        return self.decode(self.encode(pixels))


def noisy(pixels: Tensor, noise: float, generator: torch.Generator | None = None) -> Tensor:
    """(B, P) pixels -> the pixels plus Gaussian noise, clamped to [0, 1]"""
    if noise == 0:
        return pixels
    epsilon = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    return (pixels + noise * epsilon).clamp_(0, 1)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    targets: Tensor,
    *,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step on the mean squared error to the targets; return the loss as a tensor on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        outputs = model(pixels)
    loss = F.mse_loss(outputs.float(), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Make the optimizer: fused Adam (Kingma & Ba 2015)."""
    return torch.optim.Adam(model.parameters(), learning_rate, fused=True)


@torch.inference_mode()
def reconstruct(model: Autoencoder, images: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """(N, 1, 28, 28) uint8 -> (N, P) inputs with noise and (N, P) reconstructions, both on the CPU"""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(NOISE_SEED)
    inputs = noisy(intensities(images), noise, generator)
    return inputs, torch.cat([model(part.to(device)).cpu() for part in inputs.split(2_000)])


def squared_error(outputs: Tensor, images: Tensor) -> Tensor:
    """(N, P) reconstructions, (N, 1, 28, 28) uint8 originals -> (N,) mean squared error of each, pixels in [0, 1]"""
    return (outputs - intensities(images)).square().mean(1)


def principal_components(images: Tensor, inputs: Tensor, components: int) -> Tensor:
    """(N, 1, 28, 28) uint8 training images, (M, P) inputs -> (M, P) reconstructions from the principal components

    PCA is the linear code of this size with the smallest squared error on its training images.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    pixels = intensities(images).numpy()
    if len(pixels) == 1:  # a single image has no principal components, only a mean
        return torch.from_numpy(pixels).expand(len(inputs), -1)
    with threadpool_limits(torch.get_num_threads()):  # scikit-learn uses all cores otherwise
        pca = PCA(min(components, *pixels.shape), svd_solver="covariance_eigh").fit(pixels)
        return torch.from_numpy(pca.inverse_transform(pca.transform(inputs.numpy()))).float()


class Snapshots:
    """Reconstructions of the same images after several epochs, spaced evenly on a logarithmic scale; checkpointed."""

    def __init__(self, images: Tensor, epochs: int, count: int = 6) -> None:
        self.images = images
        self.epochs = {round(epochs ** (number / (count - 1))) for number in range(count)}
        self.reconstructions: dict[int, Tensor] = {}

    def take(self, model: Autoencoder, epoch: int, noise: float) -> None:
        """Store the reconstructions if the epoch is in `epochs`."""
        if epoch in self.epochs:
            self.reconstructions[epoch] = reconstruct(model, self.images, noise)[1]

    def state_dict(self) -> dict[int, Tensor]:
        """Return the reconstructions by epoch."""
        return self.reconstructions

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Restore the reconstructions from a checkpoint."""
        self.reconstructions = state


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the autoencoder and return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        batches = Batches(data.train.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(30, 1_000 // len(batches))
        model = Autoencoder().to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config.learning_rate)
        snapshots = Snapshots(data.valid.pixels[:10], epochs)
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer, snapshots=snapshots):
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, one_cycle(step, epochs * len(batches), config.learning_rate))
                pixels = intensities(images)
                loss = train_step(parallel, optimizer, noisy(pixels, config.noise), pixels, bf16=run.bf16)
                run.step(loss, images=len(images))
            snapshots.take(model, epoch, config.noise)
            _, outputs = reconstruct(model, data.valid.pixels, config.noise)
            run.log(valid={"mse": float(squared_error(outputs, data.valid.pixels).mean())})
        inputs, outputs = reconstruct(model, data.test.pixels, config.noise)
        errors = squared_error(outputs, data.test.pixels)
        projected = principal_components(data.train.pixels, inputs, components=64)
        run.save(model)
        if run.is_main:
            report(run, data, model, inputs, outputs, projected, errors, snapshots)
        baselines = {"pca_mse": float(squared_error(projected, data.test.pixels).mean())}
        if config.noise:
            baselines["input_mse"] = float(squared_error(inputs, data.test.pixels).mean())
        return run.finish(test={"mse": float(errors.mean()), **baselines})


def report(
    run: Run,
    data: ImageSet,
    model: Autoencoder,
    inputs: Tensor,
    outputs: Tensor,
    projected: Tensor,
    errors: Tensor,
    snapshots: Snapshots,
) -> None:
    """Draw reconstructions of the autoencoder and of PCA, the largest errors, reconstructions over the epochs, the
    filters, the code, and the error of each class.
    """
    from common.drawing import plots

    names, test = data.class_names, data.test
    worst = errors.topk(min(10, len(errors))).indices
    for name, rows in (("pairs", torch.arange(min(10, len(errors)))), ("mistakes", worst)):
        figure = draw_pairs(test.pixels[rows], inputs[rows], outputs[rows], projected[rows], noisy=run.config.noise > 0)
        run.figure(name, figure)
    run.figure("epochs", draw_snapshots(snapshots))
    weights = model.state_dict()["encoder.0.weight"].cpu()
    strongest = weights.square().sum(1).topk(40).indices
    run.figure("filters", plots.image_grid(as_filters(weights[strongest].T), columns=10, size=0.6))
    shown = slice(0, 1_000)
    with torch.inference_mode():
        code = model.encode(inputs[shown].to(run.device)).cpu()
    if len(code) > 3:  # t-SNE needs several neighbours
        title = f"t-SNE of the {code.shape[1]}-dimensional code of {len(code):,} test images"
        run.figure("code", plots.scatter(in_two_dimensions(code), test.labels[shown], names, title=title))
    per_class = {name: errors[test.labels == label].mean().item() for label, name in enumerate(names)}
    present = {name: error for name, error in per_class.items() if not math.isnan(error)}
    title = "test error of each class"
    run.figure("classes", plots.bars([*present], [*present.values()], title=title, label="mean squared error"))
    run.figure("curves", plots.curves(run.history, {"mean squared error": ["train_loss", "valid_mse"]}, log=True))


def draw_pairs(originals: Tensor, inputs: Tensor, outputs: Tensor, projected: Tensor, *, noisy: bool) -> "Figure":
    """Draw originals, noisy inputs if there are any, and the reconstructions of the autoencoder and of PCA."""
    from common.drawing import plots

    rows = {"original": intensities(originals)} | ({"noisy input": inputs} if noisy else {})
    rows |= {"autoencoder": outputs, "PCA": projected.clamp(0, 1)}
    images = torch.cat([*rows.values()]).view(-1, 1, 28, 28)
    return plots.image_grid(images, columns=len(originals), row_names=[*rows])


def draw_snapshots(snapshots: Snapshots) -> "Figure":
    """Draw the reconstructions after each stored epoch above the originals."""
    from common.drawing import plots

    images = torch.cat([*snapshots.reconstructions.values(), intensities(snapshots.images)]).view(-1, 1, 28, 28)
    names = [*(f"epoch {epoch}" for epoch in snapshots.reconstructions), "original"]
    return plots.image_grid(images, columns=len(snapshots.images), row_names=names)


def in_two_dimensions(code: Tensor) -> Tensor:
    """(N, Z) codes -> (N, 2) t-SNE embedding (van der Maaten & Hinton 2008)"""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(code) - 1) / 3)
    return torch.from_numpy(TSNE(perplexity=perplexity, max_iter=500, random_state=0).fit_transform(code.numpy()))


def restore(folder: Path) -> tuple[Autoencoder, Config]:
    """Load the autoencoder of a run folder."""
    config = read_config(folder, Config)
    model = Autoencoder()
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Make the training step on a batch of random images for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    model = Autoencoder().to(device)
    optimizer = make_optimizer(model, config.learning_rate)
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        pixels = intensities(images)
        return train_step(model, optimizer, noisy(pixels, config.noise), pixels, bf16=bf16)

    return Workload(step, items=config.batch_size)
