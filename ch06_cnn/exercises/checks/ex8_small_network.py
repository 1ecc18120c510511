"""Check of exercise 8: 95 % on digits with 1,000 parameters. The network is trained here."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.images.loading import load_images
from common.exercises.exercise import MeasuredExercise, Verdict

MOST_PARAMETERS, NEEDED = 1_000, 0.95
TRAINED, EPOCHS, BATCH_SIZE, LEARNING_RATE = 1_000, 30, 32, 0.01
SEEDS = range(3)
"""Seeds of the trainings; the accuracy is their mean, because one training may be lucky."""

TOO_MANY = "count the weights and biases of every layer; the output size of a layer is the input size of the next"
NOT_LOGITS = "the network must return one logit per class and image"
PROBABILITIES = "the loss applies the softmax already: return logits, without a softmax at the end"
TOO_WEAK = "a convolution uses its few weights at every position; give it several channels and a nonlinearity"


def digits() -> tuple[Tensor, Tensor]:
    """Images between 0 and 1 and labels; the test split is not used, because a leaderboard would adapt to it."""
    data = load_images("digits")
    pixels = torch.cat([data.train.pixels, data.valid.pixels]).float() / 255
    return pixels, torch.cat([data.train.labels, data.valid.labels]).long()


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train a network with Adam and a learning rate that falls linearly to 0."""
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    steps = EPOCHS * -(-len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    for _ in range(EPOCHS):
        for index in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimizer.step()
            schedule.step()


def accuracy_after_training(network: Callable[[], nn.Module], images: Tensor, labels: Tensor, seed: int) -> float:
    """Train a new network, and compute its accuracy on the images that it was not trained on."""
    torch.manual_seed(seed)
    model = network()
    train(model, images[:TRAINED], labels[:TRAINED])
    model.eval()
    with torch.inference_mode():
        return (model(images[TRAINED:]).argmax(1) == labels[TRAINED:]).double().mean().item()


def measure(network: Callable[[], Any]) -> Verdict:
    """Count the parameters, and compute the mean accuracy of several trainings."""
    model = network()
    if not isinstance(model, nn.Module):
        return Verdict("wrong", f"your function returns {model!r}, expected an nn.Module")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters > MOST_PARAMETERS:
        message = f"your network has {parameters:,} parameters, at most {MOST_PARAMETERS:,} are allowed"
        return Verdict("wrong", message, TOO_MANY)
    images, labels = digits()
    logits = model(images[:20])
    if logits.shape != (20, 10):
        return Verdict(
            "wrong", f"for 20 images your network returns {tuple(logits.shape)}, expected (20, 10)", NOT_LOGITS
        )
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(20), atol=1e-4):
        return Verdict("wrong", "for each image the results of your network add up to 1", PROBABILITIES)
    accuracy = sum(accuracy_after_training(network, images, labels, seed) for seed in SEEDS) / len(SEEDS)
    result = f"mean accuracy {accuracy:.1%} with {parameters:,} parameters"
    if accuracy < NEEDED:
        return Verdict("wrong", f"{result}, {NEEDED:.0%} are needed", TOO_WEAK)
    return Verdict("right", result, scores={"parameters": parameters, "accuracy": accuracy})


def fewest_parameters(scores: Mapping[str, float]) -> tuple[float, float]:
    """Sort key: fewer parameters first, then the higher accuracy."""
    return scores["parameters"], -scores["accuracy"]


SMALL_NETWORK = MeasuredExercise(
    file="ex8_small_network",
    function="network",
    measure=measure,
    order=fewest_parameters,
    hint=(
        "Reduce the image first: `nn.AvgPool2d(2)` has no parameters. A convolution from C to O channels with 3x3 "
        "kernels has 9 C O + O parameters, wherever it is used; the last linear layer has 11 for each class and more "
        "for each input."
    ),
    mistakes={
        TOO_MANY: lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        NOT_LOGITS: lambda: nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 10, 3)),
        PROBABILITIES: lambda: nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10), nn.Softmax(1)),
        TOO_WEAK: lambda: nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 10)),
    },
)
