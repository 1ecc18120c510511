"""Event files for TensorBoard: the metrics of metrics.jsonl as curves, with `--tensorboard`.

tensorboard --logdir runs
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

SPLITS = ("train", "valid", "test")

FLUSH_SECONDS = 5
"""Maximum time until a metric is in the file."""


def require_tensorboard() -> None:
    """Raise ValueError if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ValueError("--tensorboard: TensorBoard is not installed: pip install '.[tensorboard]'")


class EventWriter:
    """Writer of a run's event file; the file of a resumed run continues that of the interrupted one."""

    def __init__(self, folder: Path, history: Sequence[Mapping[str, float]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        resumed = any(folder.glob("events.out.tfevents.*"))
        # epochs after the checkpoint are repeated: TensorBoard then ignores their earlier values
        purge = len(history) + 1 if resumed else None
        self._writer = SummaryWriter(str(folder), purge_step=purge, flush_secs=FLUSH_SECONDS)
        for row in () if resumed else history:
            self.write(row)

    def write(self, row: Mapping[str, float]) -> None:
        """Write the metrics of an epoch, as in metrics.jsonl."""
        for name, value in row.items():
            if name not in ("epoch", "steps"):
                self._writer.add_scalar(tag(name), value, int(row["epoch"]))

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()


def tag(name: str) -> str:
    """Return the name of a metric's curve: `loss/valid` for valid_loss, so that the splits are side by side."""
    split, _, measure = name.partition("_")
    return f"{measure}/{split}" if split in SPLITS and measure else name
