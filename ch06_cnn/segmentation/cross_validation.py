"""Cross-validation of a segmentation of membranes, beside two thresholds.

    python -m ch06_cnn.train cross_validation                                  # membranes, if they are in DATA_DIR
    python -m ch06_cnn.train cross_validation --data membranes --network fcn

Each fold is a block of consecutive slices. A network is trained on the other folds, and the threshold is chosen on
them; both are evaluated on the fold. Otsu's method needs no training. Without the membranes the program uses generated
cells.

The network of each fold has a run folder of its own below `folds/` in the run folder.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from torch import Tensor

from ch06_cnn.segmentation import baselines, segmentation
from ch06_cnn.segmentation.evaluation import segment
from ch06_cnn.segmentation.measures import class_ious, confusion_matrix, pixel_accuracy
from common.config import RunOptions, require, require_positive
from common.data.masks.loading import Slices, divide, load_slices
from common.data.masks.masked import MaskedImages, MaskSet
from common.data.source import data_dir
from common.progress import print_table
from common.run import Run
from common.run_folders.folder import finished_runs


@dataclass(frozen=True)
class Config:
    """Network and data of the cross-validation; all other settings are the defaults of segmentation."""

    data: Literal["auto", "cells", "membranes"] = "auto"
    """Data set: membranes in DATA_DIR/membranes, or generated cells. Auto takes the membranes if they are there."""
    network: Literal["unet", "fcn"] = "unet"
    """Network: U-Net, or a fully convolutional network (FCN)."""
    folds: int = 5
    """Number of folds."""
    dice: float = 0.0
    """Weight of the Dice loss, which is added to the cross-entropy."""
    epochs: int | None = None
    """Number of epochs of each network. Default: that of segmentation."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        if self.data == "auto":
            there = (data_dir() / "membranes").is_dir()
            object.__setattr__(self, "data", "membranes" if there else "cells")
        require_positive(self, "epochs")
        require(0 <= self.dice < float("inf"), "--dice must be a number of at least 0", self.dice)
        require(self.folds >= 2, "--folds must be at least 2", self.folds)


def measure(test: MaskedImages, guesses: Tensor) -> dict[str, float]:
    """Return the IoU of the membranes and the share of wrong pixels."""
    n = confusion_matrix(test.masks, guesses, 2)
    return {"membrane_iou": float(class_ious(n)[1].nan_to_num()), "pixel_error_rate": 1 - pixel_accuracy(n)}


def train_fold(config: Config, fold: int, data: MaskSet, folder: Path) -> Tensor:
    """Train a network without a fold, unless it has been trained before, and return its masks of the test slices."""
    options = replace(config.run, out=folder, resume="auto" if config.run.resume else False)
    own = segmentation.Config(
        data="cells" if config.data == "cells" else "membranes",
        network=config.network,
        fold=fold,
        folds=config.folds,
        dice=config.dice,
        run=options,
    )
    if config.epochs is not None:
        own = replace(own, epochs=config.epochs)
    if not finished_runs(folder, segmentation):
        segmentation.train(own, data)
    model, _, _ = segmentation.restore(finished_runs(folder, segmentation)[0])
    return segment(model, data.test.pixels, batch_size=own.batch_size)


def train(config: Config, slices: Slices | None = None) -> dict[str, float]:
    """Evaluate the network and the thresholds on every fold; return the measures of each fold and their means."""
    slices = slices or load_slices("cells" if config.data == "cells" else "membranes")
    divide(slices, 1, config.folds)  # raises an error now if there are too few slices
    with Run.open(__name__, config, slices.card) as run:
        results: dict[str, list[dict[str, float]]] = {config.network: [], "threshold": [], "otsu": []}
        shown = []
        for fold in range(1, config.folds + 1):
            data = divide(slices, fold, config.folds, config.run.limit)
            threshold = baselines.fit_threshold(data.train)
            guesses = {
                config.network: train_fold(config, fold, data, run.folder / "folds" / str(fold)),
                "threshold": threshold.segment(data.test.pixels),
                "otsu": baselines.otsu(data.test.pixels),
            }
            for name, masks in guesses.items():
                results[name].append(measure(data.test, masks))
            shown = shown or [data.test[:1], *(masks[:1] for masks in guesses.values())]
        metrics = {}
        for name, folds in results.items():
            prefix = "test" if name == config.network else name
            means = {key: fmean(each[key] for each in folds) for key in folds[0]}
            numbered = {f"fold_{n}_{key}": value for n, each in enumerate(folds, 1) for key, value in each.items()}
            metrics[prefix] = means | (numbered if prefix == "test" else {})
        if run.is_main:
            report(run, results, shown)
        return run.finish(**metrics)


def report(run: Run, results: dict[str, list[dict[str, float]]], shown: list) -> None:
    """Print the measures of each fold; draw them, and the first slice with the errors of every method."""
    from ch06_cnn.segmentation import visualise
    from common.drawing import plots

    count = len(next(iter(results.values())))
    names = [f"fold {number}" for number in range(1, count + 1)]
    for key, title in (("membrane_iou", "IoU of the membranes"), ("pixel_error_rate", "pixel error")):
        columns = {name: [each[key] for each in folds] for name, folds in results.items()}
        rows = [[name, *(values[row] for values in columns.values())] for row, name in enumerate(names)]
        rows.append(["mean", *(fmean(values) for values in columns.values())])
        print_table([title, *columns], rows)
        run.figure(key, plots.bar_groups(names, columns, title="", label=title))
    first, *guesses = shown
    run.figure("errors", visualise.draw_binary_errors(first, dict(zip(results, guesses, strict=True))))
