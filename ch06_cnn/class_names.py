"""Names and number of the classes of a trained network, which depend on the data.

Dimensions: K classes.
"""

from pathlib import Path

from torch import nn

from common.data.images import shapes
from common.data.images.loading import CLASS_NAMES
from common.data.source import option_of
from common.files import read_json, write_json
from common.run import Run

FILE = "class_names.json"


def save_class_names(run: Run, names: tuple[str, ...]) -> None:
    """Write the names of the classes, in the order of the logits, to the run folder."""
    if run.is_main:
        with run.writing(FILE) as path:
            write_json(path, list(names))


def load_class_names(folder: Path) -> tuple[str, ...]:
    """Read the names of the classes from a run folder; without a list, those of its data set, or else numbers."""
    if (folder / FILE).is_file():
        return tuple(read_json(folder / FILE))
    data = option_of(read_json(folder / "config.json")["data"])
    return shapes.NAMES if data == "shapes" else CLASS_NAMES.get(data, tuple("0123456789"))


def count_classes(model: nn.Module, folder: Path) -> int:
    """Return the number of classes of the network in a run folder: the first dimension of its last parameter.

    `model` is such a network with any number of classes. Raises FileNotFoundError if the run has no weights, ValueError
    if they are of another network.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: has this run finished?")
    last = [name for name, _ in model.named_parameters()][-1]
    try:
        with safe_open(path, framework="pt") as file:  # reads the header only
            return file.get_slice(last).get_shape()[0]
    except SafetensorError as error:
        raise ValueError(f"{path} does not fit {type(model).__name__}: {error}") from error
