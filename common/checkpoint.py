"""Checkpoints for an exact resume: the state of every part of a training run and of every random generator."""

import io
import random
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from common.files import atomic_path


class Stateful(Protocol):
    """Part of a checkpoint: a model, an optimizer, a schedule, or any other object with a state."""

    def state_dict(self) -> Any:
        """Return the state as tensors, numbers, text, lists and dictionaries."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Load such a state."""
        ...


@dataclass(frozen=True)
class Progress:
    """Progress of a run."""

    epoch: int
    history: list[dict[str, float]]
    train_seconds: float
    seconds: float
    items: int
    unit: str


def save_checkpoint(
    path: Path, progress: Progress, parts: dict[str, Stateful], order: torch.Generator, device: torch.device
) -> None:
    """Write a checkpoint atomically: the progress, the states of the parts, and the state of every generator."""
    content = {
        "progress": asdict(progress),
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "random": _random_state(device),
        "order": order.get_state(),
    }
    memory = io.BytesIO()
    torch.save(content, memory)
    with atomic_path(path) as temporary:
        temporary.write_bytes(memory.getvalue())  # a full disk raises OSError here, but not in torch.save


def load_checkpoint(path: Path, parts: dict[str, Stateful], order: torch.Generator, device: torch.device) -> Progress:
    """Load a checkpoint into its parts and generators; return the progress of the run.

    Raises ValueError, naming the file, if it is damaged. Loads tensors and plain values only, never code.
    """
    place = ""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        place = "progress"
        progress = Progress(**content["progress"])
        for name, part in parts.items():
            place = name
            part.load_state_dict(content["parts"][name])
        place = "order"
        order.set_state(content["order"])
        place = "random"
        _restore_random_state(content["random"], device)
    except (OSError, MemoryError, torch.OutOfMemoryError):  # the file may be intact
        raise
    except Exception as error:  # torch.load raises many types for damaged bytes, and each part has its own
        if not place:  # not torch's message, which recommends weights_only=False for a file with code: that runs it
            reason = "is damaged, or holds more than tensors and plain values"
        elif isinstance(error, KeyError):
            reason = f"has no {error} ({place})"
        else:
            reason = f"does not fit ({place}: {textwrap.shorten(str(error), 300, placeholder=' ...')})"
        remedy = "remove it to begin this run again, or start without --resume"
        raise ValueError(f"the checkpoint {path} {reason}: {remedy}") from error
    return progress


def _random_state(device: torch.device) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "device": _device_generator(device).get_state() if device.type != "cpu" else None,
    }


def _restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        _device_generator(device).set_state(state["device"])


def _device_generator(device: torch.device) -> torch.Generator:
    """Return the accelerator's own generator, which dropout and noise on that device use."""
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.cuda.default_generators[device.index or 0]
