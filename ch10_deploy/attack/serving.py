"""The server under load: how many requests a second, and how long the slowest wait.

    python -m ch10_deploy.train serving
    python -m ch10_deploy.train serving --connections 512 --seconds 20      # twice the 256 that it answers at once
    python -m ch10_deploy.train serving --models models                     # networks of another export

A server is started on a free port, the load generator beside it on the same machine; both share its processors.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ch10_deploy.attack.server_process import running
from ch10_deploy.inference.models import find_card, load_model, newest_export
from ch10_deploy.loadtest import Options, report, run_load
from common.config import RunOptions, require, require_positive
from common.data.source import DataCard
from common.progress import say
from common.run import Run

WARM_UP = 2.0
"""Seconds of load before the measurement."""


@dataclass(frozen=True)
class Config:
    """How much load."""

    models: Path | None = None
    """Folder with the exported networks; by default those of the newest export."""
    connections: int = 32
    """How many ask at the same time."""
    seconds: float = 10.0
    """For how long."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "connections", "seconds")
        require(self.seconds <= 600, "--seconds must be at most 600", self.seconds)


def card_of(models: Path) -> DataCard:
    """Say on what the network that is asked was trained."""
    card = load_model(find_card(models, "digits")).card
    data = card.data
    return DataCard(data.name, data.embedded, data.sha256, f"what the digit network of {models} has learned")


def train(config: Config) -> dict[str, float]:
    """Start a server, put load on it, and return what came back."""
    models = config.models or newest_export(config.run.out)
    with Run.open(__name__, config, card_of(models), arithmetic="fp32") as run, running(models) as server:
        say("server", f"{server.url}, began to listen after {server.seconds:.2f} s")
        run_load(Options(url=server.url, connections=config.connections, seconds=WARM_UP))
        before, worked = server.memory(), server.processor_seconds()
        tally = run_load(Options(url=server.url, connections=config.connections, seconds=config.seconds))
        report(tally)
        worked = server.processor_seconds() - worked
        metrics = tally.metrics() | {
            "processor_microseconds": 1e6 * worked / len(tally.milliseconds),
            "start_seconds": server.seconds,
            "memory_mb": server.memory() / 1e6,
            "memory_growth_mb": (server.memory() - before) / 1e6,
        }
        return run.finish(run=metrics)
