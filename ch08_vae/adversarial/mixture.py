"""Six ways to train the same pair of networks on a planted mixture of Gaussians, with the number of modes found.

    python -m ch08_vae.train mixture
    python -m ch08_vae.train mixture --data ring
    python -m ch08_vae.train mixture --methods gan wgan_gp --epochs 80

All methods have the same networks, the same batches of real points and the same number of discriminator steps; they are
trained interleaved in one process. Neighbouring methods differ in one setting:

    gan           non-saturating loss, one discriminator step for each generator step
    gan_spectral  gan with spectral normalisation of the discriminator
    gan_5         gan with five discriminator steps
    wgan_5        gan_5 with the Wasserstein loss, without any constraint of the critic
    wgan_gp_5     wgan_5 with the gradient penalty: WGAN-GP as published
    wgan_gp       wgan_gp_5 with one critic step

Dimensions: B batch, N samples, Z latent units.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch08_vae.adversarial.losses import Loss
from ch08_vae.adversarial.mixtures import Mixture, Name, draw, make_mixture, measure_modes
from ch08_vae.adversarial.networks import Generator, Pair, point_pair
from ch08_vae.adversarial.pictures import Snapshots
from ch08_vae.adversarial.steps import Optimizers, make_optimizer, train_step
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

SAMPLES = 2_500
"""Number of samples that are measured, as in VEEGAN."""
SHOWN = 500
"""Number of samples in the pictures."""


@dataclass(frozen=True)
class Method:
    """One way to train a pair."""

    loss: Loss = "non-saturating"
    critic_steps: int = 1
    gradient_penalty: float = 0.0
    spectral_norm: bool = False


METHODS = {
    "gan": Method(),
    "gan_spectral": Method(spectral_norm=True),
    "gan_5": Method(critic_steps=5),
    "wgan_5": Method("wasserstein", critic_steps=5),
    "wgan_gp_5": Method("wasserstein", critic_steps=5, gradient_penalty=1.0),
    "wgan_gp": Method("wasserstein", gradient_penalty=1.0),
}
"""The methods by name."""

MethodName = Literal["gan", "gan_spectral", "gan_5", "wgan_5", "wgan_gp_5", "wgan_gp"]


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Name = "grid"
    """Mixture: 25 Gaussians on a grid, or 8 on a ring."""
    methods: tuple[MethodName, ...] = ("gan", "gan_spectral", "gan_5", "wgan_5", "wgan_gp_5", "wgan_gp")
    """Methods to compare."""
    latent_size: int = 2
    """Number of latent units Z: size of the generator's input, a standard normal vector."""
    width: int = 64
    """Number of units of the two hidden layers of each network."""
    epochs: int = 30
    """Number of epochs; the samples are measured after each."""
    steps: int = 150
    """Number of discriminator steps per epoch."""
    batch_size: int = 128
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam for all methods (one-cycle schedule)."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "latent_size", "width", "epochs", "steps", "batch_size", "learning_rate")
        require(len(self.methods) > 0, "--methods needs at least one method", "none")
        require(len(set(self.methods)) == len(self.methods), "--methods must differ", " ".join(self.methods))


class Trainer:
    """The networks and optimizers of one method."""

    def __init__(self, method: Method, config: Config, device: torch.device) -> None:
        self.method = method
        self.learning_rate = config.learning_rate
        self.pair = point_pair(config.latent_size, config.width, spectral_norm=method.spectral_norm).to(device)
        self.optimizers: Optimizers = (
            make_optimizer(self.pair.generator, self.learning_rate),
            make_optimizer(self.pair.discriminator, self.learning_rate),
        )

    def step(self, number: int, steps: int, real: Tensor, *, bf16: bool = False) -> Tensor:
        """Take discriminator step `number` (from 0) of `steps`, and a generator step after every `critic_steps`."""
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, one_cycle(number, steps, self.learning_rate, warm_up=0.1))
        loss, _ = train_step(
            self.pair,
            self.optimizers,
            real,
            loss=self.method.loss,
            gradient_penalty=self.method.gradient_penalty,
            train_generator=(number + 1) % self.method.critic_steps == 0,
            bf16=bf16,
        )
        return loss


@torch.inference_mode()
def generate(generator: Generator, z: Tensor) -> Tensor:
    """(N, Z) -> (N, 2) samples on the CPU"""
    return generator(z).float().cpu()


def evaluate(trainers: dict[str, Trainer], mixture: Mixture, z: Tensor) -> dict[str, float]:
    """Return the measures of every method, from the same (N, Z) latent vectors."""
    return {
        f"{name}_{measure}": value
        for name, trainer in trainers.items()
        for measure, value in measure_modes(generate(trainer.pair.generator, z), mixture).items()
    }


def train(config: Config) -> dict[str, float]:
    """Train a pair with every method; return the measures of new samples."""
    with Run.open(__name__, config) as run:
        require(distributed.world_size() == 1, "the mixture program trains in one process", distributed.world_size())
        mixture = make_mixture(config.data)
        trainers = {name: Trainer(METHODS[name], config, run.device) for name in config.methods}
        snapshots = Snapshots(config.epochs)
        z = torch.randn(SHOWN, config.latent_size, device=run.device)
        parts: dict[str, Any] = {"snapshots": snapshots}
        for name, trainer in trainers.items():
            generator_optimizer, discriminator_optimizer = trainer.optimizers
            parts |= {name: trainer.pair, f"{name}_generator_optimizer": generator_optimizer}
            parts |= {f"{name}_discriminator_optimizer": discriminator_optimizer}
        steps = config.epochs * config.steps
        for epoch in run.epochs(config.epochs, config.steps, **parts):
            for number in range((epoch - 1) * config.steps, epoch * config.steps):
                real = draw(mixture, config.batch_size, run.device)
                losses = [trainer.step(number, steps, real, bf16=run.bf16) for trainer in trainers.values()]
                run.step(torch.stack(losses).mean(), points=len(real))
            snapshots.take(epoch, [generate(trainer.pair.generator, z) for trainer in trainers.values()])
            run.log(valid=evaluate(trainers, mixture, torch.randn(SAMPLES, config.latent_size, device=run.device)))
        run.save(nn.ModuleDict({name: trainer.pair for name, trainer in trainers.items()}))
        report(run, snapshots, mixture, config)
        z = torch.randn(SAMPLES, config.latent_size, device=run.device)
        real = measure_modes(draw(mixture, SAMPLES), mixture)
        return run.finish(run=evaluate(trainers, mixture, z), real=real)


def report(run: Run, snapshots: Snapshots, mixture: Mixture, config: Config) -> None:
    """Draw samples after selected epochs and curves of the measures; write the animation."""
    from common.drawing import plots

    run.figure("training", snapshots.draw(config.methods, mixture))
    epochs = [row["epoch"] for row in run.history]
    titles = {"modes": "modes found", "high_quality": "share of high quality", "kl": "KL divergence of the modes"}
    panels = {
        title: {
            name.replace("_", " "): (epochs, [row[f"valid_{name}_{measure}"] for row in run.history])
            for name in config.methods
        }
        for measure, title in titles.items()
    }
    run.figure("curves", plots.line_panels(panels, columns=3, xlabel="epoch", size=1.3))
    with run.writing("training.gif") as path:
        snapshots.write(path, config.methods, mixture)


def restore(folder: Path) -> tuple[nn.ModuleDict, Config]:
    """Load the trained pairs, by method, and their Config from a run folder."""
    config = read_config(folder, Config)
    pairs: dict[str, Pair] = {name: Trainer(METHODS[name], config, torch.device("cpu")).pair for name in config.methods}
    models = nn.ModuleDict(pairs)
    load_weights(models, folder)
    return models.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Five steps of every method on a batch of real points, for the device benchmark."""
    real = draw(make_mixture(config.data), config.batch_size, device)
    trainers = [Trainer(METHODS[name], config, device) for name in config.methods]

    def step() -> None:
        for number in range(5):
            for trainer in trainers:
                trainer.step(number, 5, real)

    return Workload(step, items=5 * config.batch_size)
