"""Everything needed to go on as if nothing had happened: the parts' states and every random state."""

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
    """What a checkpoint can hold: a model, an optimizer, a schedule, or anything else with a state."""

    def state_dict(self) -> Any:
        """Give the state as tensors, numbers, text, lists and dictionaries."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take over such a state."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    epoch: int
    history: list[dict[str, float]]
    train_seconds: float
    seconds: float
    items: int
    unit: str


def save_checkpoint(
    path: Path, progress: Progress, parts: dict[str, Stateful], order: torch.Generator, device: torch.device
) -> None:
    """Write a checkpoint atomically: how far the run is, the parts' states, and the state of every generator."""
    content = {
        "progress": asdict(progress),
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "random": _random_state(device),
        "order": order.get_state(),
    }
    memory = io.BytesIO()
    torch.save(content, memory)
    with atomic_path(path) as temporary:
        temporary.write_bytes(memory.getvalue())  # a full disk is an OSError here, and not in torch.save


def load_checkpoint(path: Path, parts: dict[str, Stateful], order: torch.Generator, device: torch.device) -> Progress:
    """Restore a checkpoint into its parts and generators; return how far the run was.

    Raises ValueError, naming the file, where it is broken. Reads tensors and plain values only, never code.
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
    except (OSError, MemoryError, torch.OutOfMemoryError):  # the checkpoint may be whole
        raise
    except (
        Exception
    ) as error:  # torch.load raises whatever broken bytes lead it to, and each part has errors of its own
        if not place:  # not torch's message: for a file that holds code it advises weights_only=False, to run that code
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
    """Give the accelerator's own generator, which dropout and noise on it draw from."""
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.cuda.default_generators[device.index or 0]
