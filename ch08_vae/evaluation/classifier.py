"""A digit classifier for evaluating samples: 784-256-10, trained on the real training images.

Generated images have no labels. The classifier predicts their classes, and its 256 hidden units are the feature space
in which sample_quality.py compares generated images with real ones.

Dimensions: B batch, N images, P pixels (784), F features (256), K classes (10).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.preprocessing import CLASSES, flat
from common.data.images.image_set import ImageSet
from common.progress import track
from common.schedule import one_cycle, set_learning_rate

EPOCHS, STEPS = 6, 300
"""Number of epochs; more on small data sets, for about 300 steps."""

BATCH, LEARNING_RATE = 256, 4e-3


def make_classifier() -> nn.Sequential:
    """Create the classifier: linear, ReLU, dropout, linear, 784-256-10."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, CLASSES))


def fit_classifier(data: ImageSet, device: torch.device) -> nn.Sequential:
    """Train the classifier with fixed random seeds, so that all runs on a device use the same one.

    The random generators of the run keep their states. Each batch is shifted by up to one pixel, because generated
    digits are not centred as exactly as real ones. Under torchrun each process trains the classifier on all images.
    """
    pixels, labels = data.train.pixels.to(device), data.train.labels.to(device)
    generator = torch.Generator().manual_seed(0)
    batches = math.ceil(len(pixels) / BATCH)
    steps = max(EPOCHS, STEPS // batches) * batches
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        torch.manual_seed(0)
        classifier = make_classifier().to(device)
        optimizer = torch.optim.Adam(classifier.parameters(), LEARNING_RATE, fused=True)
        for start in track(range(0, steps, batches), "epochs of the classifier"):
            order = torch.randperm(len(pixels), generator=generator).to(device)
            for step, index in enumerate(order.split(BATCH), start=start):
                set_learning_rate(optimizer, one_cycle(step, steps, LEARNING_RATE, warm_up=0.1))
                offset = torch.randint(-1, 2, (2,), generator=generator).tolist()
                images = pixels[index].roll(offset, dims=(2, 3))
                F.cross_entropy(classifier(flat(images)), labels[index]).backward()
                optimizer.step()
                optimizer.zero_grad()
    return classifier.eval()


def in_parts(network: nn.Module, images: Tensor) -> Tensor:
    """(N, P) images -> (N, ...) outputs of the network on the CPU, computed for 2,000 images at a time"""
    device = next(network.parameters()).device
    return torch.cat([network(part.to(device)).cpu() for part in images.split(2_000)])


@torch.inference_mode()
def probabilities(classifier: nn.Sequential, images: Tensor) -> Tensor:
    """(N, P) images in [0, 1] -> (N, K) class probabilities, on the CPU"""
    return in_parts(classifier, images).softmax(1)


@torch.inference_mode()
def features(classifier: nn.Sequential, images: Tensor) -> Tensor:
    """(N, P) images in [0, 1] -> (N, F) hidden units after the ReLU, on the CPU"""
    return in_parts(classifier[:2], images)


def accuracy(classifier: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    """Return the share of (N, P) images whose predicted class is their (N,) label."""
    return float((probabilities(classifier, images).argmax(1) == labels.cpu()).float().mean())
