"""A training run and its folder: configuration, metrics, results, and checkpoints to resume from.

runs/<chapter>/<program>/<time>-s<seed>/ holds config.json, metrics.jsonl (one line per epoch), checkpoint.pt,
summary.json, model.safetensors and the figures. All files are written atomically, except metrics.jsonl, which grows.
"""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common import device as devices
from common import distributed
from common.checkpoint import Progress, Stateful, load_checkpoint, save_checkpoint
from common.config import RunOptions, chapter_and_name, command_line, to_json
from common.data.source import DataCard
from common.files import atomic_path, explain_full_disk, write_json, write_text
from common.progress import EpochBar, format_metrics, say
from common.run_folders.events import EventWriter, require_tensorboard
from common.run_folders.folder import open_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECKPOINT_SECONDS = 1.0
"""Minimum time between checkpoints; the first and the last epoch always save one."""

LOSS_CHECK_SECONDS = 0.1
"""Time between transfers of the losses from the device, which are then displayed and checked."""


class Run:
    """One training run and its folder; see `Run.open`."""

    def __init__(self, module: str, config: Any, card: DataCard | None, arithmetic: str | None) -> None:
        options: RunOptions = config.run
        self.chapter, self.program = chapter_and_name(module)
        self.config, self.card = config, card
        if options.tensorboard:
            require_tensorboard()
        self.command = command_line(module, config)
        self.device = devices.resolve_device(options.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # streams, graphs and Triton's kernels use the current device
        distributed.start(self.device)
        self.is_main = distributed.is_main()
        self._threads_before = torch.get_num_threads()
        devices.set_threads(options.threads or 0)
        self.precision = devices.resolve_precision(options.precision, self.device)
        self.bf16 = self.precision == "bf16"
        native = " (native)" if self.bf16 and devices.has_native_bf16(self.device) else ""
        self.described_device = f"{devices.describe_device(self.device)}, {arithmetic or self.precision + native}"
        devices.seed_everything(options.seed + distributed.rank())  # dropout differs between processes
        self.generator = torch.Generator().manual_seed(options.seed)  # the order of the samples does not
        self.packages: tuple[str, ...] = ()
        """Packages whose versions summary.json contains, in addition to those of `device.versions`."""
        self.history: list[dict[str, float]] = []
        self.train_seconds, self._items, self._unit = 0.0, 0, "steps"
        self._earlier_seconds, self._epoch = 0.0, 0
        self._bar: EpochBar | None = None
        self._events: EventWriter | None = None
        self._opened = time.perf_counter()
        self._lock = open_folder(options, self._record()) if self.is_main else None
        self.folder = distributed.from_main(self._lock.folder if self._lock else Path())

    @classmethod
    def open(
        cls,
        module: str,
        config: Any,
        card: DataCard | None = None,
        *,
        arithmetic: str | None = None,
        packages: tuple[str, ...] = (),
    ) -> "Run":
        """Start the run of a program (its `__name__`), or resume an earlier one if the Config says so.

        `arithmetic` names the precision of a program that ignores --precision, as `fp64`. `packages` names the software
        that the program is compared with; summary.json contains its versions.

        Seeds all generators, prints data and device, and writes config.json. Raises ValueError if the device is absent,
        no run can be resumed, or another process uses the folder; OSError if the folder cannot be written.
        """
        run = cls(module, config, card, arithmetic)
        run.packages = packages
        if card is not None:
            say("data", f"{card.name}: {card.description}")
        processes = f", process 1 of {distributed.world_size()}" if distributed.world_size() > 1 else ""
        say("device", run.described_device + processes)
        return run

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        torch.set_num_threads(self._threads_before)
        if self._bar is not None:
            self._bar.stop()
        if self._events is not None:
            self._events.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):  # Ctrl-C, or SIGTERM (see cli.py)
            kept = (self.folder / "checkpoint.pt").exists()
            command = self._resume_command()
            say("stopped", f"the last checkpoint is kept; resume with: {command}" if kept else "nothing was saved yet")
        if self._lock is not None:
            self._lock.release(forget=(self.folder / "summary.json").exists())

    def _resume_command(self) -> str:
        command = self.command if self.config.run.resume else f"{self.command} --resume"
        size, local = distributed.world_size(), distributed.local_world_size()
        if size == 1:
            return command
        launcher = f"torchrun --standalone --nproc-per-node {size}" if size == local else "(on each node) torchrun"
        return launcher + command.removeprefix("python")

    # The folder.

    def _record(self) -> dict[str, Any]:
        data = self.card and self.card.record()
        return {"chapter": self.chapter, "program": self.program, "config": to_json(self.config), "data": data}

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path for a file of the run; the file is renamed into the folder if the block succeeds."""
        with atomic_path(self.folder / name) as temporary:
            yield temporary

    def figure(self, name: str, figure: "Figure") -> None:
        """Save a matplotlib figure as `<name>.png`."""
        from common.drawing import plots

        with self.writing(f"{name}.png") as path:
            plots.save(figure, path)

    def save(self, model: nn.Module) -> None:
        """Save the weights as model.safetensors."""
        from safetensors import SafetensorError
        from safetensors.torch import save_model

        if self.is_main:
            with self.writing("model.safetensors") as path:
                try:
                    save_model(model, str(path))
                except SafetensorError as error:  # its message: `No space left on device (os error 28)`
                    number = re.search(r"\(os error (\d+)\)", str(error))
                    message = f"cannot write {self.folder / 'model.safetensors'}: {error}"
                    raise (OSError(int(number[1]), message) if number else OSError(message)) from error

    # The loop.

    def epochs(
        self, epochs: int | None, steps: int, *, budget: float | None = None, **parts: Stateful
    ) -> Iterator[int]:
        """Yield the epochs from 1 (or from where a resumed run stopped), each of `steps` steps; None: until `end`.

        `budget` is the number of training seconds after which the program will call `end`; the bar shows the time left.

        The named parts (model, optimizer, schedule ...) are loaded before and saved after, together with every random
        state, so that a resumed run ends with the same weights as an uninterrupted one.
        """
        first = self._restore(parts) + 1
        if first > 1:
            say("resumed", f"{self.folder} after epoch {first - 1}")
        if self.config.run.tensorboard and self.is_main:
            self._events = EventWriter(self.folder, self.history)
        saved = time.perf_counter()
        self._bar = EpochBar(epochs, steps, budget)
        for epoch in count(first) if epochs is None else range(first, epochs + 1):
            self._start_epoch(epoch, steps, self._bar)
            yield epoch
            assert self.history and self.history[-1]["epoch"] == epoch, "each epoch ends with run.log(...)"
            last = self._ended or epoch == epochs
            if time.perf_counter() - saved > CHECKPOINT_SECONDS or epoch == first or last:
                self._checkpoint(parts)
                saved = time.perf_counter()
            if last:
                break
        self._bar.stop()

    def _start_epoch(self, epoch: int, steps: int, bar: EpochBar) -> None:
        if distributed.world_size() > 1:  # a checkpoint holds the generators of one process only
            torch.manual_seed(hash((self.config.run.seed, epoch, distributed.rank())))
        self._epoch, self._steps, self._step, self._ended = epoch, steps, 0, False
        self._epoch_items, self._loss_sum = 0, 0.0
        self._pending: list[Tensor] = []
        bar.start_epoch(epoch)
        devices.synchronise(self.device)
        self._epoch_start = self._fetched = time.perf_counter()

    def step(self, loss: Tensor, **processed: int) -> None:
        """Count one training step: its loss and number of items, as in `run.step(loss, images=len(images))`.

        Raises FloatingPointError, naming epoch and step, if a loss is not finite.
        """
        ((self._unit, items),) = processed.items()
        self._step += 1
        self._epoch_items += items * distributed.world_size()
        self._pending.append(loss.detach())
        if self._step == self._steps or time.perf_counter() - self._fetched > LOSS_CHECK_SECONDS:
            self._fetch_losses()

    def elapsed(self) -> float:
        """Return the training seconds so far, within an epoch, without evaluation and checkpoints, across resumes."""
        return self.train_seconds + time.perf_counter() - self._epoch_start

    def end(self) -> None:
        """End the epoch and the training after the steps counted so far."""
        self._ended, self._steps = True, self._step
        if self._pending:
            self._fetch_losses()

    def add(self, label: str, text: str) -> None:
        """Print a labelled line after `log`, below the epoch's line; a long training run prints only some epochs."""
        assert self._bar is not None
        self._bar.add(label, text)

    def _fetch_losses(self) -> None:
        """Fetch and check the losses of the steps since the last call; on a GPU, this waits for the steps."""
        losses = torch.stack(self._pending).cpu().double()
        finite = losses.isfinite()
        if not finite.all():
            first = int((~finite).nonzero()[0])
            step = self._step - len(losses) + first + 1
            raise FloatingPointError(
                f"the loss is {losses[first]:.3g} at epoch {self._epoch}, step {step} of {self._steps}: "
                "lower --learning-rate, or try --precision fp32"
            )
        self._loss_sum += float(losses.sum())
        self._pending.clear()
        self._fetched = time.perf_counter()
        assert self._bar is not None
        elapsed = self.elapsed() if self._bar.visible else 0.0
        self._bar.update(self._step, float(losses[-1]), self._rate(), elapsed)

    def _check_finite(self, measures: Mapping[str, float]) -> None:
        for name, value in measures.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value:.3g} after epoch {self._epoch}: lower --learning-rate")

    def _rate(self) -> str:
        return f"{self._epoch_items / (self._fetched - self._epoch_start):,.0f} {self._unit}/s"

    def log(self, **splits: Mapping[str, float]) -> None:
        """Record the epoch: mean training loss, throughput, and metrics as in `run.log(valid=measure(...))`."""
        assert self._step == self._steps, f"{self._step} of {self._steps} steps were counted"
        seconds = self._fetched - self._epoch_start
        self.train_seconds += seconds
        self._items += self._epoch_items
        measures = {"train_loss": distributed.mean(self._loss_sum / self._steps), **_flatten(splits)}
        self._check_finite(measures)
        speed = {f"{self._unit}_per_second": self._epoch_items / seconds, "seconds": seconds}
        self.history.append({"epoch": self._epoch, "steps": self._steps, **measures, **speed})
        if self.is_main:
            path = self.folder / "metrics.jsonl"
            with explain_full_disk(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.history[-1]) + "\n")
        if self._events is not None:
            self._events.write(self.history[-1])
        assert self._bar is not None
        self._bar.end_epoch(self._rate(), measures)

    def _checkpoint(self, parts: dict[str, Stateful]) -> None:
        if self.is_main:
            progress = Progress(
                epoch=self._epoch,
                history=self.history,
                train_seconds=self.train_seconds,
                seconds=self._seconds(),
                items=self._items,
                unit=self._unit,
            )
            save_checkpoint(self.folder / "checkpoint.pt", progress, parts, self.generator, self.device)

    def _seconds(self) -> float:
        """Return the seconds since the run was opened, plus those before a resume."""
        return self._earlier_seconds + time.perf_counter() - self._opened

    def _restore(self, parts: dict[str, Stateful]) -> int:
        """Load the checkpoint, if there is one; return its epoch, else 0."""
        checkpoint, metrics = self.folder / "checkpoint.pt", self.folder / "metrics.jsonl"
        if not checkpoint.exists():
            metrics.unlink(missing_ok=True)  # the run was stopped within its first epoch
            return 0
        progress = load_checkpoint(checkpoint, parts, self.generator, self.device)
        self.history, self._earlier_seconds = progress.history, progress.seconds
        self.train_seconds, self._items, self._unit = progress.train_seconds, progress.items, progress.unit
        if self.is_main:  # epochs after the checkpoint are repeated
            write_text(metrics, "".join(json.dumps(row) + "\n" for row in self.history))
        return progress.epoch

    # The end.

    def finish(self, **splits: Mapping[str, float]) -> dict[str, float]:
        """Write summary.json and return the final metrics, as in `return run.finish(test=measure(...))`."""
        metrics = _flatten(splits)
        if self.train_seconds:
            speed = self._items / self.train_seconds
            self._check_finite(metrics)
            metrics |= {"train_seconds": self.train_seconds, f"{self._unit}_per_second": speed}
        if self.is_main:
            outcome = {
                "metrics": metrics,
                "seconds": self._seconds(),
                "steps": sum(int(row.get("steps", 0)) for row in self.history),
                "device": self.described_device,
                "versions": devices.versions(*self.packages),
            }
            write_json(self.folder / "summary.json", {**self._record(), **outcome})
            if self._events is not None:
                self._events.write({"epoch": len(self.history), **_flatten(splits)})
            for split, measures in splits.items():
                spent = f"  in {self.train_seconds:.1f} s of training" if self.train_seconds else ""
                say("result" if split == "run" else split, format_metrics(measures) + spent)
            names = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
            say("saved", f"{self.folder}: {' '.join(names)}")
        return metrics


def _flatten(splits: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Name metrics `<split>_<metric>`; the split `run` does not add a prefix."""
    return {
        name if split == "run" else f"{split}_{name}": float(value)
        for split, measures in splits.items()
        for name, value in measures.items()
    }


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights that a run saved.

    Raises FileNotFoundError if the run has none, ValueError if they do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: has this run finished?")
    try:
        load_model(model, str(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit {type(model).__name__}: {error}") from error
