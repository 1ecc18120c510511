"""Load exported models, each an ONNX graph and its card, and verify both before use.

Unlike a pickle, an ONNX graph cannot run code. Its bytes are read once, hashed together with the card, and compared
with the card's checksum. The same bytes are then loaded, so the loaded graph is the verified one. A graph with weights
in other files is rejected.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime

from ch10_deploy.inference.cards import EXPORT_AGAIN, Card, checksum, read_card
from ch10_deploy.server.refusal import Refusal

Name = Literal[
    "digits",
    "pictures",
    "decoder",
    "diffusion",
    "text",
    "transformer",
    "stories",
    "films",
    "maze",
    "ppo",
    "dqn",
    "detection",
    "segmentation",
    "style",
]
NAMES: tuple[Name, ...] = get_args(Name)

PRIVATE = "serving"
"""Name of the part of a card that only the server uses: class names, vocabulary, titles, mazes."""


def providers() -> list[str]:
    """List onnxruntime's execution providers in order of preference: CUDA if this build supports it, then the CPU."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    present = [name for name in wanted if name in onnxruntime.get_available_providers()]
    if present[0] == wanted[0]:
        onnxruntime.preload_dlls()  # CUDA's libraries that pip has installed
    return present


class Model:
    """A loaded graph and its card; the card is None only during the export."""

    def __init__(self, graph: bytes, card: Card | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the networks are small and requests are many
        options.log_severity_level = 4
        self._card = card
        self.session = onnxruntime.InferenceSession(graph, options, providers=providers())
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Compute all outputs, by name."""
        answers: Sequence[Any] = self.session.run(None, inputs)
        return dict(zip(self.outputs, answers, strict=True))

    @property
    def card(self) -> Any:
        """The card, an instance of this model's class in `cards`."""
        assert self._card is not None, "a model without a card is only used by the export"
        return self._card

    @property
    def serving(self) -> Any:
        """Data that the server needs to interpret the outputs, such as class names."""
        return self.card.serving

    def public_card(self) -> dict[str, Any]:
        """Return the card without the part that only the server uses."""
        return self.card.model_dump(exclude={PRIVATE})


def load_model(path: Path) -> Model:
    """Load a model by the path of its card.

    Raises FileNotFoundError if the graph is missing; ValueError, naming the file, if a field of the card is invalid,
    the graph does not match the card, or onnxruntime cannot load it.
    """
    graph_path = path.with_suffix(".onnx")
    card, record = read_card(path)
    if card.name != path.stem:
        raise ValueError(f"{path} is the card of {card.name!r}: rename it to {card.name}.json, or {EXPORT_AGAIN}")
    if not graph_path.is_file():
        raise FileNotFoundError(f"{graph_path} is missing, but its card exists: {EXPORT_AGAIN}, or remove the card")
    graph = graph_path.read_bytes()
    if checksum(record, graph) != card.sha256:
        raise ValueError(
            f"{path} and {graph_path.name} do not match the sha256 in the card, so one was changed: {EXPORT_AGAIN}"
        )
    try:
        model = Model(graph, card)
    except Exception as error:  # onnxruntime's exceptions have no other common base class
        raise ValueError(f"{graph_path} cannot be loaded by onnxruntime: {one_line(error)}") from error
    named = {"inputs": [value.name for value in model.session.get_inputs()], "outputs": model.outputs}
    for side, found in named.items():
        expected = getattr(card, side)
        if sorted(found) != sorted(expected):
            raise ValueError(
                f"{graph_path} has the {side} {', '.join(found)}, but its card lists {', '.join(expected)}"
            )
    return model


def one_line(error: Exception) -> str:
    """Format an exception's text on one line."""
    return " ".join(str(error).split())


def load_models(folder: Path) -> dict[str, Model]:
    """Load all models of a folder.

    Raises FileNotFoundError, with the command that exports models, if there are none; otherwise as `load_model`.
    """
    paths = [path for name in NAMES if (path := folder / f"{name}.json").is_file()]
    if not paths:
        raise FileNotFoundError(
            f"there are no exported models in {folder}: export some with python -m ch10_deploy.train"
        )
    return {path.stem: load_model(path) for path in paths}


def find_card(folder: Path, name: str) -> Path:
    """Find the card of a model; raises FileNotFoundError, with the command that exports it, if there is none."""
    card = folder / f"{name}.json"
    if not card.is_file():
        command = f"python -m ch10_deploy.train export --models {name}"
        raise FileNotFoundError(f"{folder} has no model {name!r}: export it with {command}")
    return card


def newest_export(out: Path) -> Path:
    """Find the models of the newest export in a folder of runs, or else in `runs`.

    Raises FileNotFoundError, with the command that exports models, if there is none.
    """
    for home in (out, Path("runs")):
        finished = (home / "ch10_deploy" / "export").glob("*/summary.json")
        exports = [path for path in finished if (path.parent / "models").is_dir()]
        if exports:
            return max(exports, key=lambda path: path.stat().st_mtime_ns).parent / "models"
    raise FileNotFoundError(f"nothing was exported to {out} yet: export with python -m ch10_deploy.train")


def require_model(models: Mapping[str, Model], name: str) -> Model:
    """Return a model by name; raises Refusal (404) if it is not served."""
    if name not in models:
        raise Refusal(f"this server has no {name!r} model; it has {', '.join(models)}", status=404)
    return models[name]
