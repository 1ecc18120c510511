"""Deep belief network: RBMs trained layer by layer without labels, then fine-tuned as a classifier.

    python -m ch03_autoencoder_rbm.train dbn
    python -m ch03_autoencoder_rbm.train dbn --labels 1000          # pretrain on all images, fine-tune on 1,000
    python -m ch03_autoencoder_rbm.train dbn --hidden-sizes 500 500 2000

The first RBM is trained on pixels, each further RBM on the hidden units of the RBM below. The stack initialises a
network of sigmoid layers (Hinton, Osindero & Teh 2006; Hinton & Salakhutdinov 2006). The baseline is the same network
with random initial weights, trained on the same batches.

Dimensions: B batch, N images, P pixels (784), H units of a layer, K classes (10).
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, ContrastiveDivergence, upwards
from ch03_autoencoder_rbm.boltzmann.likelihood import base_rates, pseudo_likelihood
from ch03_autoencoder_rbm.boltzmann.rbm import draw_chain
from ch03_autoencoder_rbm.preprocessing import as_filters, binary, fixed_binary, intensities
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the deep belief network."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    hidden_sizes: tuple[int, ...] = (500, 500)
    """Number of hidden units of each layer, from the pixels up."""
    labels: int | None = None
    """Number of labelled training images for fine-tuning, by default all; sampled uniformly with the random seed of the
    run. The RBMs are trained on all images."""
    batch_size: int = 100
    """Batch size in images."""
    pretraining_epochs: int | None = None
    """Epochs of pretraining per layer; by default 20, up to 50 on a small set (600 steps)."""
    pretraining_rate: float = 0.1
    """Initial learning rate of contrastive divergence (CD-1); decays linearly to zero."""
    momentum: float = 0.5
    """Momentum coefficient of contrastive divergence."""
    epochs: int | None = None
    """Epochs of fine-tuning, each with as many steps as an epoch on all training images; by default 20, up to 100 on a
    small set (1,000 steps)."""
    learning_rate: float = 8e-3
    """Maximum learning rate of Adam in fine-tuning; warms up and anneals in one cycle."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_sizes", "labels", "batch_size", "pretraining_epochs", "pretraining_rate")
        require_positive(self, "epochs", "learning_rate")
        require(len(self.hidden_sizes) > 0, "--hidden-sizes needs at least one layer", self.hidden_sizes)
        require(0 <= self.momentum < 1, "--momentum must be at least 0 and below 1", self.momentum)


class Network(nn.Module):
    """Network with sigmoid hidden layers and a linear output layer, Glorot-initialised (Glorot & Bengio 2010)."""

    def __init__(self, hidden_sizes: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (784, *hidden_sizes)
        self.layers = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(sizes))
        self.output = nn.Linear(sizes[-1], 10)
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter) if parameter.ndim == 2 else nn.init.zeros_(parameter)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, P) pixels in [0, 1] -> (B, K) logits"""
        for layer in self.layers:
            pixels = layer(pixels).sigmoid()
        return self.output(pixels)

    @torch.no_grad()
    def start_from(self, stack: list[RBM]) -> None:
        """Initialise the layers with the weights and hidden biases of the RBMs, and the output weights with zeros."""
        for layer, rbm in zip(self.layers, stack, strict=True):
            layer.load_state_dict({"weight": rbm.weight.T, "bias": rbm.hidden_bias})
        nn.init.zeros_(self.output.weight)


def tune_step(
    network: Network, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step of the classifier; return the loss as a tensor on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = network(pixels)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """(N, 1, 28, 28) uint8 images, (N,) labels -> accuracy"""
    device = network.output.weight.device
    predicted = [network(intensities(part.to(device))).argmax(1).cpu() for part in images.split(2_000)]
    return float((torch.cat(predicted) == labels).float().mean())


def make_learner(rbm: RBM, config: Config, *, bf16: bool) -> ContrastiveDivergence:
    """Make the training algorithm of one RBM, centred CD-1."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    return ContrastiveDivergence(rbm, momentum=config.momentum, centre=True, dtype=dtype)


def make_optimizer(network: Network, config: Config) -> torch.optim.Optimizer:
    """Make the optimizer: fused Adam (Kingma & Ba 2015)."""
    return torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)


def few_labels(data: ImageSet, labels: int | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample the labelled training images uniformly and repeat them to the size of the training split.

    An epoch of fine-tuning therefore has the same number of steps for any number of labels.
    """
    images = len(data.train)
    if labels is None or labels >= images:
        return data.train.pixels, data.train.labels
    chosen = torch.randperm(images, generator=generator)[:labels]
    rows = chosen[torch.arange(images) % labels]
    return data.train.pixels[rows], data.train.labels[rows]


def initialise(stack: list[RBM], learner: ContrastiveDivergence, images: Tensor) -> None:
    """Initialise the visible biases and centres of the top RBM from the mean activations of the layer below."""
    *below, rbm = stack
    train_sample = binary(images[:5_000].to(rbm.weight.device), "stochastic")
    rbm.visible_bias.copy_(base_rates(upwards(below, train_sample)))
    learner.visible_centre.copy_(rbm.visible_bias.sigmoid())


def pretrain(
    run: Run, batches: Batches, stack: list[RBM], learner: ContrastiveDivergence, epoch: int, epochs: int
) -> None:
    """Train the top RBM of a stack for one epoch (counted from 0) on sampled hidden states of the layer below."""
    *below, rbm = stack
    for step, (images,) in enumerate(batches, start=epoch * len(batches)):
        learning_rate = run.config.pretraining_rate * (1 - step / (epochs * len(batches)))
        v = upwards(below, binary(images, "stochastic"))
        run.step(learner.step(rbm, v, learning_rate), images=len(images))


def tune(
    run: Run, labelled: Batches, networks: list[tuple[Network, torch.optim.Optimizer]], epoch: int, epochs: int
) -> None:
    """Fine-tune the networks for one epoch (counted from 0) on the same batches; log the loss of the last network."""
    for step, (images, labels) in enumerate(labelled, start=epoch * len(labelled)):
        pixels = intensities(images)
        for network, optimizer in networks:
            set_learning_rate(optimizer, one_cycle(step, epochs * len(labelled), run.config.learning_rate))
            loss = tune_step(network, optimizer, pixels, labels, bf16=run.bf16)
        run.step(loss, images=len(images))  # pyright: ignore[reportPossiblyUnbound]


def measure(tuned: Network, scratch: Network, split: Split) -> dict[str, float]:
    """Compute the accuracy of the pretrained network and of the baseline."""
    return {
        "accuracy": accuracy(tuned, split.pixels, split.labels),
        "scratch_accuracy": accuracy(scratch, split.pixels, split.labels),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Pretrain layer by layer, then fine-tune; return the test accuracy of the pretrained network and the baseline."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "the dbn trains in one process", distributed.world_size())
        options = {"batch_size": config.batch_size, "device": run.device, "generator": run.generator}
        batches = Batches(data.train.pixels, **options)
        labelled = Batches(*few_labels(data, config.labels, run.generator), **options)
        pretraining_epochs = config.pretraining_epochs or max(20, min(50, 600 // len(batches)))
        epochs = config.epochs or max(20, min(100, 1_000 // len(batches)))
        stack = [RBM(*sizes).to(run.device) for sizes in pairwise((784, *config.hidden_sizes))]
        learners = [make_learner(rbm, config, bf16=run.bf16) for rbm in stack]
        tuned, scratch = (Network(config.hidden_sizes).to(run.device) for _ in range(2))
        tuner, scratch_tuner = make_optimizer(tuned, config), make_optimizer(scratch, config)
        rbms = {"stack": nn.ModuleList(stack), "learners": nn.ModuleList(learners)}
        networks = {"tuned": tuned, "tuner": tuner, "scratch": scratch, "scratch_tuner": scratch_tuner}
        valid = fixed_binary(data.valid.pixels, "stochastic", run.device)
        total = len(stack) * pretraining_epochs
        for epoch in run.epochs(total + epochs, len(batches), **rbms, **networks):
            layer, layer_epoch = divmod(epoch - 1, pretraining_epochs)
            if layer < len(stack):  # pretraining of one layer
                if layer_epoch == 0:
                    initialise(stack[: layer + 1], learners[layer], data.train.pixels)
                pretrain(run, batches, stack[: layer + 1], learners[layer], layer_epoch, pretraining_epochs)
                likelihood = pseudo_likelihood(stack[layer], upwards(stack[:layer], valid))
                run.log(valid={f"pseudo_likelihood_{layer + 1}": likelihood})
            else:  # fine-tuning
                if epoch == total + 1:
                    tuned.start_from(stack)
                tune(run, labelled, [(scratch, scratch_tuner), (tuned, tuner)], epoch - 1 - total, epochs)
                run.log(valid=measure(tuned, scratch, data.valid))
        run.save(tuned)
        report(run, data, stack, tuned)
        return run.finish(test=measure(tuned, scratch, data.test))


def report(run: Run, data: ImageSet, stack: list[RBM], tuned: Network) -> None:
    """Draw filters before and after fine-tuning, samples of the stack, and the accuracy of both networks."""
    from common.drawing import plots

    columns = min(10, stack[0].weight.shape[1])
    count = min(30, stack[0].weight.shape[1]) // columns * columns  # whole rows
    strongest = stack[0].weight.square().sum(0).topk(count).indices
    before, after = stack[0].weight[:, strongest], tuned.state_dict()["layers.0.weight"].T[:, strongest]
    rows = [f"{when} fine-tuning" for when in ("before", "after") for _ in range(count // columns)]
    filters = torch.cat([as_filters(before), as_filters(after)])
    run.figure("filters", plots.image_grid(filters, columns=columns, row_names=rows))
    start = fixed_binary(data.test.pixels[:10], "stochastic", run.device)
    run.figure("samples", draw_chain(stack, start))
    tuning = [row for row in run.history if "valid_accuracy" in row]
    run.figure("curves", plots.curves(tuning, {"validation accuracy": ["valid_accuracy", "valid_scratch_accuracy"]}))


def restore(folder: Path) -> tuple[Network, Config]:
    """Load the fine-tuned classifier of a run folder."""
    config = read_config(folder, Config)
    network = Network(config.hidden_sizes)
    load_weights(network, folder)
    return network.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Make a CD-1 step of the first RBM on a batch of random images for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    rbm = RBM(784, config.hidden_sizes[0]).to(device)
    learner = make_learner(rbm, config, bf16=config.run.precision == "bf16")
    return Workload(
        lambda: learner.step(rbm, binary(images, "stochastic"), config.pretraining_rate), items=config.batch_size
    )
