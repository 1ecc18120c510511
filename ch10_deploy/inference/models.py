"""Trained networks as the server knows them: an ONNX graph and the card beside it, both checked before they count.

NAME.onnx holds arithmetic alone: unlike a pickle it cannot run code. Its bytes are read once, hashed together with the
card, compared with the card's checksum and handed over: what was checked is what answers. A graph that keeps its
weights in other files is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ch10_deploy.inference.cards import AGAIN, Card, checksum, read_card
from ch10_deploy.server.refusal import Refusal

NAMES = ("digits", "pictures", "decoder", "text", "films", "maze")

PRIVATE = "serving"
"""The part of a card that only the server needs: vocabulary, titles, mazes."""


def providers() -> list[str]:
    """Say what is to compute: CUDA where this build of onnxruntime has it and a GPU is there, else the processor."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    present = [name for name in wanted if name in onnxruntime.get_available_providers()]
    if present[0] == wanted[0]:
        onnxruntime.preload_dlls()  # the libraries of CUDA, from where pip has put them
    return present


class Model:
    """A network that can be asked, and its card, if it has one already."""

    def __init__(self, graph: bytes, card: Card | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # these networks are small, requests are many
        options.log_severity_level = 4
        self._card = card
        self.session = onnxruntime.InferenceSession(graph, options, providers=providers())
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Compute every output, by name."""
        answers: Sequence[Any] = self.session.run(None, inputs)
        return dict(zip(self.outputs, answers, strict=True))

    @property
    def card(self) -> Any:
        """The card, as the class in `cards` that belongs to this network."""
        assert self._card is not None, "a network without a card is only compared, never served"
        return self._card

    @property
    def serving(self) -> Any:
        """What the server needs to turn numbers into answers."""
        return self.card.serving

    def public_card(self) -> dict[str, Any]:
        """Give the card without what only the server needs."""
        return self.card.model_dump(exclude={PRIVATE})


def load_model(path: Path) -> Model:
    """Load a network by the path of its card.

    Raises FileNotFoundError for a card without a network; ValueError, naming the file, where a field of the card is
    wrong, where the network is not the one that the card describes, or is no network at all.
    """
    graph_path = path.with_suffix(".onnx")
    card, record = read_card(path)
    if card.name != path.stem:
        raise ValueError(f"{path} is the card of {card.name!r}: rename it to {card.name}.json, or {AGAIN}")
    if not graph_path.is_file():
        raise FileNotFoundError(f"{graph_path} is missing, though its card is there: {AGAIN}, or remove the card")
    graph = graph_path.read_bytes()
    if checksum(record, graph) != card.sha256:
        raise ValueError(
            f"{path} and {graph_path.name} do not have the sha256 that the card names, so one was changed: {AGAIN}"
        )
    try:
        model = Model(graph, card)
    except Exception as error:  # onnxruntime has a dozen kinds, and a common ancestor that is only Exception
        raise ValueError(f"{graph_path} is no network that onnxruntime can run: {one_line(error)}") from error
    named = {"inputs": [value.name for value in model.session.get_inputs()], "outputs": model.outputs}
    for side, found in named.items():
        said = getattr(card, side)
        if sorted(found) != sorted(said):
            raise ValueError(f"{graph_path} has the {side} {', '.join(found)}, its card says {', '.join(said)}")
    return model


def one_line(error: Exception) -> str:
    """Give an error's text on one line."""
    return " ".join(str(error).split())


def load_models(folder: Path) -> dict[str, Model]:
    """Load every network of a folder.

    Raises FileNotFoundError, with what to do, where there is none; else as `load_model`.
    """
    paths = [path for name in NAMES if (path := folder / f"{name}.json").is_file()]
    if not paths:
        raise FileNotFoundError(
            f"there are no exported models in {folder}: export some with python -m ch10_deploy.train"
        )
    return {path.stem: load_model(path) for path in paths}


def find_card(folder: Path, name: str) -> Path:
    """Find the card of one network; raises FileNotFoundError, with what to do, where the folder has none."""
    card = folder / f"{name}.json"
    if not card.is_file():
        door = f"python -m ch10_deploy.train export --models {name}"
        raise FileNotFoundError(f"{folder} has no model {name!r}: export it with {door}")
    return card


def newest_export(out: Path) -> Path:
    """Find the models of the newest export below a folder, or else below `runs`.

    Raises FileNotFoundError, with what to do, where nothing was exported.
    """
    for home in (out, Path("runs")):
        finished = (home / "ch10_deploy" / "export").glob("*/summary.json")
        exports = [path for path in finished if (path.parent / "models").is_dir()]
        if exports:
            return max(exports, key=lambda path: path.stat().st_mtime_ns).parent / "models"
    raise FileNotFoundError(f"nothing was exported to {out} yet: export with python -m ch10_deploy.train")


def require_model(models: Mapping[str, Model], name: str) -> Model:
    """Give a network; raises Refusal (404) where this server has none of that name."""
    if name not in models:
        raise Refusal(f"this server has no {name!r} model; it has {', '.join(models)}", status=404)
    return models[name]
