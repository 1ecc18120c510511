"""Object detection with SSD (Liu et al. 2016), or with a one-stage head in YOLO's style on the same backbone.

    python -m ch06_cnn.train detection
    python -m ch06_cnn.train detection --head yolo
    python -m ch06_cnn.train detection --data bccd                    # blood cells, from DATA_DIR/BCCD
    python -m ch06_cnn.train detection --data voc --folder FOLDER     # any folder in the layout of Pascal VOC

Dimensions: B batch, H, W height and width, M true boxes of an image at most, A anchors or cells.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite, pretrained
from ch06_cnn.detection.augment import augment
from ch06_cnn.detection.average_precision import Detections
from ch06_cnn.detection.evaluation import detect, inference_rate, measure, worst_errors
from ch06_cnn.detection.network import Detector, LiteBackbone, SmallBackbone
from ch06_cnn.detection.ssd import SSD
from ch06_cnn.detection.yolo import YOLO
from common import distributed
from common.averaging import WeightAverage
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.boxes.boxed import BoxedImages, BoxSet, join
from common.data.boxes.loading import load_boxes
from common.data.scenes.drawing import SIZE
from common.files import read_json, write_json
from common.run import Run, load_weights
from common.schedule import one_cycle_at

CLIP = 10.0
"""Maximum gradient norm; larger gradients are rescaled."""
BACKBONE_RATE = 0.1
"""Learning rate of a pre-trained backbone relative to that of the new layers."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the detector."""

    data: Literal["scenes", "bccd", "voc"] = "scenes"
    """Data set: generated scenes, blood cells in DATA_DIR/BCCD, or with --folder a folder in the layout of Pascal
    VOC."""
    folder: Path | None = None
    """Folder with Annotations, JPEGImages and ImageSets, for --data voc."""
    head: Literal["ssd", "yolo"] = "ssd"
    """Head: SSD with anchors, or one box, objectness and classes for each cell as in YOLO."""
    backbone: Literal["small", "efficientnet-lite0"] = default_by(
        "data", scenes="small", bccd="efficientnet-lite0", voc="efficientnet-lite0"
    )
    """Backbone: a small network trained from scratch, or EfficientNet-Lite0 trained on ImageNet. Default: small for
    scenes, efficientnet-lite0 for the others."""
    epochs: int = default_by("data", scenes=12, bccd=40, voc=40)
    """Number of epochs. Default: 12 for scenes, 40 for the others."""
    frozen: float = default_by("backbone", **{"small": 0.0, "efficientnet-lite0": 0.5})
    """Share of the training during which the backbone is frozen. Default: 0 for small, 0.5 for efficientnet-lite0."""
    batch_size: int = default_by("data", scenes=16, bccd=8, voc=8)
    """Batch size, over all processes. Default: 16 for scenes, 8 for the others."""
    learning_rate: float = default_by("data", scenes=4e-3, bccd=2e-3, voc=2e-3)
    """Peak learning rate of AdamW (one-cycle schedule). Default: 0.004 for scenes, 0.002 for the others."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    input_size: tuple[int, int] = default_by("data", scenes=(SIZE, SIZE), bccd=(240, 320), voc=(320, 320))
    """Height and width to which images are resized. Default: 64 64 for scenes, 240 320 for bccd, 320 320 for voc."""
    width: int = 16
    """Channels of the first layer of the small backbone; its maps have 2 and 4 times as many."""
    filters: int = default_by("backbone", **{"small": 32, "efficientnet-lite0": 96})
    """Channels of the feature pyramid. Default: 32 for small, 96 for efficientnet-lite0."""
    anchors: tuple[float, float, float, float] = default_by(
        "data", scenes=(8.0, 12.0, 17.0, 24.0), bccd=(18.0, 25.0, 48.0, 90.0), voc=(24.0, 48.0, 96.0, 192.0)
    )
    """Scales of SSD's anchors in pixels: two for the fine map, two for the coarse one. Default: 8 12 17 24 for scenes,
    18 25 48 90 for bccd, 24 48 96 192 for voc."""
    augment: bool = True
    """Augmentation: random flips, zooms and colours."""
    zoom: float = default_by("data", scenes=1.05, bccd=1.25, voc=1.5)
    """Largest factor by which the augmentation enlarges or reduces an image. Default: 1.05 for scenes, 1.25 for bccd,
    1.5 for voc."""
    flips: Literal["both", "horizontal"] = default_by("data", scenes="both", bccd="both", voc="horizontal")
    """Flips of the augmentation: horizontal and vertical, or horizontal only. Default: horizontal for voc, both for the
    others."""
    averaging: float = 0.99
    """Decay of the moving average of the weights, which is evaluated and saved; 0 uses the last weights."""
    train_on_valid: bool = False
    """Train on training and validation set together, for settings chosen before; without validation metrics."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "epochs", "batch_size", "learning_rate", "input_size", "width", "filters", "anchors")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(0 <= self.frozen <= 1, "--frozen must be between 0 and 1", self.frozen)
        require(0 <= self.averaging < 1, "--averaging must be at least 0 and below 1", self.averaging)
        require(1 <= self.zoom <= 4, "--zoom must be between 1 and 4", self.zoom)
        given = self.folder is not None
        require(given == (self.data == "voc"), "--folder FOLDER and --data voc belong together", self.data)
        coarse = max((SmallBackbone if self.backbone == "small" else LiteBackbone).strides)
        fits = all(side % coarse == 0 for side in self.input_size)
        require(fits, f"--input-size must be multiples of {coarse}", " ".join(map(str, self.input_size)))
        scenes = self.data != "scenes" or self.input_size == (SIZE, SIZE)
        require(scenes, f"--input-size must be {SIZE} {SIZE} for scenes", " ".join(map(str, self.input_size)))


def make_model(classes: int, config: Config, *, published: bool = False) -> Detector:
    """Build the detector; with `published`, EfficientNet-Lite0 gets its ImageNet weights.

    Raises DataUnavailable if these are not on this machine.
    """
    if config.backbone == "small":
        backbone = SmallBackbone(config.width)
    else:
        backbone = LiteBackbone(pretrained() if published else EfficientNetLite())
    size, strides = config.input_size, backbone.strides
    if config.head == "ssd":
        scales = [config.anchors[:2], config.anchors[2:]]
        head = SSD(config.filters, classes, size, strides, scales)
    else:
        head = YOLO(config.filters, classes, size, strides)
    model = Detector(backbone, config.filters, head)
    return model.to(memory_format=torch.channels_last)


def make_optimizer(model: Detector, config: Config) -> torch.optim.Optimizer:
    """Create a fused AdamW optimizer; the learning rate of a pre-trained backbone is a tenth of the others'."""
    rate = config.learning_rate
    below = rate if config.backbone == "small" else BACKBONE_RATE * rate
    groups = [
        {"params": list(model.backbone.parameters()), "lr": below, "peak": below},
        {"params": [*model.pyramid.parameters(), *model.head.parameters()], "lr": rate, "peak": rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def set_progress(model: Detector, optimizer: torch.optim.Optimizer, done: float, config: Config) -> None:
    """Set the learning rates for a share of the training, and freeze the backbone in its first part."""
    model.freeze(done < config.frozen)
    for group in optimizer.param_groups:
        group["lr"] = one_cycle_at(done, group["peak"], warm_up=0.1)


def augmented(pixels: Tensor, boxes: Tensor, labels: Tensor, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Flip, zoom and recolour a batch as the Config says."""
    return augment(pixels, boxes, labels, zoom=config.zoom, upside_down=config.flips == "both")


def train_step(
    parallel: nn.Module,
    head: SSD | YOLO,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    boxes: Tensor,
    labels: Tensor,
    *,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step on (B, 3, H, W) pixels, (B, M, 4) boxes and (B, M) labels; return the loss."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        outputs = parallel(pixels)
    loss = head.loss(outputs.float(), boxes, labels)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def train(config: Config, data: BoxSet | None = None) -> dict[str, float]:
    """Train the detector and return its test metrics."""
    data = data or load_boxes(config.data, size=config.input_size, folder=config.folder, limit=config.run.limit)
    names = data.class_names
    with Run.open(__name__, config, data.card) as run:
        model = make_model(len(names), config, published=True).to(run.device)
        images = join(data.train, data.valid) if config.train_on_valid else data.train
        batches = Batches(
            images.pixels,
            images.boxes,
            images.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        alone = distributed.world_size() == 1
        require(alone or config.frozen == 0, "--frozen must be 0 with several processes", config.frozen)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        average = WeightAverage(model, config.averaging)
        steps = config.epochs * len(batches)
        for epoch in run.epochs(config.epochs, len(batches), model=model, optimizer=optimizer, average=average):
            for step, (pixels, boxes, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_progress(model, optimizer, step / steps, config)
                if config.augment:
                    pixels, boxes, labels = augmented(pixels, boxes, labels, config)
                loss = train_step(parallel, model.head, optimizer, pixels, boxes, labels, bf16=run.bf16)
                average.update(model)
                run.step(loss, images=len(pixels))
            if config.train_on_valid:
                run.log()
            else:
                found = detect(average.model, data.valid.pixels, batch_size=config.batch_size, bf16=run.bf16)
                run.log(valid=measure(found, data.valid, names))
        found = detect(average.model, data.test.pixels, batch_size=config.batch_size, bf16=run.bf16)
        rate = inference_rate(average.model, data.test.pixels, batch_size=config.batch_size, bf16=run.bf16)
        run.save(average.model)
        if run.is_main:
            write_json(run.folder / "classes.json", list(names))
            report(run, data.test, names, found)
        measures = measure(found, data.test, names, by_class=True)
        return run.finish(test=measures, run={"inference_images_per_second": rate})


def report(run: Run, test: BoxedImages, names: tuple[str, ...], found: Detections) -> None:
    """Draw detections, the worst errors, precision over recall, and the training curves."""
    from ch06_cnn.detection import visualise
    from common.drawing import plots

    run.figure("detections", visualise.draw_detections(found, test, names))
    run.figure("precision_recall", visualise.draw_curves(found, test, names))
    errors = worst_errors(found, test)
    if errors:
        run.figure("errors", visualise.draw_errors(found, test, names, errors))
    panels = {"loss": ["train_loss"]}
    if "valid_map50" in run.history[-1]:
        panels["mean average precision"] = ["valid_map50", "valid_map75"]
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[Detector, tuple[str, ...], Config]:
    """Load a trained detector, the names of its classes and its Config from a run folder."""
    config = read_config(folder, Config)
    path = folder / "classes.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: has this run finished?")
    names = tuple(read_json(path))
    model = make_model(len(names), config)
    load_weights(model, folder)
    return model.eval(), names, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images with four boxes each, with augmentation, for the device benchmark."""
    height, width = config.input_size
    count = config.batch_size
    pixels = torch.randint(256, (count, 3, height, width), dtype=torch.uint8, device=device)
    corners = torch.rand(count, 4, 2, device=device) * torch.tensor([width, height], device=device) / 2
    boxes = torch.cat([corners, corners + torch.tensor([width, height], device=device) / 4], dim=2)
    labels = torch.randint(3, (count, 4), device=device)
    model = make_model(3, config).to(device)
    optimizer = make_optimizer(model, config)
    average = WeightAverage(model, config.averaging)
    set_progress(model, optimizer, config.frozen, config)  # with the backbone
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        batch = pixels, boxes, labels
        if config.augment:
            batch = augmented(*batch, config)
        loss = train_step(model, model.head, optimizer, *batch, bf16=bf16)
        average.update(model)
        return loss

    return Workload(step, items=count)
