"""Training step of an MLP with a hand-written backward pass, compared with autograd and JAX.

    python -m ch04_cuda.train by_hand
    python -m ch04_cuda.train by_hand --batch-size 128

Autograd records every operation and allocates memory for each gradient. A hand-written backward pass (derived in
chapter 2) records nothing and writes into buffers that are allocated once. Let a_l be the activations of layer l, one
column per sample, d_l the gradient of each sample's loss with respect to its pre-activations, and m the momentum. A
step is

    a_l     = max(0, W_l a_(l-1) + b_l)                     one addmm and one ReLU, into existing buffers
    d_L     = softmax(logits) - onehot(labels)
    d_(l-1) = (W_l^T d_l) * [a_(l-1) > 0]
    V_l     = m V_l + d_l a_(l-1)^T / B                     one addmm with beta = m
    W_l     = W_l - learning_rate V_l

Weight gradients are not stored: their product is added directly to the velocity. (Bias gradients are stored.) The step
is compared, interleaved in one process, with autograd from a per-sample DataLoader, autograd from tensors in memory,
and JAX's compiled scan if JAX is installed, all with the same network, update rule and batch size. A float32 matrix
product is timed as a reference for the arithmetic rate.

Dimensions: B batch, I inputs of a layer, O its outputs, P pixels (784), K classes (10).
"""

import itertools
import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch04_cuda import jax_epoch
from ch04_cuda.input_pipeline import Variant, from_loader, per_sample_dataset, resident, trainer
from ch04_cuda.matmul import multiply
from ch04_cuda.networks import PIXEL_SCALE, accuracy, mlp
from common import distributed
from common.benchmark import interleaved, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import has_native_bf16
from common.peers import ratios_of
from common.progress import print_table, say
from common.run import Run

MATRIX = 2_048
"""Rows and columns of the reference matrix product."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    batch_size: int = 512
    """Batch size in images."""
    learning_rate: float = 0.1
    """Learning rate of SGD with momentum."""
    momentum: float = 0.9
    """Momentum coefficient."""
    epochs: int = 5
    """Epochs of training with the hand-written step, before the comparison; its test accuracy is reported."""
    rounds: int = 7
    """Rounds of measurement after a warm-up; every variant is timed once in each."""
    seconds: float = 0.5
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "learning_rate", "epochs", "rounds", "seconds")
        require(0 <= self.momentum < 1, "--momentum must be at least 0 and below 1", self.momentum)


class Layer:
    """Linear layer with its velocities, and buffers for activations and gradients."""

    def __init__(self, linear: nn.Linear, batch_size: int, dtype: torch.dtype, *, scale: float = 1.0) -> None:
        device, self.scale = linear.weight.device, scale  # factor of the inputs
        self.weight = linear.weight.detach()  # W (O, I) and b (O,), in float32, shared with the module
        self.bias = linear.bias.detach()
        # Operands of the products: the same tensors in float32, copies in bfloat16.
        self.weight_used = self.weight.to(dtype)
        self.bias_used = self.bias.to(dtype)
        self.velocity = torch.zeros_like(self.weight_used)  # V
        self.bias_velocity = torch.zeros_like(self.bias)
        self.activations = torch.empty(linear.out_features, batch_size, dtype=dtype, device=device)  # a (O, B)
        self.delta = torch.empty_like(self.activations)  # d (O, B)

    def update(self, inputs: Tensor, delta: Tensor, learning_rate: float, momentum: float) -> None:
        """Add the gradient to the velocity and update the weights, from (I, B) inputs and (O, B) gradients `delta`."""
        share = 1 / inputs.shape[1]
        self.velocity.addmm_(delta, inputs.mT, beta=momentum, alpha=share * self.scale)  # V = m V + d a^T / B
        self.weight.add_(self.velocity, alpha=-learning_rate)
        self.bias_velocity.mul_(momentum).add_(delta.sum(1), alpha=share)
        self.bias.add_(self.bias_velocity, alpha=-learning_rate)
        self.refresh()

    def refresh(self) -> None:
        """Update the bfloat16 copies of weights and biases, if there are any."""
        if self.weight_used is not self.weight:
            self.weight_used.copy_(self.weight)
            self.bias_used.copy_(self.bias)


class HandWritten:
    """Train the linear layers of a ReLU network in place, without autograd."""

    def __init__(
        self, model: nn.Sequential, batch_size: int, learning_rate: float, momentum: float, *, bf16: bool = False
    ) -> None:
        dtype = torch.bfloat16 if bf16 else torch.float32
        linears = [module for module in model if isinstance(module, nn.Linear)]
        first, *others = linears
        # bfloat16 represents every byte exactly, and `alpha` scales the product, so the pixels are not scaled.
        self.layers = [Layer(first, batch_size, dtype, scale=PIXEL_SCALE)]
        self.layers += [Layer(linear, batch_size, dtype) for linear in others]
        self.learning_rate, self.momentum = learning_rate, momentum
        device, classes = first.weight.device, linears[-1].out_features
        self.pixels = torch.empty(batch_size, first.in_features, dtype=dtype, device=device)
        self.log_probabilities = torch.empty(classes, batch_size, device=device)
        self.minus_one = torch.full((1, batch_size), -1.0, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Return the velocities; the weights are stored with the network."""
        return {"velocities": [(layer.velocity, layer.bias_velocity) for layer in self.layers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the velocities of an interrupted run; the weights must be restored before."""
        for layer, (velocity, bias_velocity) in zip(self.layers, state["velocities"], strict=True):
            layer.velocity.copy_(velocity)
            layer.bias_velocity.copy_(bias_velocity)
            layer.refresh()

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take one step on (B, 1, 28, 28) uint8 images and (B,) labels; return the loss as a tensor on the device.

        B must not exceed the batch size of the buffers.
        """
        count, layers = len(images), self.layers
        a = self.pixels[:count].copy_(images.flatten(1)).mT
        inputs = []
        for layer in layers:
            inputs.append(a)
            out = layer.activations[:, :count]
            a = torch.addmm(layer.bias_used[:, None], layer.weight_used, a, alpha=layer.scale, out=out)
            if layer is not layers[-1]:
                a.relu_()

        log_p = torch.log_softmax(a, 0, dtype=torch.float32, out=self.log_probabilities[:, :count])
        loss = -log_p.gather(0, labels[None]).mean()
        p = log_p.exp_()
        d = layers[-1].delta[:, :count].copy_(p.scatter_add_(0, labels[None], self.minus_one[:, :count]))
        for number in reversed(range(len(layers))):
            layer, a = layers[number], inputs[number]
            d_below = None
            if number > 0:  # before the weights change
                d_below = torch.mm(layer.weight_used.mT, d, out=layers[number - 1].delta[:, :count])
                # (W^T d) * [a > 0], with autograd's kernel for ReLU
                torch.ops.aten.threshold_backward.grad_input(d_below, a, 0, grad_input=d_below)
            layer.update(a, d, self.learning_rate, self.momentum)
            if d_below is not None:
                d = d_below
        return loss


def operations(model: nn.Sequential) -> int:
    """Count the floating-point operations of a step per image, two per multiplication.

    Each layer has three products, except that the gradient with respect to the pixels is not computed.
    """
    weights = [module.weight.numel() for module in model if isinstance(module, nn.Linear)]
    return 2 * (3 * sum(weights) - weights[0])


def by_hand(config: Config, data: ImageSet, device: torch.device, *, bf16: bool) -> Variant:
    """Make a function that takes a hand-written step of a new network and returns the number of images."""
    hand = HandWritten(mlp().to(device), config.batch_size, config.learning_rate, config.momentum, bf16=bf16)
    batches = Batches(
        data.train.pixels,
        data.train.labels,
        batch_size=config.batch_size,
        device=device,
        generator=torch.Generator(),
    )
    stream = itertools.chain.from_iterable(itertools.repeat(batches))

    def variant() -> float:
        images, labels = next(stream)
        hand.step(images, labels)
        return len(images)

    return variant


def learn(run: Run, data: ImageSet) -> dict[str, float]:
    """Train and save a network with the hand-written step; return its test accuracy."""
    config, model = run.config, mlp().to(run.device)
    hand = HandWritten(model, config.batch_size, config.learning_rate, config.momentum, bf16=run.bf16)
    batches = Batches(
        data.train.pixels,
        data.train.labels,
        batch_size=config.batch_size,
        device=run.device,
        generator=run.generator,
    )
    for _ in run.epochs(config.epochs, len(batches), model=model, velocities=hand):
        for images, labels in batches:
            run.step(hand.step(images, labels), images=len(images))
        run.log(valid={"accuracy": accuracy(model, data.valid.pixels, data.valid.labels)})
    run.save(model)
    return {"accuracy": accuracy(model, data.test.pixels, data.test.labels)}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train with the hand-written step, then time the variants interleaved; return accuracy, images/s and ratios."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, packages=("jax",)) as run:
        require(distributed.world_size() == 1, "by_hand compares within one process", distributed.world_size())
        device = run.device
        test = learn(run, data)
        variants = {
            "dataloader": trainer(
                from_loader(per_sample_dataset(data.train), config.batch_size, device), device, fused=False
            ),
            "autograd": trainer(resident(data.train, config.batch_size, device), device),
            "hand": by_hand(config, data, device, bf16=False),
            "matrix_product": multiply(MATRIX, "fp32", torch.float32, device),
        }
        if has_native_bf16(device):
            variants["autograd_bf16"] = trainer(resident(data.train, config.batch_size, device), device, bf16=True)
            variants["hand_bf16"] = by_hand(config, data, device, bf16=True)
        else:
            say("skipped", f"bfloat16: {device} has no native bfloat16 arithmetic")
        if jax_epoch.is_installed():
            variants["jax"] = jax_epoch.Training(data.train, config, torch.get_num_threads())
        else:
            say("skipped", "JAX is not installed; to install it: python -m pip install '.[jax]'")
        rates = interleaved(variants, config.rounds, lambda variant: rate(variant, config.seconds, device))
        return run.finish(test=test, run=report(run, rates))


def report(run: Run, rates: dict[str, list[float]]) -> dict[str, float]:
    """Print and draw the throughput; return it with ratios."""
    from common.drawing import plots

    median = {name: statistics.median(values) for name, values in rates.items()}
    product = median.pop("matrix_product")
    gflops = operations(mlp()) / 1e9
    titles = {
        "dataloader": "DataLoader and autograd",
        "autograd": "in memory, autograd",
        "hand": "by hand",
        "autograd_bf16": "in memory, autograd, bf16",
        "hand_bf16": "by hand, bf16",
        "jax": "JAX, one compiled scan",
    }
    rows = []
    for name, value in median.items():
        ratio = median_ratio(rates[name], rates["dataloader"])
        rows.append((titles[name], f"{value:,.0f}", f"{value * gflops:,.0f}", f"{ratio:.2f}"))
    title = f"784-300-100-10, batches of {run.config.batch_size}; fp32 matrix product {product:,.0f} GFLOP/s"
    print_table(["variant", "images/s", "GFLOP/s", "ratio"], rows, title=title)
    names = [titles[name] for name in median]
    title = f"784-300-100-10, batches of {run.config.batch_size}"
    run.figure("throughput", plots.bars(names, list(median.values()), title=title, label="images/s"))
    found = {f"{name}_images_per_second": value for name, value in median.items()}
    found |= {"matrix_product_gflops": product, "hand_gflops": median["hand"] * gflops}
    found["hand_rate"] = gflops * median_ratio(rates["hand"], rates["matrix_product"])
    for name in ("hand", "hand_bf16"):
        for baseline in ("dataloader", "autograd", "jax"):
            if name in rates and baseline in rates:
                found |= ratios_of(f"{name}_{baseline}", rates[name], rates[baseline], "images_per_second")
    return found
