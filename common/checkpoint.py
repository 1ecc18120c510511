"""Everything needed to go on as if nothing had happened: the parts' states and every random state."""

import random
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


def save_checkpoint(path: Path, progress: dict[str, Any], parts: dict[str, Stateful], order: torch.Generator) -> None:
    """Write a checkpoint atomically: how far the run is, the parts' states, and the state of every generator."""
    content = {
        "progress": progress,
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "random": _random_state(),
        "order": order.get_state(),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, parts: dict[str, Stateful], order: torch.Generator, *, seeds: bool) -> dict[str, Any]:
    """Restore a checkpoint into its parts and generators; return how far the run was.

    `seeds` tells whether to restore the global generators too: they are those of one process among several.
    Raises ValueError, naming the file, where it is broken. Reads tensors and plain values only, never code.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        order.set_state(content["order"])
        if seeds:
            _restore_random_state(content["random"])
        return content["progress"]
    except Exception as error:  # torch.load raises whatever the broken bytes lead it to
        raise ValueError(f"{path} cannot be read ({error}): start anew without --resume") from error


def _random_state() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
