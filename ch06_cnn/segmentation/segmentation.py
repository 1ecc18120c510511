"""Semantic segmentation with a fully convolutional network (Long et al. 2015) or U-Net (Ronneberger et al. 2015).

    python -m ch06_cnn.train segmentation
    python -m ch06_cnn.train segmentation --network unet
    python -m ch06_cnn.train segmentation --data membranes --fold 2     # electron microscopy, from DATA_DIR/membranes
    python -m ch06_cnn.train segmentation --data voc --folder FOLDER    # any folder in the layout of Pascal VOC

Dimensions: B batch, N images, H, W height and width, K classes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite, pretrained
from ch06_cnn.segmentation.augment import Augmentation, augment
from ch06_cnn.segmentation.evaluation import inference_rate, segment
from ch06_cnn.segmentation.fcn import FCN, LiteBackbone, SmallBackbone
from ch06_cnn.segmentation.losses import cross_entropy, dice_loss
from ch06_cnn.segmentation.measures import confusion_matrix, measure
from ch06_cnn.segmentation.transposed import Kind
from ch06_cnn.segmentation.unet import UNet
from common import distributed
from common.averaging import WeightAverage
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.masks.loading import MaskSetName, load_masks
from common.data.masks.masked import MaskedImages, MaskSet
from common.files import read_json, write_json
from common.run import Run, load_weights
from common.schedule import one_cycle_at

CLIP = 10.0
"""Maximum gradient norm; larger gradients are rescaled."""
BACKBONE_RATE = 0.1
"""Learning rate of a pre-trained backbone relative to that of the new layers."""
SIZES = {"scenes": (64, 64), "cells": (128, 128), "membranes": (512, 512)}
"""Height and width of the images of the data sets that are not resized."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the segmentation."""

    data: MaskSetName = "scenes"
    """Data set: generated scenes, generated cells, membranes in DATA_DIR/membranes, or with --folder a folder in the
    layout of Pascal VOC."""
    folder: Path | None = None
    """Folder with JPEGImages, SegmentationClass and ImageSets, for --data voc."""
    fold: int = 1
    """Test fold of cells and membranes, counted from 1."""
    folds: int = 5
    """Number of folds of cells and membranes."""
    network: Literal["fcn", "unet"] = default_by("data", scenes="fcn", cells="unet", membranes="unet", voc="fcn")
    """Network: a fully convolutional network (FCN), or U-Net. Default: fcn for scenes and voc, unet for the others."""
    width: int = 16
    """Channels of the first level of U-Net or of the small backbone; each lower level has twice as many."""
    depth: int = default_by("data", scenes=3, cells=3, membranes=4, voc=4)
    """Number of poolings of U-Net. Default: 3 for scenes and cells, 4 for the others."""
    backbone: Literal["small", "efficientnet-lite0"] = default_by(
        "data", scenes="small", cells="small", membranes="small", voc="efficientnet-lite0"
    )
    """Backbone of the FCN: a small network trained from scratch, or EfficientNet-Lite0 trained on ImageNet. Default:
    efficientnet-lite0 for voc, else small."""
    skips: int = 2
    """Number of skip connections of the FCN, 0 to 2."""
    upsampling: Kind = "torch"
    """Transposed convolution: torch's, or the one by hand in transposed.py."""
    dice: float = default_by("data", scenes=1.0, cells=0.0, membranes=0.0, voc=0.0)
    """Weight of the Dice loss, which is added to the cross-entropy. Default: 1 for scenes, else 0."""
    epochs: int = default_by("data", scenes=default_by("network", fcn=12, unet=8), cells=20, membranes=60, voc=40)
    """Number of epochs. Default: 12 (U-Net: 8) for scenes, 20 for cells, 60 for membranes, 40 for voc."""
    batch_size: int = default_by("data", scenes=default_by("network", fcn=16, unet=8), cells=4, membranes=4, voc=8)
    """Batch size, over all processes. Default: 16 (U-Net: 8) for scenes, 8 for voc, 4 for the others."""
    learning_rate: float = default_by(
        "data", scenes=default_by("network", fcn=4e-3, unet=2e-3), cells=4e-3, membranes=4e-3, voc=2e-3
    )
    """Peak learning rate of AdamW (one-cycle schedule). Default: 0.004; 0.002 for voc, and for scenes by U-Net."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    input_size: tuple[int, int] = default_by("data", **SIZES, voc=(256, 256))
    """Height and width to which the images of a folder are resized. Default: 256 256; the other data sets keep their
    size."""
    augment: bool = True
    """Augmentation: random crops, flips, rotations, zooms, elastic deformations and colours."""
    crop: int = default_by("data", scenes=0, cells=0, membranes=256, voc=0)
    """Size of the square crops of the augmentation in pixels; 0 keeps whole images. Default: 256 for membranes, else
    0."""
    flips: Literal["all", "horizontal"] = default_by(
        "data", scenes="all", cells="all", membranes="all", voc="horizontal"
    )
    """Flips of the augmentation: all flips and rotations by 90 degrees, or horizontal flips only. Default: horizontal
    for voc, else all."""
    zoom: float = default_by("data", scenes=1.0, cells=1.0, membranes=1.0, voc=1.5)
    """Largest factor by which the augmentation enlarges or reduces an image. Default: 1.5 for voc, else 1."""
    elastic: float = default_by("data", scenes=0.0, cells=0.0, membranes=10.0, voc=0.0)
    """Standard deviation of the elastic deformations of the augmentation in pixels. Default: 10 for membranes, else
    0."""
    averaging: float = 0.99
    """Decay of the moving average of the weights, which is evaluated and saved; 0 uses the last weights."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "width", "depth", "epochs", "batch_size", "learning_rate", "input_size", "folds")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(0 <= self.dice < float("inf"), "--dice must be a number of at least 0", self.dice)
        require(0 <= self.averaging < 1, "--averaging must be at least 0 and below 1", self.averaging)
        require(1 <= self.zoom <= 4, "--zoom must be between 1 and 4", self.zoom)
        require(0 <= self.elastic <= 100, "--elastic must be between 0 and 100 pixels", self.elastic)
        require(self.skips in (0, 1, 2), "--skips must be 0, 1 or 2", self.skips)
        require(self.depth <= 6, "--depth must be at most 6", self.depth)
        require(self.folds >= 2, "--folds must be at least 2", self.folds)
        require(1 <= self.fold <= self.folds, f"--fold must be between 1 and {self.folds}", self.fold)
        given = self.folder is not None
        require(given == (self.data == "voc"), "--folder FOLDER and --data voc belong together", self.data)
        size, own = " ".join(map(str, self.input_size)), SIZES.get(self.data, self.input_size)
        require(self.input_size == own, f"--input-size must be {own[0]} {own[1]} for {self.data}", size)
        stride = self.stride
        require(
            all(side % stride == 0 for side in self.input_size), f"--input-size must be multiples of {stride}", size
        )
        fits = self.crop % stride == 0 and 0 <= self.crop <= min(self.input_size)
        require(fits, f"--crop must be a multiple of {stride}, at most {min(self.input_size)}", self.crop)

    @property
    def stride(self) -> int:
        """Pixels per position of the network's coarsest map."""
        if self.network == "unet":
            return 1 << self.depth
        return (SmallBackbone if self.backbone == "small" else LiteBackbone).strides[-1]

    @property
    def augmentation(self) -> Augmentation:
        """What the augmentation changes."""
        return Augmentation(crop=self.crop, rotations=self.flips == "all", zoom=self.zoom, elastic=self.elastic)


def make_model(classes: int, config: Config, *, published: bool = False) -> UNet | FCN:
    """Build the network; with `published`, EfficientNet-Lite0 gets its ImageNet weights.

    Raises DataUnavailable if these are not on this machine.
    """
    if config.network == "unet":
        model = UNet(classes, width=config.width, depth=config.depth, kind=config.upsampling)
    else:
        if config.backbone == "small":
            backbone = SmallBackbone(config.width)
        else:
            backbone = LiteBackbone(pretrained() if published else EfficientNetLite())
        model = FCN(backbone, classes, skips=config.skips, kind=config.upsampling)
    return model.to(memory_format=torch.channels_last)


def make_optimizer(model: UNet | FCN, config: Config) -> torch.optim.Optimizer:
    """Create a fused AdamW optimizer; the learning rate of a pre-trained backbone is a tenth of the others'."""
    rate = config.learning_rate
    slow = isinstance(model, FCN) and isinstance(model.backbone, LiteBackbone)
    below = [p for name, p in model.named_parameters() if slow and name.startswith("backbone.")]
    known = set(map(id, below))
    above = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": above, "peak": rate}, {"params": below, "peak": BACKBONE_RATE * rate}]
    return torch.optim.AdamW([g for g in groups if g["params"]], rate, weight_decay=config.weight_decay, fused=True)


def set_progress(optimizer: torch.optim.Optimizer, done: float) -> None:
    """Set the learning rates for a share of the training, 0 ... 1."""
    for group in optimizer.param_groups:
        group["lr"] = one_cycle_at(done, group["peak"], warm_up=0.1)


def train_step(
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    masks: Tensor,
    *,
    dice: float = 0.0,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step on (B, 3, H, W) pixels and (B, H, W) masks; return the loss."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = parallel(pixels)
    loss = cross_entropy(logits.float(), masks)
    if dice:
        loss = loss + dice * dice_loss(logits.float(), masks)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def evaluate(
    model: nn.Module, split: MaskedImages, names: tuple[str, ...], config: Config, *, bf16: bool
) -> dict[str, float]:
    """Return the measures of the predicted masks of a split."""
    guesses = segment(model, split.pixels, batch_size=config.batch_size, bf16=bf16)
    return measure(confusion_matrix(split.masks, guesses, len(names)), names)


def train(config: Config, data: MaskSet | None = None) -> dict[str, float]:
    """Train the network and return its test metrics."""
    data = data or load_masks(
        config.data,
        size=config.input_size,
        folder=config.folder,
        fold=config.fold,
        folds=config.folds,
        limit=config.run.limit,
    )
    names = data.class_names
    with Run.open(__name__, config, data.card) as run:
        model = make_model(len(names), config, published=True).to(run.device)
        batches = Batches(
            data.train.pixels,
            data.train.masks,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        average = WeightAverage(model, config.averaging)
        steps = config.epochs * len(batches)
        for epoch in run.epochs(config.epochs, len(batches), model=model, optimizer=optimizer, average=average):
            for step, (pixels, masks) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_progress(optimizer, step / steps)
                if config.augment:
                    pixels, masks = augment(pixels, masks, config.augmentation)
                loss = train_step(parallel, optimizer, pixels, masks, dice=config.dice, bf16=run.bf16)
                average.update(model)
                run.step(loss, images=len(pixels))
            if len(data.valid):
                run.log(valid=evaluate(average.model, data.valid, names, config, bf16=run.bf16))
            else:
                run.log()
        guesses = segment(average.model, data.test.pixels, batch_size=config.batch_size, bf16=run.bf16)
        n = confusion_matrix(data.test.masks, guesses, len(names))
        rate = inference_rate(average.model, data.test.pixels, batch_size=config.batch_size, bf16=run.bf16)
        run.save(average.model)
        if run.is_main:
            write_json(run.folder / "classes.json", list(names))
            report(run, data.test, names, guesses, n)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        figures = {"parameters": parameters, "inference_images_per_second": rate}
        return run.finish(test=measure(n, names, by_class=True), run=figures)


def report(run: Run, test: MaskedImages, names: tuple[str, ...], guesses: Tensor, n: Tensor) -> None:
    """Draw predicted masks, the worst errors, the confusion matrix, and the training curves."""
    from ch06_cnn.segmentation import visualise

    visualise.report(run, test, names, guesses, n)


def restore(folder: Path) -> tuple[UNet | FCN, tuple[str, ...], Config]:
    """Load a trained network, the names of its classes and its Config from a run folder."""
    config = read_config(folder, Config)
    path = folder / "classes.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: has this run finished?")
    names = tuple(read_json(path))
    model = make_model(len(names), config)
    load_weights(model, folder)
    return model.eval(), names, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images with augmentation, for the device benchmark."""
    count, size = config.batch_size, config.input_size
    pixels = torch.randint(256, (count, 3, *size), dtype=torch.uint8, device=device)
    masks = torch.randint(3, (count, *size), dtype=torch.uint8, device=device)
    model = make_model(3, config).to(device)
    optimizer = make_optimizer(model, config)
    average = WeightAverage(model, config.averaging)
    set_progress(optimizer, 0.5)
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        batch = augment(pixels, masks, config.augmentation) if config.augment else (pixels, masks)
        loss = train_step(model, optimizer, *batch, dice=config.dice, bf16=bf16)
        average.update(model)
        return loss

    return Workload(step, items=count)
