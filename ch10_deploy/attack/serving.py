"""Measure throughput, latency, memory and CPU time of the server under load.

    python -m ch10_deploy.train serving
    python -m ch10_deploy.train serving --connections 512 --seconds 20      # twice the limit of 256 concurrent requests
    python -m ch10_deploy.train serving --models models                     # another export

The server runs on a free port; the load generator runs on the same machine and shares its processors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
    """Settings of the load."""

    models: Path | None = None
    """Folder of exported models; by default the newest export."""
    connections: int = 32
    """Number of concurrent connections."""
    seconds: float = 10.0
    """Duration of the measurement in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "connections", "seconds")
        require(self.seconds <= 600, "--seconds must be at most 600", self.seconds)


def card_of(models: Path) -> DataCard:
    """Describe the training data of the digit network, which answers the requests."""
    card = load_model(find_card(models, "digits")).card
    data = card.data
    return DataCard(data.name, data.embedded, data.sha256, f"training data of the digit network in {models}")


def draw_latency(run: Run, milliseconds: Sequence[float]) -> None:
    """Draw the cumulative distribution of the latency."""
    from common.drawing import plots

    shares = [float(share) for share in range(101)]
    times = np.percentile(milliseconds, shares).tolist()
    figure = plots.line_panels(
        {"latency under load": {"responses": (times, shares)}},
        columns=1,
        xlabel="latency, milliseconds",
        ylabel="cumulative share of responses, %",
        dots={"latency under load": {"median and 99th percentile": ([times[50], times[99]], [50.0, 99.0])}},
        log_x=True,
        size=1.6,
    )
    run.figure("latency", figure)


def train(config: Config) -> dict[str, float]:
    """Start a server, load it, and return the metrics."""
    models = config.models or newest_export(config.run.out)
    with Run.open(__name__, config, card_of(models), arithmetic="fp32") as run, running(models) as server:
        say("server", f"{server.url}, listening after {server.seconds:.2f} s")
        run_load(Options(url=server.url, connections=config.connections, seconds=WARM_UP))
        memory_before, cpu_before = server.memory(), server.processor_seconds()
        tally = run_load(Options(url=server.url, connections=config.connections, seconds=config.seconds))
        report(tally)
        draw_latency(run, tally.milliseconds)
        cpu_seconds = server.processor_seconds() - cpu_before
        metrics = tally.metrics() | {
            "processor_microseconds": 1e6 * cpu_seconds / len(tally.milliseconds),
            "start_seconds": server.seconds,
            "memory_mb": server.memory() / 1e6,
            "memory_growth_mb": (server.memory() - memory_before) / 1e6,
        }
        return run.finish(run=metrics)
