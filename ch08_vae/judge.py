"""The chapter's own judge: a digit classifier that says what drawn digits look like.

A drawing has no label, so somebody has to read it. The judge is trained on the real training images for a few seconds,
and says of a heap of drawings which classes occur, and how sure it is of what it reads. A generator that has collapsed
leaves classes out; one that blurs leaves the judge unsure.

Dimensions: B batch, N drawings, P pixels (784), K classes (10).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.networks import CLASSES
from ch08_vae.preprocessing import flat
from ch08_vae.schedule import WARM_UP
from common.data.images.image_set import ImageSet, Split
from common.schedule import one_cycle, set_learning_rate

SHARE = 0.01
"""A class is covered where at least that share of the drawings is read as it."""

EPOCHS, STEPS = 6, 300
"""Passes over the training split; on a small set as many as make 300 steps."""

BATCH, LEARNING_RATE = 256, 4e-3


def make_judge() -> nn.Sequential:
    """784-256-10, with dropout: it has to be sure for more than one reason."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, CLASSES))


def fit_judge(data: ImageSet, device: torch.device) -> nn.Module:
    """Train the judge; the same one for every run on a device, and no run's dice are thrown for it.

    Each batch is moved by up to a pixel, so that the judge reads digits that do not stand exactly where real ones do.
    Under torchrun each process trains the whole judge, on all the images.
    """
    pixels, labels = data.train.pixels.to(device), data.train.labels.to(device)
    generator = torch.Generator().manual_seed(0)
    batches = math.ceil(len(pixels) / BATCH)
    steps = max(EPOCHS, STEPS // batches) * batches
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        torch.manual_seed(0)
        judge = make_judge().to(device)
        optimizer = torch.optim.Adam(judge.parameters(), LEARNING_RATE, fused=True)
        for start in range(0, steps, batches):
            order = torch.randperm(len(pixels), generator=generator).to(device)
            for step, index in enumerate(order.split(BATCH), start=start):
                set_learning_rate(optimizer, one_cycle(step, steps, LEARNING_RATE, warm_up=WARM_UP))
                offset = torch.randint(-1, 2, (2,), generator=generator).tolist()
                images = pixels[index].roll(offset, dims=(2, 3))
                F.cross_entropy(judge(flat(images)), labels[index]).backward()
                optimizer.step()
                optimizer.zero_grad()
    return judge.eval()


@torch.inference_mode()
def read(judge: nn.Module, drawings: Tensor) -> Tensor:
    """(N, P) drawings in [0, 1] -> (N, K) probabilities of the classes, on the CPU"""
    device = next(judge.parameters()).device
    return torch.cat([judge(part.to(device)).softmax(1).cpu() for part in drawings.split(2_000)])


def judge_drawings(judge: nn.Module, drawings: Tensor) -> dict[str, float]:
    """Count the classes that (N, P) drawings cover, and say how sure the judge is of them."""
    probability, guess = read(judge, drawings).max(1)
    share = guess.bincount(minlength=CLASSES) / len(guess)
    return {"classes": float((share >= SHARE).sum()), "confidence": float(probability.mean())}


def accuracy(judge: nn.Module, drawings: Tensor, labels: Tensor) -> float:
    """Share of (N, P) drawings that are read as their (N,) labels"""
    return float((read(judge, drawings).argmax(1) == labels.cpu()).float().mean())


def judge_real(judge: nn.Module, split: Split) -> dict[str, float]:
    """What the judge says of real images: how often it is right, and how sure."""
    pixels = flat(split.pixels)
    return {
        "accuracy": accuracy(judge, pixels, split.labels),
        "confidence": judge_drawings(judge, pixels)["confidence"],
    }
